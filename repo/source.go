package repo

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"dbuild/deb"
	"dbuild/sign"
)

// plainText returns the text of a document that may be signed. Who signed it
// was checked before it came here.
func plainText(doc []byte) ([]byte, error) {
	text, _, err := sign.SplitClearsigned(doc)
	if errors.Is(err, sign.ErrUnsigned) {
		return doc, nil
	}
	return text, err
}

// parseControl reads the one paragraph of a .dsc or .changes and its files.
func parseControl(doc []byte) (*deb.Paragraph, []deb.File, error) {
	text, err := plainText(doc)
	if err != nil {
		return nil, nil, err
	}
	p, err := deb.ParseParagraph(text, deb.DefaultLimits)
	if err != nil {
		return nil, nil, err
	}
	files, err := deb.ParseFiles(p)
	return p, files, err
}

// sourceStanza makes the Sources stanza of a .dsc: its paragraph with Package
// for Source, and the .dsc itself among its files, as apt-get source needs it.
// dsc is the .dsc's own row; files are those that it lists.
func sourceStanza(p *deb.Paragraph, dsc deb.File, files []deb.File) (stanza, error) {
	section, priority := sourceSection(p)
	s := stanza{
		kind: kindSource, name: p.Get("Source"), version: p.Get("Version"), arch: archSource,
		source: p.Get("Source"), sourceVersion: p.Get("Version"),
		section: section, sha256: dsc.SHA256, size: dsc.Size,
	}
	errs := []error{deb.CheckPackageName(s.name)}
	if _, err := deb.ParseVersion(s.version); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return s, err
	}
	entry := &deb.Paragraph{Fields: []deb.Field{{Name: "Package", Value: s.name}}}
	for _, f := range p.Fields {
		if !dropFromDsc(f.Name) {
			entry.Fields = append(entry.Fields, f)
		}
	}
	if section != "" {
		entry.Set("Section", section)
	}
	if priority != "" {
		entry.Set("Priority", priority)
	}
	var md5s, sha256s strings.Builder
	for _, f := range append([]deb.File{dsc}, files...) {
		fmt.Fprintf(&md5s, "\n %s %d %s", f.MD5, f.Size, f.Name)
		fmt.Fprintf(&sha256s, "\n %s %d %s", f.SHA256, f.Size, f.Name)
	}
	entry.Set("Files", md5s.String())
	entry.Set("Checksums-Sha256", sha256s.String())
	var text bytes.Buffer
	_, err := entry.WriteTo(&text)
	s.text = text.Bytes()
	return s, err
}

// dropFromDsc tells which fields of a .dsc the index writes itself or not.
func dropFromDsc(field string) bool {
	switch strings.ToLower(field) {
	case "source", "package", "directory", "files", "checksums-md5", "checksums-sha1", "checksums-sha256", "checksums-sha512", "section", "priority":
		return true
	}
	return false
}

// sourceSection is the section and priority of a source as its .dsc knows
// them: those of the first binary package in Package-List ("NAME TYPE SECTION
// PRIORITY …"). What a .changes says of the .dsc is not asked, so that the
// same .dsc always makes the same stanza.
func sourceSection(dsc *deb.Paragraph) (section, priority string) {
	for line := range strings.Lines(dsc.Get("Package-List")) {
		if f := strings.Fields(line); len(f) >= 4 {
			return f[2], f[3]
		}
	}
	return "", ""
}

// sourceFiles are the files of a source entry, the .dsc first.
func (s stanza) sourceFiles() ([]deb.File, error) {
	p, err := deb.ParseParagraph(s.text, deb.DefaultLimits)
	if err != nil {
		return nil, err
	}
	files, err := deb.ParseFiles(p)
	if err != nil {
		return nil, err
	}
	for i, f := range files {
		if strings.HasSuffix(f.Name, ".dsc") {
			files[0], files[i] = files[i], files[0]
		}
	}
	return files, nil
}
