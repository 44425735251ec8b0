package chroot

import (
	"archive/tar"
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"

	"dbuild/engine"
	"dbuild/internal/fault"
)

// The database is written as dpkg leaves it after --unpack (deb-*(5),
// dpkg(1) FILES): each package with the status "install ok unpacked", its
// control files and file list in info, and what it is interested in under
// triggers. dpkg itself brings the status file into its own form with the
// first change.
const adminDir = "var/lib/dpkg"

// infoName is the stem of a package's files in info: only a package that can
// be there for several architectures carries one in the name.
func (m *member) infoName() string {
	if m.MultiArch == "same" {
		return m.Name + ":" + m.Architecture
	}
	return m.Name
}

// conffile is one line of a conffiles control file (deb-conffiles(5)).
type conffile struct {
	path            string // absolute
	removeOnUpgrade bool   // the file is not in the package
}

func (m *member) conffiles() ([]conffile, error) {
	var list []conffile
	for line := range strings.Lines(string(m.control.ControlFiles["conffiles"])) {
		line = strings.TrimRight(line, " \t\n")
		if line == "" {
			continue
		}
		c := conffile{path: line}
		if flag, name, ok := strings.Cut(line, " "); ok {
			if flag != "remove-on-upgrade" {
				return nil, fault.New(fault.Input, "package %q: conffiles line %q", m.Name, line)
			}
			c = conffile{strings.TrimLeft(name, " \t"), true}
		}
		if !strings.HasPrefix(c.path, "/") || path.Clean(c.path) != c.path {
			return nil, fault.New(fault.Input, "package %q: conffile name %q", m.Name, c.path)
		}
		list = append(list, c)
	}
	return list, nil
}

// stanza is the package's entry in the status file. sums holds the MD5 of the
// files in the container by absolute path.
func (m *member) stanza(sums map[string]string) ([]byte, error) {
	control := bytes.TrimRight(m.control.ControlFiles["control"], "\n")
	var b bytes.Buffer
	b.Write(control)
	b.WriteString("\nStatus: install ok unpacked\n")
	conffiles, err := m.conffiles()
	if err != nil {
		return nil, err
	}
	if len(conffiles) > 0 {
		b.WriteString("Conffiles:\n")
	}
	for _, c := range conffiles {
		if c.removeOnUpgrade {
			fmt.Fprintf(&b, " %s newconffile remove-on-upgrade\n", c.path)
		} else {
			fmt.Fprintf(&b, " %s %s\n", c.path, sums[c.path])
		}
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// fileList is the package's .list file: the data member's names in order.
func (m *member) fileList() string {
	var b strings.Builder
	for _, e := range m.entries {
		if e.Name == "" || e.Name == "." {
			b.WriteString("/.\n")
			continue
		}
		b.WriteByte('/')
		b.WriteString(e.Name)
		b.WriteByte('\n')
	}
	return b.String()
}

// needSums returns the absolute paths whose MD5 the database must know: the
// conffiles, and all regular files of packages without a md5sums file, which
// dpkg then makes itself.
func (m *member) needSums() ([]string, error) {
	conffiles, err := m.conffiles()
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, c := range conffiles {
		if c.removeOnUpgrade {
			continue
		}
		if !slices.ContainsFunc(m.entries, func(e engine.PutEntry) bool { return "/"+e.Name == c.path }) {
			return nil, fault.New(fault.Input, "package %q lists conffile %q but does not ship it", m.Name, c.path)
		}
		paths = append(paths, c.path)
	}
	if _, ok := m.control.ControlFiles["md5sums"]; !ok {
		paths = append(paths, m.hashable(conffiles)...)
	}
	return paths, nil
}

// hashable lists what a generated md5sums file covers.
func (m *member) hashable(conffiles []conffile) []string {
	var paths []string
	for _, e := range m.entries {
		name := "/" + e.Name
		if e.Type == tar.TypeReg && !slices.ContainsFunc(conffiles, func(c conffile) bool { return c.path == name }) {
			paths = append(paths, name)
		}
	}
	return paths
}

// generatedSums is the md5sums file that dpkg writes for a package without
// one, "" if there is nothing to list.
func (m *member) generatedSums(sums map[string]string) (string, error) {
	conffiles, err := m.conffiles()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, name := range m.hashable(conffiles) {
		fmt.Fprintf(&b, "%s  %s\n", sums[name], name[1:])
	}
	return b.String(), nil
}

// addAdminDir writes dpkg's directory without any package.
func addAdminDir(t *tarball, arch string) {
	for _, d := range []string{"", "alternatives", "info", "parts", "triggers", "updates"} {
		t.dir(path.Join(adminDir, d), 0o755)
	}
	t.file(adminDir+"/arch", 0o644, arch+"\n")
	t.file(adminDir+"/info/format", 0o644, "1\n")
}

// moreStatus holds the status entries of the late group until the script that
// runs its preinst scripts has put them behind those of the early one.
const moreStatus = adminDir + "/dbuild-status"

func statusName(early bool) string {
	if early {
		return adminDir + "/status"
	}
	return moreStatus
}

// addDatabase writes the entries of members, those in the status file under
// the name status.
func addDatabase(t *tarball, members []*member, sums map[string]string, status string) error {
	var entries bytes.Buffer
	for _, m := range members {
		stanza, err := m.stanza(sums)
		if err != nil {
			return err
		}
		entries.Write(stanza)
		if err := addInfo(t, m, sums); err != nil {
			return err
		}
	}
	t.file(status, 0o644, entries.String())
	return nil
}

// addInfo writes the control files of one package as dpkg stores them.
func addInfo(t *tarball, m *member, sums map[string]string) error {
	stem := path.Join(adminDir, "info", m.infoName())
	for _, h := range m.control.ControlHeaders {
		name := path.Base(path.Clean(h.Name))
		if h.Typeflag != tar.TypeReg || name == "control" {
			continue
		}
		t.add(tar.Header{Typeflag: tar.TypeReg, Name: stem + "." + name, Mode: h.Mode & 0o777, ModTime: h.ModTime},
			m.control.ControlFiles[name])
	}
	t.file(stem+".list", 0o644, m.fileList())
	if _, ok := m.control.ControlFiles["md5sums"]; ok {
		return nil
	}
	generated, err := m.generatedSums(sums)
	if err != nil || generated == "" {
		return err
	}
	t.file(stem+".md5sums", 0o644, generated)
	return nil
}
