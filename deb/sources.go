package deb

import (
	"fmt"
	"strings"
)

// SourceFile is one file of a source package in a Sources index.
type SourceFile struct {
	Name   string // safe base name
	Size   int64  // bytes
	SHA256 string // lower-case hexadecimal digits
}

// SourceEntry is one stanza of a Sources index.
type SourceEntry struct {
	Name, Version, Format string

	Directory string // safe path relative to the archive root; "" for the root
	Section   string

	Binaries      []string
	Architectures []string

	Files     []SourceFile // the .dsc is one of them
	Paragraph *Paragraph   // all fields
}

// ParseSourceEntry reads one stanza of a Sources index. Package, Version,
// Directory and Checksums-Sha256 must be there, valid and safe, and exactly
// one of the files must be a .dsc.
func ParseSourceEntry(stanza []byte) (*SourceEntry, error) {
	p, err := ParseParagraph(stanza, Limits{Document: maxStanza, Field: maxStanza})
	if err != nil {
		return nil, fmt.Errorf("read source stanza: %w", err)
	}
	e := &SourceEntry{Paragraph: p}
	if err := e.read(p); err != nil {
		return nil, fmt.Errorf("read source stanza %.60q: %w", p.Get("Package"), err)
	}
	return e, nil
}

func (e *SourceEntry) read(p *Paragraph) error {
	var err error
	if e.Name, err = requiredName(p, "Package"); err != nil {
		return err
	}
	if e.Version, err = requiredVersion(p); err != nil {
		return err
	}
	e.Format, e.Section = p.Get("Format"), p.Get("Section")
	if err := e.readDirectory(p); err != nil {
		return err
	}
	for name := range strings.SplitSeq(p.Get("Binary"), ",") {
		if name = trimBlanks(name); name == "" {
			continue
		}
		if err := CheckPackageName(name); err != nil {
			return &SyntaxError{Field: "Binary", Reason: err.Error()}
		}
		e.Binaries = append(e.Binaries, name)
	}
	e.Architectures = fields(p.Get("Architecture"))
	for _, a := range e.Architectures {
		if !checkArchName(a) {
			return &SyntaxError{Field: "Architecture", Reason: fmt.Sprintf("%.40q is not an architecture", a)}
		}
	}
	return e.readFiles(p)
}

// readDirectory takes "." for the root of the archive, as flat repositories
// write it.
func (e *SourceEntry) readDirectory(p *Paragraph) error {
	dir, ok := p.Lookup("Directory")
	if !ok {
		return &SyntaxError{Field: "Directory", Reason: "is missing"}
	}
	dir = strings.TrimPrefix(strings.TrimSuffix(dir, "/"), "./")
	if dir == "." || dir == "" {
		return nil
	}
	if err := CheckPath(dir); err != nil {
		return &SyntaxError{Field: "Directory", Reason: err.Error()}
	}
	e.Directory = dir
	return nil
}

func (e *SourceEntry) readFiles(p *Paragraph) error {
	files, err := ParseFiles(p)
	if err != nil {
		return err
	}
	dscs := 0
	for _, f := range files {
		if strings.HasSuffix(f.Name, ".dsc") {
			dscs++
		}
		e.Files = append(e.Files, SourceFile{Name: f.Name, Size: f.Size, SHA256: f.SHA256})
	}
	if dscs != 1 {
		return &SyntaxError{Field: "Checksums-Sha256", Reason: fmt.Sprintf("lists %d .dsc files, not one", dscs)}
	}
	return nil
}
