package dsc

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"dbuild/deb"
	"dbuild/internal/fault"
	"dbuild/sign"
)

// signedText returns the text of a document and whether it was signed. The
// signature is not verified.
func signedText(doc []byte) (text []byte, signed bool, err error) {
	text, _, err = sign.SplitClearsigned(doc)
	if errors.Is(err, sign.ErrUnsigned) {
		return doc, false, nil
	}
	return text, err == nil, err
}

// upload is what .changes and .buildinfo have in common.
type upload struct {
	source        string
	sourceVersion deb.Version // of the source package
	version       deb.Version // of the document; differs for a binNMU
	architectures []string
	binaries      []string
	files         []deb.File
}

// readUpload reads the common fields and checks the list of files.
func readUpload(p *deb.Paragraph) (u upload, err error) {
	if err := required(p, "Format", "Source", "Version", "Architecture"); err != nil {
		return u, err
	}
	// "Source: hello (2.10-3)" where the version is not the document's.
	name, inner, hasInner := strings.Cut(p.Get("Source"), " ")
	u.source = name
	if err := deb.CheckPackageName(name); err != nil {
		return u, fmt.Errorf("field Source: %w", err)
	}
	if u.version, err = deb.ParseVersion(p.Get("Version")); err != nil {
		return u, fmt.Errorf("field Version: %w", err)
	}
	u.sourceVersion = u.version
	if hasInner {
		v, ok := strings.CutPrefix(inner, "(")
		v, ok2 := strings.CutSuffix(v, ")")
		if u.sourceVersion, err = deb.ParseVersion(v); err != nil || !ok || !ok2 {
			return u, fmt.Errorf("field Source: %.60q has no valid version", p.Get("Source"))
		}
	}
	if err := deb.CheckFileName(name + "_" + u.version.NoEpoch()); err != nil {
		return u, fmt.Errorf("field Version: %w", err)
	}
	if err := u.readLists(p); err != nil {
		return u, err
	}
	if u.files, err = deb.ParseFiles(p); err != nil {
		return u, err
	}
	return u, u.checkNames()
}

func required(p *deb.Paragraph, fields ...string) error {
	for _, f := range fields {
		if p.Get(f) == "" {
			return fmt.Errorf("field %s is missing", f)
		}
	}
	return nil
}

func (u *upload) readLists(p *deb.Paragraph) error {
	u.architectures = strings.Fields(p.Get("Architecture"))
	for i, a := range u.architectures {
		if a != "source" && a != "all" && !deb.KnownArch(a) {
			return fmt.Errorf("field Architecture: %.40q is not an architecture", a)
		}
		if slices.Contains(u.architectures[:i], a) {
			return fmt.Errorf("field Architecture: %q is there twice", a)
		}
	}
	u.binaries = strings.Fields(p.Get("Binary"))
	for _, b := range u.binaries {
		if err := deb.CheckPackageName(b); err != nil {
			return fmt.Errorf("field Binary: %w", err)
		}
	}
	return nil
}

// checkNames holds the file names against the fields.
func (u *upload) checkNames() error {
	sources := 0
	for _, f := range u.files {
		if f.Size == 0 {
			return fmt.Errorf("file %q is empty", f.Name)
		}
		switch extension(f.Name) {
		case ".changes":
			return fmt.Errorf("file %q: a .changes may not be listed", f.Name)
		case ".dsc":
			sources++
			if want := u.source + "_" + u.sourceVersion.NoEpoch() + ".dsc"; f.Name != want {
				return fmt.Errorf("file %q: the source package would be %q", f.Name, want)
			}
		case ".buildinfo":
			if !strings.HasPrefix(f.Name, u.source+"_"+u.version.NoEpoch()+"_") {
				return fmt.Errorf("file %q is of another package or version", f.Name)
			}
		case ".deb", ".udeb", ".ddeb":
			if err := u.checkBinary(f.Name); err != nil {
				return err
			}
		}
	}
	if hasSource := slices.Contains(u.architectures, "source"); hasSource != (sources == 1) {
		return fmt.Errorf("field Architecture says %q, but %d .dsc files are listed", strings.Join(u.architectures, " "), sources)
	}
	return nil
}

// checkBinary checks NAME_VERSION_ARCH.deb. The version of a binary package
// may be another than the source's, so only its form is known here.
func (u *upload) checkBinary(file string) error {
	parts := strings.Split(strings.TrimSuffix(file, extension(file)), "_")
	if len(parts) != 3 || deb.CheckPackageName(parts[0]) != nil {
		return fmt.Errorf("file %q is not named PACKAGE_VERSION_ARCHITECTURE", file)
	}
	if _, err := deb.ParseVersion(parts[1]); err != nil {
		return fmt.Errorf("file %q: %w", file, err)
	}
	if arch := parts[2]; arch == "source" || !slices.Contains(u.architectures, arch) {
		return fmt.Errorf("file %q: field Architecture does not have %q", file, arch)
	}
	// The Binary field lists debug packages in some versions of dpkg only.
	name, _ := strings.CutSuffix(parts[0], "-dbgsym")
	if !slices.Contains(u.binaries, parts[0]) && !slices.Contains(u.binaries, name) {
		return fmt.Errorf("file %q: field Binary does not have %q", file, parts[0])
	}
	return nil
}

func extension(name string) string {
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		return name[i:]
	}
	return ""
}

// input gives an error of parsing its class, unless it has one.
func input(what string, err error) error {
	if err == nil {
		return nil
	}
	return fault.Wrap(fault.Input, fmt.Errorf("read %s: %w", what, err))
}
