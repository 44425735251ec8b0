package dsc

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"dbuild/deb"
	"dbuild/internal/fault"
)

// maxInstalled bounds the packages that a .buildinfo may list. The largest
// builds of Debian have some 3,000.
const maxInstalled = 20_000

// Installed is one package that was there during a build.
type Installed struct {
	Name, Arch string // Arch is "" for the architecture of the build
	Version    string
}

// Buildinfo is a .buildinfo file (deb-buildinfo(5)), the record of a build.
type Buildinfo struct {
	Source        string
	SourceVersion deb.Version // of the source package
	Version       deb.Version // of the build; differs for a binNMU
	Architecture  []string    // what was built: "source", "all", "amd64", …
	Binary        []string
	BuildArch     string // of the machine
	BuildOrigin   string
	BuildPath     string // "" if it is not recorded
	Files         []deb.File
	Installed     []Installed // Installed-Build-Depends

	Paragraph *deb.Paragraph
	Signed    bool
}

// ReadBuildinfo reads a .buildinfo file, signed or not, as strictly as
// [ReadChanges] reads its kind.
func ReadBuildinfo(doc []byte) (*Buildinfo, error) {
	b, err := readBuildinfo(doc)
	return b, input(".buildinfo", err)
}

func readBuildinfo(doc []byte) (*Buildinfo, error) {
	text, signed, err := signedText(doc)
	if err != nil {
		return nil, err
	}
	p, err := deb.ParseParagraph(text, docLimits)
	if err != nil {
		return nil, err
	}
	if format := p.Get("Format"); format != "1.0" {
		return nil, fmt.Errorf("field Format: %.20q is not 1.0", format)
	}
	u, err := readUpload(p)
	if err != nil {
		return nil, err
	}
	b := &Buildinfo{
		Source: u.source, SourceVersion: u.sourceVersion, Version: u.version,
		Architecture: u.architectures, Binary: u.binaries, Files: u.files,
		BuildArch: p.Get("Build-Architecture"), BuildOrigin: p.Get("Build-Origin"), BuildPath: p.Get("Build-Path"),
		Paragraph: p, Signed: signed,
	}
	if !deb.KnownArch(b.BuildArch) {
		return nil, fmt.Errorf("field Build-Architecture: %.40q is not an architecture", b.BuildArch)
	}
	if _, ok := p.Lookup("Build-Path"); ok && !isBuildPath(b.BuildPath) {
		return nil, fmt.Errorf("field Build-Path: %.60q is not a plain absolute path", b.BuildPath)
	}
	b.Installed, err = readInstalled(p.Get("Installed-Build-Depends"))
	return b, err
}

// isBuildPath accepts clean absolute paths without characters that mean
// something to a shell.
func isBuildPath(s string) bool {
	return len(s) <= 4096 && path.IsAbs(s) && path.Clean(s) == s &&
		!strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' || strings.ContainsRune("\"'`$\\;&|<>*?(){}[]!#", r) })
}

// readInstalled reads "NAME[:ARCH] (= VERSION)" rows.
func readInstalled(value string) ([]Installed, error) {
	if n := strings.Count(value, ","); n > maxInstalled {
		return nil, fmt.Errorf("field Installed-Build-Depends: %d packages, more than %d", n, maxInstalled)
	}
	dep, err := deb.ParseDependency(value)
	if err != nil {
		return nil, fmt.Errorf("field Installed-Build-Depends: %w", err)
	}
	var list []Installed
	for _, alternatives := range dep {
		r := alternatives[0]
		if len(alternatives) != 1 || r.Op != "=" || r.Arches != nil || r.Profiles != nil {
			return nil, fmt.Errorf("field Installed-Build-Depends: %.60q is not a package and its version", alternatives.String())
		}
		list = append(list, Installed{Name: r.Name, Arch: r.Qualifier, Version: r.Version})
	}
	return list, nil
}

// Agrees reports as [fault.Input] where the record and the .changes that lists
// it contradict each other: another source or version, or a file that both
// list with different checksums. Every binary package of the upload must be in
// the record of its build.
func (b *Buildinfo) Agrees(c *Changes) error {
	if b.Source != c.Source || b.Version != c.Version || b.SourceVersion != c.SourceVersion {
		return fault.New(fault.Input, "the .buildinfo is of %s %s, the .changes of %s %s", b.Source, b.Version, c.Source, c.Version)
	}
	for _, f := range c.Files {
		i := slices.IndexFunc(b.Files, func(g deb.File) bool { return g.Name == f.Name })
		binary := strings.HasSuffix(f.Name, "deb")
		switch {
		case i < 0 && binary:
			return fault.New(fault.Input, "the .buildinfo does not list %q", f.Name)
		case i >= 0 && (b.Files[i].SHA256 != f.SHA256 || b.Files[i].Size != f.Size):
			return fault.New(fault.Input, "the .buildinfo has another checksum of %q", f.Name)
		}
	}
	return nil
}
