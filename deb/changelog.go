package deb

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
)

// Bounds of a changelog, in bytes. They apply to what is read, and reading
// stops after the entries that were asked for.
const (
	maxChangelog     = 64 << 20
	maxChangelogLine = 1 << 20
)

// ChangelogEntry is one entry of a debian/changelog (deb-changelog(5)).
type ChangelogEntry struct {
	Source        string
	Version       string // as written; "" in an older entry where it is not valid
	Distributions []string
	Urgency       string // lower case, without the comment that may follow it
	BinaryOnly    bool   // a binNMU

	Maintainer string    // "Name <address>"; "" without a trailer line
	Date       time.Time // zone as written; zero if it cannot be read

	// Changes is the header line, an empty line and the change lines as they
	// stand, joined with newlines: the Changes field of a .changes file
	// before it is folded.
	Changes string
}

// ParseChangelog reads the newest entries of a changelog, at most max of
// them, or all if max is 0. Like dpkg-parsechangelog it passes over lines
// that it does not understand and stops where an older format begins; but
// the newest entry must have a valid package name and version.
func ParseChangelog(r io.Reader, max int) ([]ChangelogEntry, error) {
	p := changelogParser{max: max}
	in := bufio.NewScanner(newBoundedReader(r, maxChangelog, "changelog"))
	in.Buffer(nil, maxChangelogLine)
	for line := 1; !p.done && in.Scan(); line++ {
		text := in.Text()
		if strings.IndexByte(text, 0) >= 0 {
			return nil, fmt.Errorf("read changelog: %w", &SyntaxError{Line: line, Reason: "NUL byte"})
		}
		p.line(text)
	}
	err := in.Err()
	if errors.Is(err, bufio.ErrTooLong) {
		err = &LimitError{What: "line", Limit: maxChangelogLine}
	}
	if err != nil {
		return nil, fmt.Errorf("read changelog: %w", err)
	}
	entries := p.finish()
	if len(entries) == 0 {
		return nil, fmt.Errorf("read changelog: %w", &SyntaxError{Reason: "no entry found"})
	}
	if err := CheckPackageName(entries[0].Source); err != nil {
		return nil, fmt.Errorf("read newest changelog entry: %w", err)
	}
	if entries[0].Version == "" {
		return nil, fmt.Errorf("read newest changelog entry: %w", p.badVersion)
	}
	return entries, nil
}

// The patterns are those of Dpkg::Changelog::Entry::Debian and
// Dpkg::Changelog::Debian of dpkg 1.21.
var (
	changelogHeader = regexp.MustCompile(`(?i)^(\w[-+0-9a-z.]*) \(([^() \t]+)\)((?:\s+[-+0-9a-z.]+)+);(.*?)\s*$`)
	changelogOption = regexp.MustCompile(`(?i)^([-0-9a-z]+)=\s*(.*\S)$`)
	changelogChange = regexp.MustCompile(`^\s{2,}\S`)

	changelogTrailer = regexp.MustCompile(`^ -- (.*) <(.*)>  ?((?:(?:\w+),\s*)?` +
		`(\d{1,2}\s+\w+\s+\d{4}\s+\d{1,2}:\d\d:\d\d\s+[-+]\d{4}))\s*$`)

	// What may stand below the last entry: editor settings, and entries of
	// formats that were given up in the 1990s.
	changelogEnd = regexp.MustCompile(`(?i)^(?:(?:;;\s*)?Local variables:|vim:)|` +
		`^(?:\w+\s+\w+\s+\d{1,2} \d{1,2}:\d{1,2}:\d{1,2}\s+[\w\s]*\d{4}\s+.*\s+[<(].*[)>]` +
		`|\w+\s+\w+\s+\d{1,2},?\s*\d{4}\s+.*\s+[<(].*[)>]` +
		`|\w[-+0-9a-z.]* \([^() \t]+\);?` +
		`|[\w.+-]+[- ]\S+ Debian \S+` +
		`|Changes from version .* to .*:` +
		`|Changes for [\w.+-]+-[\w.+-]+:?\s*$` +
		`|Old Changelog:\s*$` +
		`|(?:\d+:)?\w[\w.+~-]*:?\s*$)`)

	changelogSkip = regexp.MustCompile(`^(?:\$\w+:.*\$|# |/\*.*\*/)`)
)

// changelogParser is a state machine over lines.
type changelogParser struct {
	max     int
	entries []ChangelogEntry

	cur        *ChangelogEntry // nil before the first header and in a headless entry
	changes    []string
	blank      []string // blank lines that may turn out to be inside of the changes
	closed     bool     // the trailer of cur was seen
	done       bool
	badVersion error // why the newest entry has no version
}

func (p *changelogParser) line(text string) {
	switch header := changelogHeader.FindStringSubmatch(text); {
	case header != nil:
		p.push()
		if p.done = p.max > 0 && len(p.entries) >= p.max; !p.done {
			p.start(header)
		}
	case changelogSkip.MatchString(text):
	case changelogEnd.MatchString(text):
		p.done = true
	case strings.TrimFunc(text, isSpace) == "":
		if !p.closed && len(p.changes) > 2 {
			p.blank = append(p.blank, text)
		}
	case text[0] != ' ' && text[0] != '\t':
		// A badly formatted heading line.
	case p.trailer(text):
	case changelogChange.MatchString(text) && !strings.HasPrefix(text, " --"):
		if p.closed {
			p.push() // the header of these changes is missing
		}
		p.changes = append(append(p.changes, p.blank...), text)
		p.blank = nil
	}
}

// start begins an entry at its header line.
func (p *changelogParser) start(header []string) {
	e := &ChangelogEntry{Source: header[1], Distributions: fields(header[3])}
	if _, err := ParseVersion(header[2]); err == nil {
		e.Version = header[2]
	} else if len(p.entries) == 0 {
		p.badVersion = err
	}
	for option := range strings.SplitSeq(strings.TrimLeftFunc(header[4], isSpace), ",") {
		m := changelogOption.FindStringSubmatch(strings.TrimFunc(option, isSpace))
		if m == nil {
			continue
		}
		switch strings.ToLower(m[1]) {
		case "urgency":
			urgency, _, _ := strings.Cut(m[2], " ")
			e.Urgency = strings.ToLower(urgency)
		case "binary-only":
			e.BinaryOnly = m[2] == "yes"
		}
	}
	p.cur = e
	p.changes = []string{strings.TrimRightFunc(header[0], isSpace), ""}
}

// trailer reads " -- Name <address>  date" and reports whether text is that.
func (p *changelogParser) trailer(text string) bool {
	m := changelogTrailer.FindStringSubmatch(text)
	if m == nil {
		return false
	}
	if p.cur != nil {
		p.cur.Maintainer = m[1] + " <" + m[2] + ">"
		date := strings.Join(fields(m[4]), " ")
		// The day of the week is often wrong, and dpkg ignores it too.
		if t, err := time.Parse("2 Jan 2006 15:04:05 -0700", date); err == nil {
			p.cur.Date = t
		}
	}
	p.blank, p.closed = nil, true
	return true
}

// push ends the current entry.
func (p *changelogParser) push() {
	if p.cur != nil {
		p.cur.Changes = strings.Join(p.changes, "\n")
		p.entries = append(p.entries, *p.cur)
	}
	p.cur, p.changes, p.blank, p.closed = nil, nil, nil, false
}

func (p *changelogParser) finish() []ChangelogEntry {
	p.push()
	return p.entries
}
