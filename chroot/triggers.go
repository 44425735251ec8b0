package chroot

import (
	"slices"
	"strings"

	"dbuild/internal/fault"
)

// addTriggers writes who of members is interested in which trigger: path
// triggers in one file called File, each named trigger in a file of its own.
// The early group alone is written first; both together later replace that.
// Activations are not recorded: every package is yet to be configured, and
// dpkg activates again when it configures.
func addTriggers(t *tarball, members []*member, earlyOnly bool) error {
	var files strings.Builder
	named := map[string]string{}
	for _, m := range members {
		if earlyOnly && !m.early {
			continue
		}
		interests, err := m.interests()
		if err != nil {
			return err
		}
		for _, i := range interests {
			if strings.HasPrefix(i.trigger, "/") {
				files.WriteString(i.trigger + " " + m.infoName() + i.suffix + "\n")
			} else {
				named[i.trigger] += m.infoName() + i.suffix + "\n"
			}
		}
	}
	dir := adminDir + "/triggers/"
	if files.Len() > 0 {
		t.file(dir+"File", 0o644, files.String())
	}
	for _, name := range sortedKeys(named) {
		t.file(dir+name, 0o644, named[name])
	}
	if earlyOnly {
		t.file(dir+"Unincorp", 0o644, "")
	}
	return nil
}

// interest is one interest directive of a triggers control file
// (deb-triggers(5)).
type interest struct {
	trigger string // a path or a name
	suffix  string // "/noawait" or ""
}

func (m *member) interests() ([]interest, error) {
	var list []interest
	for line := range strings.Lines(string(m.control.ControlFiles["triggers"])) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if len(words) != 2 || strings.Contains(words[1], "\x00") {
			return nil, fault.New(fault.Input, "package %q: triggers line %q", m.Name, line)
		}
		i := interest{trigger: words[1]}
		switch words[0] {
		case "interest", "interest-await":
		case "interest-noawait":
			i.suffix = "/noawait"
		case "activate", "activate-await", "activate-noawait":
			continue
		default:
			return nil, fault.New(fault.Input, "package %q: triggers directive %q", m.Name, words[0])
		}
		if name := i.trigger; !strings.HasPrefix(name, "/") && (strings.Contains(name, "/") || name == "File" || name == "Lock" || name == "Unincorp" || strings.HasPrefix(name, ".")) {
			return nil, fault.New(fault.Input, "package %q: trigger name %q", m.Name, name)
		}
		list = append(list, i)
	}
	return list, nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
