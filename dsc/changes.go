package dsc

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"dbuild/deb"
)

// Changes is a .changes file (deb-changes(5)), the document of an upload.
type Changes struct {
	Source        string
	SourceVersion deb.Version // of the source package
	Version       deb.Version // of the upload; differs for a binNMU
	Distribution  string      // the one suite that it is meant for
	Architecture  []string    // "source", "all", "amd64", …
	Binary        []string
	Maintainer    string
	Urgency       string // lower case
	Date          time.Time
	Files         []deb.File // each with a SHA-256, a section and a priority

	Paragraph *deb.Paragraph
	Signed    bool // clearsigned; nothing here says by whom
}

// ReadChanges reads a .changes file, signed or not, and refuses with
// [dbuild/internal/fault.Input] what can be seen to be wrong without the files:
// names that do not fit source, version, architectures and binaries, a .dsc
// without "source" or the reverse, more than one distribution, missing
// checksums or sections. Text around a signature is [dbuild/internal/fault.Trust].
// Whether the signer may upload, and whether the files are those that are
// listed, is for the caller to see.
func ReadChanges(doc []byte) (*Changes, error) {
	c, err := readChanges(doc)
	return c, input(".changes", err)
}

func readChanges(doc []byte) (*Changes, error) {
	text, signed, err := signedText(doc)
	if err != nil {
		return nil, err
	}
	p, err := deb.ParseParagraph(text, docLimits)
	if err != nil {
		return nil, err
	}
	if format := p.Get("Format"); format != "1.8" && format != "1.7" {
		return nil, fmt.Errorf("field Format: %.20q is not 1.8", format)
	}
	u, err := readUpload(p)
	if err != nil {
		return nil, err
	}
	if err := required(p, "Date", "Distribution", "Maintainer", "Changes"); err != nil {
		return nil, err
	}
	c := &Changes{
		Source: u.source, SourceVersion: u.sourceVersion, Version: u.version,
		Architecture: u.architectures, Binary: u.binaries, Files: u.files,
		Distribution: p.Get("Distribution"), Maintainer: p.Get("Maintainer"), Urgency: urgency(p),
		Paragraph: p, Signed: signed,
	}
	if !isDistribution(c.Distribution) {
		return nil, fmt.Errorf("field Distribution: %.60q is not one suite", c.Distribution)
	}
	if c.Date, err = time.Parse("Mon, 2 Jan 2006 15:04:05 -0700", p.Get("Date")); err != nil {
		return nil, fmt.Errorf("field Date: %w", err)
	}
	return c, c.checkSections()
}

// isDistribution accepts one suite name; capitals too, for UNRELEASED, which
// callers refuse with better words.
func isDistribution(s string) bool { return isSuite(strings.ToLower(s)) }

func urgency(p *deb.Paragraph) string {
	word, _, _ := strings.Cut(p.Get("Urgency"), " ")
	return strings.ToLower(word)
}

// checkSections demands section and priority of each file, which are what
// makes the Files field of a .changes differ from all others.
func (c *Changes) checkSections() error {
	for _, f := range c.Files {
		if f.Section == "" || f.Priority == "" {
			return fmt.Errorf("field Files: %q has no section and priority", f.Name)
		}
	}
	return nil
}

// File returns the row of the one file with this suffix (".dsc",
// ".buildinfo"), and whether there is exactly one.
func (c *Changes) File(suffix string) (deb.File, bool) {
	has := func(f deb.File) bool { return extension(f.Name) == suffix }
	i := slices.IndexFunc(c.Files, has)
	if i < 0 || slices.ContainsFunc(c.Files[i+1:], has) {
		return deb.File{}, false
	}
	return c.Files[i], true
}
