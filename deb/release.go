package deb

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrNoSHA256 is returned for a Release file or file list that carries only
// weaker checksums, or none.
var ErrNoSHA256 = errors.New("no SHA-256 checksums")

// emptySHA256 is the checksum of no bytes at all.
const emptySHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// releaseLimits is a hundred times what Debian's largest suite needs.
var releaseLimits = Limits{Document: 16 << 20, Field: 16 << 20, Fields: 200}

// IndexFile is one row of a Release file.
type IndexFile struct {
	Path   string // relative to the Release file, uncompressed name as written
	Size   int64  // bytes, 0 only for an empty file
	SHA256 string // lower-case hexadecimal digits
}

// Release is a Release file, or the signed text of an InRelease file
// (https://wiki.debian.org/DebianRepository/Format).
type Release struct {
	Origin, Label, Suite, Codename, Version, Description string

	Date       time.Time
	ValidUntil time.Time // zero: none

	Architectures []string
	Components    []string

	ByHash               bool // Acquire-By-Hash
	NotAutomatic         bool
	ButAutomaticUpgrades bool

	Files           map[string]IndexFile // by Path
	NoSupportForAll string               // No-Support-for-Architecture-all
}

// ParseRelease reads a Release file. It demands one Date and SHA256 rows,
// and refuses a Valid-Until before the Date, a path that is not safe, a size
// that is not a plain number, and two rows that disagree about one path.
// Whether the dates, the suite and the rest are the expected ones is the
// caller's question.
func ParseRelease(b []byte) (*Release, error) {
	p, err := ParseParagraph(b, releaseLimits)
	if err != nil {
		return nil, fmt.Errorf("read Release: %w", err)
	}
	r := &Release{}
	for _, f := range []struct {
		name string
		to   *string
	}{
		{"Origin", &r.Origin}, {"Label", &r.Label}, {"Suite", &r.Suite},
		{"Codename", &r.Codename}, {"Version", &r.Version}, {"Description", &r.Description},
		{"No-Support-for-Architecture-all", &r.NoSupportForAll},
	} {
		if *f.to, err = singleLine(p, f.name); err != nil {
			return nil, fmt.Errorf("read Release: %w", err)
		}
	}
	for _, step := range []func(*Paragraph) error{r.readDates, r.readLists, r.readSwitches, r.readFiles} {
		if err := step(p); err != nil {
			return nil, fmt.Errorf("read Release: %w", err)
		}
	}
	return r, nil
}

func (r *Release) readDates(p *Paragraph) error {
	text, ok := p.Lookup("Date")
	if !ok {
		return &SyntaxError{Field: "Date", Reason: "is missing"}
	}
	var err error
	if r.Date, err = parseArchiveTime(text); err != nil {
		return &SyntaxError{Field: "Date", Reason: err.Error()}
	}
	if text, ok = p.Lookup("Valid-Until"); !ok {
		return nil
	}
	if r.ValidUntil, err = parseArchiveTime(text); err != nil {
		return &SyntaxError{Field: "Valid-Until", Reason: err.Error()}
	}
	if r.ValidUntil.Before(r.Date) {
		return &SyntaxError{Field: "Valid-Until", Reason: "is before Date"}
	}
	return nil
}

// parseArchiveTime reads the one form of date that apt accepts in a Release
// file: RFC 1123 in universal time.
func parseArchiveTime(s string) (time.Time, error) {
	for _, zone := range []string{" UTC", " GMT", " Z", " +0000"} {
		if clock, ok := strings.CutSuffix(s, zone); ok {
			t, err := time.ParseInLocation("Mon, _2 Jan 2006 15:04:05", clock, time.UTC)
			if err != nil {
				return time.Time{}, fmt.Errorf("%.60q is not a date", s)
			}
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%.60q is not a date in UTC", s)
}

func (r *Release) readLists(p *Paragraph) error {
	r.Architectures = fields(p.Get("Architectures"))
	for _, a := range r.Architectures {
		if !checkArchName(a) {
			return &SyntaxError{Field: "Architectures", Reason: fmt.Sprintf("%.40q is not an architecture", a)}
		}
	}
	r.Components = fields(p.Get("Components"))
	for _, c := range r.Components {
		if err := CheckPath(c); err != nil {
			return &SyntaxError{Field: "Components", Reason: err.Error()}
		}
	}
	return nil
}

func (r *Release) readSwitches(p *Paragraph) error {
	for _, f := range []struct {
		name string
		to   *bool
	}{
		{"Acquire-By-Hash", &r.ByHash},
		{"NotAutomatic", &r.NotAutomatic},
		{"ButAutomaticUpgrades", &r.ButAutomaticUpgrades},
	} {
		var err error
		if *f.to, err = yesNo(p, f.name); err != nil {
			return err
		}
	}
	return nil
}

// yesNo reads a switch; an absent field means no.
func yesNo(p *Paragraph, name string) (bool, error) {
	switch v := p.Get(name); strings.ToLower(v) {
	case "yes":
		return true, nil
	case "no", "":
		return false, nil
	default:
		return false, &SyntaxError{Field: name, Reason: fmt.Sprintf("%.40q is neither yes nor no", v)}
	}
}

// singleLine returns the value of a field that may not be folded.
func singleLine(p *Paragraph, name string) (string, error) {
	v := p.Get(name)
	if strings.Contains(v, "\n") {
		return "", &SyntaxError{Field: name, Reason: "has more than one line"}
	}
	return v, nil
}

func (r *Release) readFiles(p *Paragraph) error {
	text, ok := p.Lookup("SHA256")
	if !ok {
		return ErrNoSHA256
	}
	r.Files = make(map[string]IndexFile)
	for row := range rows(text) {
		f, err := parseIndexFile(row)
		if err != nil {
			return &SyntaxError{Field: "SHA256", Reason: err.Error()}
		}
		if have, ok := r.Files[f.Path]; ok && have != f {
			return &SyntaxError{Field: "SHA256", Reason: fmt.Sprintf("rows for %q disagree", f.Path)}
		}
		r.Files[f.Path] = f
	}
	if len(r.Files) == 0 {
		return ErrNoSHA256
	}
	return nil
}

func parseIndexFile(row []string) (IndexFile, error) {
	if len(row) != 3 {
		return IndexFile{}, fmt.Errorf("row of %d columns, not 3", len(row))
	}
	size, err := parseSize(row[1])
	if err != nil {
		return IndexFile{}, err
	}
	f := IndexFile{Path: strings.TrimPrefix(row[2], "./"), Size: size, SHA256: row[0]}
	if !isHex(f.SHA256, 64) {
		return IndexFile{}, fmt.Errorf("%.70q is not a SHA-256 checksum", f.SHA256)
	}
	if (size == 0) != (f.SHA256 == emptySHA256) {
		return IndexFile{}, fmt.Errorf("size and checksum of %.80q disagree", f.Path)
	}
	if err := CheckPath(f.Path); err != nil {
		return IndexFile{}, err
	}
	return f, nil
}
