// Package tests runs dbuild from outside: each testdata/script/*.txtar is a
// story told in commands, with dbuild bound to the command line's own main.
//
// Scripts that need root or the mirror say so in their first line and are
// skipped with the name of the variable that enables them. They may use, beside
// testscript's own words:
//
//	[root] [network] [userns] [docker] [docker-registry] [podman] [user] [debsig-verify]
//	[mmdebstrap] [debootstrap]
//	                            conditions; what is not there may be required by
//	                            DBUILD_TEST_NOSKIP (see internal/testenv)
//	exits N prog args…          prog must end with exactly this code
//	sharedstate SUITE           sets $STATE to a state that several scripts use,
//	                            which has a base image of the suite
//	tree NAME DIR               unpacks the package testdata/source/NAME.txtar
//	mkdsc TREE [DIR]            packs a source tree into a .dsc
//	localmirror PKG=VERSION[!]  sets $MIRROR and $MIRRORKEYS to a mirror on loopback: the
//	                            real one with packages added (! with a postinst);
//	                            called again, it adds more
//	extrarepo NAME SHAPE PKG=VERSION…
//	                            sets $NAME_URL and $NAME_KEY to a repository on loopback;
//	                            SHAPE is suite or flat
//	replace FILE OLD NEW        changes every OLD in a file; it must be there
//	jsonlines FILE              each line is an event, the last is the result
//	result FILE PATH [VALUE]    a field of the result event, "deps/hit true"; not
//	                            empty without VALUE
//	resultenv VAR FILE PATH     sets $VAR to a field of the result event
//	aptroot SUITE DIR           a clean root with a real apt, made by mmdebstrap
//	inroot DIR prog args…       runs a program in such a root
//	ordinaryuser                sets $USERHOME and makes the program asuser: "asuser prog args…"
//	                            runs in it as a user without root
//	registry DIR                starts Debian's docker-registry, address in $REGISTRY
//	killed N STATE prog args…   runs it once, then kills it at N random moments: after the
//	                            next start nothing is left
//	podman                      starts Podman's service on a store of its own and sets $CONTAINER_HOST
//	clean DIR                   nothing is mounted or running below a state
//
// $STATE is a state of the script's own unless it asks for a shared one; dbuild
// finds it in DBUILD_STATE, and DBUILD_ENGINE is native. $ARCH is Debian's name of
// this machine. Where a script is not about freshness it says --allow-expired: a
// mirror's files get old.
//
// Each bug fix adds a script or a part of one.
package tests

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"dbuild/agent"
	"dbuild/cmd"
	"dbuild/deb"
	"dbuild/engine/docker"
	"dbuild/internal/testenv"
)

// workRoot is where scripts and shared states live. Mapped users of containers
// must be able to pass through it, so it is not one of Go's own 0700 places.
const workRootVar = "DBUILD_TEST_WORK"

func TestMain(m *testing.M) {
	agent.MaybeMain() // does not return when this process is a container's first
	testscript.Main(tidied{m}, map[string]func(){
		"dbuild": func() { os.Exit(cmd.Main()) },
	})
}

// tidied makes the work root before the tests and deletes it after them.
type tidied struct{ m *testing.M }

// Run implements [testscript.TestingM].
func (t tidied) Run() int {
	dir, err := os.MkdirTemp("", "dbuild-tests-")
	if err == nil {
		err = os.Chmod(dir, 0o711)
	}
	if err == nil {
		err = os.Setenv(workRootVar, dir)
	}
	if err == nil {
		err = forgetSettings()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "make work directory:", err)
		return 1
	}
	code := t.m.Run()
	if os.Getenv("DBUILD_TEST_KEEP") != "" {
		fmt.Fprintln(os.Stderr, "kept:", dir)
		return code
	}
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, "delete work directory:", err)
		return 1
	}
	return code
}

// forgetSettings keeps what is set where the tests run from the dbuild that they
// run: $CI, for one, would let a build hand out an earlier one's result.
func forgetSettings() error {
	errs := []error{os.Unsetenv("CI")}
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "DBUILD_") && !strings.HasPrefix(name, "DBUILD_TEST_") {
			errs = append(errs, os.Unsetenv(name))
		}
	}
	return errors.Join(errs...)
}

func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		WorkdirRoot:         os.Getenv(workRootVar),
		Setup:               setup,
		Condition:           condition(t),
		Cmds:                commands(t),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("DBUILD_TEST_UPDATE") != "",
	})
}

// setup gives each script its own home and state, and no settings of the person
// who runs the tests.
func setup(env *testscript.Env) error {
	home := filepath.Join(env.WorkDir, ".home")
	sources, err := filepath.Abs("testdata/source")
	if err == nil {
		err = os.MkdirAll(home, 0o755)
	}
	if err != nil {
		return err
	}
	state := filepath.Join(env.WorkDir, ".state")
	env.Setenv("HOME", home)
	env.Setenv("STATE", state)
	env.Setenv("DBUILD_STATE", state)
	env.Setenv("DBUILD_ENGINE", "native")
	env.Setenv("ARCH", deb.HostArch())
	env.Setenv("SOURCES", sources)
	env.Setenv("LC_ALL", "C.UTF-8")
	for _, name := range []string{"http_proxy", "https_proxy", "no_proxy"} {
		env.Setenv(name, os.Getenv(name)) // the way to the mirror
	}
	return nil
}

// condition answers [root], [network] and the others. A condition that is not met
// but may not be skipped ends the tests.
func condition(t *testing.T) func(string) (bool, error) {
	known := map[string]func() bool{
		"root": testenv.Root, "network": testenv.Network, "userns": testenv.UserNamespaces,
		"docker":          func() bool { return docker.Usable(t.Context()) == nil },
		"podman":          installed("podman"),
		"user":            func() bool { _, err := testenv.FindUser(); return err == nil },
		"docker-registry": installed("docker-registry"), "debsig-verify": installed("debsig-verify"),
		"debootstrap": installed("debootstrap"), "mmdebstrap": installed("mmdebstrap"),
	}
	return func(name string) (bool, error) {
		met, ok := known[name]
		if !ok {
			return false, fmt.Errorf("unknown condition %q", name)
		}
		if !met() && testenv.Required(name) {
			return false, fmt.Errorf("%s lists %q, which is not there", testenv.NoSkipVar, name)
		}
		return met(), nil
	}
}

// installed tells whether a program is there.
func installed(name string) func() bool {
	return func() bool {
		_, err := exec.LookPath(name)
		return err == nil
	}
}

func commands(t *testing.T) map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"exits":       cmdExits,
		"sharedstate": cmdSharedState,
		"tree":        cmdTree,
		"mkdsc":       cmdMkdsc,
		"localmirror": cmdLocalMirror(t),
		"extrarepo":   cmdExtraRepo(t),
		"replace":     cmdReplace,
		"jsonlines":   cmdJSONLines,
		"result":      cmdResult,
		"resultenv":   cmdResultEnv,
		"aptroot":     cmdAptRoot,
		"inroot":      cmdInRoot,
		"clean":       cmdClean,
		"podman":      cmdPodman,

		"ordinaryuser": cmdOrdinaryUser,
		"registry":     cmdRegistry,
		"killed":       cmdKilled,
	}
}

// program returns the path of a program that a script's command runs.
func program(ts *testscript.TestScript, name string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		ts.Fatalf("needs %s (see tests/setup)", name)
	}
	return path
}
