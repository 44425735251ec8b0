// Package depcheck holds the rules on who may import whom. Its test walks the
// import graph of the module and fails on an arrow that points up.
package depcheck

// Rule says which folders of ours a folder may import. It holds for the folders
// below as well, unless they have a rule of their own, and these may always
// import one another.
type Rule struct {
	Folder string
	May    []string // a folder, or "folder/..." for it and all below it
	Reason string
}

// Rules is the table of the architecture, lowest layer first. The longest
// matching Folder decides. A package that no rule matches is an error, so that
// a new folder gets its place here.
var Rules = []Rule{
	{"internal", []string{"internal/..."}, "one-idea helpers know nothing of Debian or containers"},
	{"deb", nil, "Debian's formats can be read without the rest of dbuild"},
	{"sign", []string{"deb", "internal/..."}, "OpenPGP frames Debian documents and knows nothing above them"},
	{"archive", []string{"deb", "sign", "internal/..."}, "a remote archive is read without containers"},
	{"archive/archivetest", []string{"archive", "deb", "sign", "internal/..."}, "makes archives for tests"},
	{"dsc", []string{"deb", "sign", "archive", "internal/..."}, "source packages come from files and archives"},
	{"engine", []string{"internal/..."}, "the contract is written without any engine or Debian in mind"},
	{"engine/enginetest", []string{"engine", "internal/..."}, "the suite sees only the contract"},
	{"engine/session", []string{"engine", "agent/...", "internal/..."}, "the conversation with the agent is the same for every engine"},
	{"engine/native", []string{"engine", "engine/session", "agent/...", "internal/..."}, "an engine knows the contract and the agent, not what it is used for"},
	{"engine/docker", []string{"engine", "engine/session", "agent/...", "internal/..."}, "an engine knows the contract and the agent, not what it is used for"},
	{"agent", []string{"agent/...", "internal/..."}, "PID 1 of a container is small enough to read in one go"},
	{"chroot", []string{"engine", "archive", "deb", "sign", "internal/..."}, "the bootstrap runs on any engine"},
	{"cache", []string{"engine", "sign", "deb", "internal/..."}, "images are found and checked without a remote archive"},
	{"registry", []string{"internal/..."}, "a registry keeps bytes and believes nothing"},
	{"repo", []string{"deb", "sign", "internal/..."}, "publishing needs no container"},
	{"doctor", nil, "it judges facts that it is given, whichever engine they are about"},
	{"buildenv", []string{"deb", "sign", "archive", "dsc", "engine", "chroot", "cache", "repo", "internal/..."}, "one build, on whatever engine it is given"},
	{"config", []string{"internal/..."}, "settings are plain values"},
	{"cmd", []string{"..."}, "the one place that wires everything"},
	{"cmd/dbuild", []string{"cmd", "agent"}, "main is the agent of a container or calls cmd.Main, nothing else"},
	{"tests", []string{"..."}, "black-box tests and the benchmark"},
}

// Ban forbids a set of imports to everything a package is linked from.
type Ban struct {
	Folder string   // the package whose whole import closure is meant
	Only   []string // when set: the only modules or packages from outside that may occur ("std" is always allowed)
	Never  []string // import path prefixes that may not occur
	Reason string
}

// Bans is checked on import closures, so a detour over a helper is found too.
var Bans = []Ban{
	{Folder: "deb", Never: []string{"os/exec", "net/http"}, Reason: "parsers of untrusted bytes start nothing and fetch nothing"},
	{Folder: "agent", Only: []string{"golang.org/x/sys", "golang.org/x/net/bpf"}, Reason: "D17: the agent is a small static main"},
	{Folder: "engine/native", Never: []string{"github.com/moby", "github.com/docker", "dbuild/engine/docker"}, Reason: "the native engine works without a Docker client"},
	{Folder: "engine/docker", Never: []string{"dbuild/engine/native"}, Reason: "the engines are alternatives"},
}

// Exclusive names imports that only some folders may have directly.
type Exclusive struct {
	Import string // path prefix
	Only   []string
	Reason string
}

// Exclusives keeps choices in one place.
var Exclusives = []Exclusive{
	{"dbuild/config", []string{"cmd"}, "settings are read once, by the command line"},
	{"dbuild/engine/native", []string{"cmd"}, "only the command line picks an engine"},
	{"dbuild/engine/docker", []string{"cmd"}, "only the command line picks an engine"},
	{"github.com/moby", []string{"engine/docker"}, "one place speaks the Docker API"},
	{"github.com/google/go-containerregistry", []string{"registry"}, "one place speaks to registries"},
	{"github.com/spf13", []string{"cmd"}, "flags end where the command line ends"},
	{"github.com/schollz/progressbar", []string{"cmd"}, "nothing below the command line prints (D14)"},
	{"github.com/ProtonMail/go-crypto", []string{"sign"}, "one place decides which signatures are good (D4)"},
	{"testing", []string{"internal/testenv", "engine/enginetest", "archive/archivetest"}, "test helpers are not linked into the program"},
}
