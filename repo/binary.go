package repo

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"dbuild/deb"
)

// notInControl are fields that the repository writes, or that describe an
// installed package: a package cannot bring its own.
var notInControl = []string{
	"Filename", "Size", "MD5sum", "SHA1", "SHA256", "SHA512", "Description-md5",
	"Status", "Conffiles", "Config-Version", "Directory", "Files",
}

// location are the fields of an entry that depend on where the file is.
func (e entry) location() []deb.Field {
	if e.kind == kindSource {
		return []deb.Field{{Name: "Directory", Value: e.path}}
	}
	return []deb.Field{
		{Name: "Filename", Value: e.path},
		{Name: "Size", Value: strconv.FormatInt(e.size, 10)},
		{Name: "SHA256", Value: e.sha256},
	}
}

// readBinary reads the stanza of a .deb or .udeb from its control data.
func readBinary(f *os.File, k kind, size int64, sha256 string) (stanza, error) {
	b, err := deb.OpenDeb(f, size)
	if err != nil {
		return stanza{}, err
	}
	return stanzaOf(b, k, size, sha256)
}

func stanzaOf(b *deb.BinaryFile, k kind, size int64, sha256 string) (stanza, error) {
	s, err := binaryStanza(b.Control, k)
	s.size, s.sha256 = size, sha256
	return s, err
}

// binaryStanza makes a stanza from control fields. All faults are reported.
func binaryStanza(control *deb.Paragraph, k kind) (stanza, error) {
	s := stanza{
		kind: k, name: control.Get("Package"), version: control.Get("Version"),
		arch: control.Get("Architecture"), section: control.Get("Section"),
	}
	var errs []error
	errs = append(errs, deb.CheckPackageName(s.name))
	if _, err := deb.ParseVersion(s.version); err != nil {
		errs = append(errs, err)
	}
	if s.arch != "all" && !deb.KnownArch(s.arch) {
		errs = append(errs, fmt.Errorf("unknown architecture %q", s.arch))
	}
	var err error
	s.source, s.sourceVersion, err = sourceOf(control.Get("Source"), s.name, s.version)
	errs = append(errs, err)

	p := &deb.Paragraph{Fields: append([]deb.Field(nil), control.Fields...)}
	for _, name := range notInControl {
		p.Del(name)
	}
	var text bytes.Buffer
	_, err = p.WriteTo(&text)
	s.text = text.Bytes()
	return s, errors.Join(append(errs, err)...)
}

// sourceOf splits "NAME" or "NAME (VERSION)", the Source field of a binary
// package or a .changes (deb-control(5)); what is left out is the package's own.
func sourceOf(field, name, version string) (source, sourceVersion string, err error) {
	if field == "" {
		return name, version, nil
	}
	source, rest, ok := strings.Cut(field, " ")
	sourceVersion = version
	if ok {
		rest = strings.TrimSpace(rest)
		if !strings.HasPrefix(rest, "(") || !strings.HasSuffix(rest, ")") {
			return source, "", fmt.Errorf("malformed Source %q", field)
		}
		sourceVersion = rest[1 : len(rest)-1]
	}
	if _, err := deb.ParseVersion(sourceVersion); err != nil {
		return source, sourceVersion, err
	}
	return source, sourceVersion, deb.CheckPackageName(source)
}
