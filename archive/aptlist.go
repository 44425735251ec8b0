package archive

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"dbuild/internal/fault"
)

// sourcesLine is the line of sources.list(5) for state n of a view. apt checks
// signature and hashes again. Its date checks are switched off only where our
// own, which went before, were more lenient.
func (c *Copy) sourcesLine(n int, st *State, arch, keys string) string {
	// by-hash=no saves apt a look for files that the view has under their names.
	options := []string{"arch=" + arch, "by-hash=no", "signed-by=" + keys}
	if st.Expired {
		options = append(options, "check-valid-until=no")
	}
	if st.Date.After(c.opt.Now()) {
		options = append(options, "check-date=no")
	}
	line := fmt.Sprintf("deb [%s] file:%s/%d %s", strings.Join(options, " "), ViewMount, n, st.Source.Suite)
	if st.Source.Flat {
		// A flat source has no components; apt knows it by the slash.
		return strings.TrimSuffix(line, "/") + "/\n"
	}
	return line + " " + strings.Join(st.Source.Components, " ") + "\n"
}

// aptConf is the part of apt's configuration that a view needs. Releases list
// indexes in several forms and apt would insist on the smallest, but the view
// has the plain ones, which apt reads in place. With ForceHash apt checks
// SHA-256 alone and --print-uris prints it, other than the MD5 of apt 2.6.
const aptConf = `Acquire::Languages "none";
Acquire::ForceHash "SHA256";
Acquire::IndexTargets::deb::Packages::CompressionTypes "uncompressed";
Dir::Etc::sourcelist "` + ViewMount + `/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "` + ViewMount + `/preferences";
Dir::Etc::preferencesparts "/dev/null";
`

// pin is the stanza of apt_preferences(5) for a source with a pin, else "".
func (st *State) pin() string {
	if st.Source.Pin == 0 {
		return ""
	}
	var by []string
	if st.Release.Suite != "" {
		by = append(by, "a="+st.Release.Suite)
	}
	if st.Release.Codename != "" {
		by = append(by, "n="+st.Release.Codename)
	}
	return fmt.Sprintf("Package: *\nPin: release %s\nPin-Priority: %d\n\n", strings.Join(by, ","), st.Source.Pin)
}

// keyFiles writes keyrings into a view, equal ones once.
type keyFiles struct {
	dir  string
	done map[string]string // keyring -> path at ViewMount
}

func newKeyFiles(view string) keyFiles {
	return keyFiles{dir: filepath.Join(view, "keys"), done: map[string]string{}}
}

// add writes the keys that may sign for state n and returns the path under
// which apt in the container finds them.
func (k keyFiles) add(n int, keys []byte) (string, error) {
	if name, ok := k.done[string(keys)]; ok {
		return name, nil
	}
	name := strconv.Itoa(n) + ".gpg"
	if err := writeView(filepath.Join(k.dir, name), keys); err != nil {
		return "", err
	}
	k.done[string(keys)] = ViewMount + "/keys/" + name
	return k.done[string(keys)], nil
}

var safeArches = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*(,[a-z0-9][a-z0-9-]*)*$`)

func checkArches(arch string) error {
	if !safeArches.MatchString(arch) {
		return fault.New(fault.Usage, "bad architecture %q", arch)
	}
	return nil
}
