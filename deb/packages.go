package deb

import (
	"bytes"
	"fmt"
	"strings"
)

// Package is one stanza of a Packages index.
type Package struct {
	Name, Version, Architecture string

	Source        string // source package name; Name where the field is absent
	SourceVersion string // version of the source package

	Section, Priority, MultiArch string
	Essential                    bool

	// Relationship fields as written; ParseDependency reads them.
	PreDepends, Depends, Provides, Conflicts, Breaks, Replaces string

	Filename string // safe path relative to the archive root, see CheckPath
	Size     int64  // bytes, at least 1
	SHA256   string // lower-case hexadecimal digits

	Stanza []byte // a copy of the text that was read
}

// ParsePackage reads one stanza of a Packages index. Package, Version,
// Architecture, Filename, Size and SHA256 must be there, valid and safe. The
// relationship fields are not looked into.
func ParsePackage(stanza []byte) (*Package, error) {
	p, err := ParseParagraph(stanza, Limits{Document: maxStanza, Field: maxStanza})
	if err != nil {
		return nil, fmt.Errorf("read package stanza: %w", err)
	}
	pkg := &Package{Stanza: bytes.Clone(stanza)}
	if err := pkg.readIdentity(p); err != nil {
		return nil, fmt.Errorf("read package stanza %.60q: %w", pkg.Name, err)
	}
	if err := pkg.readFile(p); err != nil {
		return nil, fmt.Errorf("read package stanza %.60q: %w", pkg.Name, err)
	}
	pkg.Section, pkg.Priority, pkg.MultiArch = p.Get("Section"), p.Get("Priority"), p.Get("Multi-Arch")
	pkg.PreDepends, pkg.Depends = p.Get("Pre-Depends"), p.Get("Depends")
	pkg.Provides, pkg.Conflicts = p.Get("Provides"), p.Get("Conflicts")
	pkg.Breaks, pkg.Replaces = p.Get("Breaks"), p.Get("Replaces")
	return pkg, nil
}

func (pkg *Package) readIdentity(p *Paragraph) error {
	var err error
	if pkg.Name, err = requiredName(p, "Package"); err != nil {
		return err
	}
	if pkg.Version, err = requiredVersion(p); err != nil {
		return err
	}
	pkg.Architecture = p.Get("Architecture")
	if !checkArchName(pkg.Architecture) {
		return &SyntaxError{Field: "Architecture", Reason: "is missing or malformed"}
	}
	if pkg.Essential, err = yesNo(p, "Essential"); err != nil {
		return err
	}
	pkg.Source, pkg.SourceVersion = pkg.Name, pkg.Version
	if source, ok := p.Lookup("Source"); ok {
		return pkg.readSource(source)
	}
	return nil
}

// readSource reads "name" or "name (version)" (Policy 5.6.1).
func (pkg *Package) readSource(source string) error {
	name, version, versioned := strings.Cut(source, " ")
	if err := CheckPackageName(name); err != nil {
		return &SyntaxError{Field: "Source", Reason: err.Error()}
	}
	pkg.Source = name
	if !versioned {
		return nil
	}
	version, open := strings.CutPrefix(version, "(")
	version, closed := strings.CutSuffix(version, ")")
	if !open || !closed {
		return &SyntaxError{Field: "Source", Reason: "is not of the form name (version)"}
	}
	if _, err := ParseVersion(version); err != nil {
		return &SyntaxError{Field: "Source", Reason: err.Error()}
	}
	pkg.SourceVersion = version
	return nil
}

func (pkg *Package) readFile(p *Paragraph) error {
	// Flat repositories write "./name"; apt takes both for the same file.
	pkg.Filename = strings.TrimPrefix(p.Get("Filename"), "./")
	if err := CheckPath(pkg.Filename); err != nil {
		return &SyntaxError{Field: "Filename", Reason: err.Error()}
	}
	var err error
	if pkg.Size, err = parseSize(p.Get("Size")); err != nil {
		return &SyntaxError{Field: "Size", Reason: err.Error()}
	}
	if pkg.Size == 0 {
		return &SyntaxError{Field: "Size", Reason: "is 0"}
	}
	if pkg.SHA256 = p.Get("SHA256"); pkg.SHA256 == "" {
		return ErrNoSHA256
	}
	if !isHex(pkg.SHA256, 64) {
		return &SyntaxError{Field: "SHA256", Reason: "is not a SHA-256 checksum"}
	}
	return nil
}

func requiredName(p *Paragraph, field string) (string, error) {
	name := p.Get(field)
	if err := CheckPackageName(name); err != nil {
		return "", &SyntaxError{Field: field, Reason: err.Error()}
	}
	return name, nil
}

func requiredVersion(p *Paragraph) (string, error) {
	version := p.Get("Version")
	if _, err := ParseVersion(version); err != nil {
		return "", &SyntaxError{Field: "Version", Reason: err.Error()}
	}
	return version, nil
}
