package repo

import (
	"bytes"
	"fmt"
	"path"
	"strings"
	"time"

	"dbuild/deb"
)

// skew is how far ahead of its own clock apt accepts a Date.
const skew = 10 * time.Second

// nextDate returns the Date of the generation after cur, or how long to wait
// until its second has come. Dates rise strictly, because apt silently keeps
// what it has when the Date did not rise, and are never ahead of now, because
// apt refuses those.
//
// After the clock was set back both cannot hold. If the last Date is further
// ahead than apt tolerates, no client with a right clock can have accepted it:
// then the next one is now. Otherwise the wait is short enough.
func (r *Repo) nextDate(suite string, cur generation) (date time.Time, wait time.Duration) {
	now := r.now().UTC()
	date = now.Truncate(time.Second)
	if cur.n == 0 || date.After(cur.release.Date) {
		return date, 0
	}
	last := cur.release.Date
	if wait = last.Add(time.Second).Sub(now); wait <= skew+time.Second {
		return date, wait
	}
	r.report.Warn("the last generation of %q is dated %s, which is yet to come; the new one is dated now",
		suite, last.UTC().Format(time.RFC1123))
	return date, 0
}

// releaseText makes the Release file. Only SHA-256 rows are listed: apt asks
// by the strongest hash listed, and only those exist by hash. "all" is among the
// Architectures only where there is a Contents-all; its packages are in the
// index of each.
func releaseText(s Suite, date time.Time, architectures, components []string, rows []deb.IndexFile) []byte {
	var b bytes.Buffer
	field := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s: %s\n", name, value)
		}
	}
	yes := map[bool]string{true: "yes"}
	field("Origin", s.Origin)
	field("Label", s.Label)
	field("Suite", s.Suite)
	field("Codename", s.Codename)
	field("Date", date.UTC().Format(time.RFC1123))
	if until := s.validUntil(date); !until.IsZero() {
		field("Valid-Until", until.UTC().Format(time.RFC1123))
	}
	field("Acquire-By-Hash", "yes")
	field("NotAutomatic", yes[s.NotAutomatic])
	field("ButAutomaticUpgrades", yes[s.ButAutomaticUpgrades])
	if s.Contents {
		architectures = append([]string{"all"}, architectures...)
		field("No-Support-for-Architecture-all", "Packages")
	}
	field("Architectures", strings.Join(architectures, " "))
	field("Components", strings.Join(components, " "))
	field("Description", s.Description)
	field(rulesField, s.signedRules())
	b.WriteString("SHA256:\n")
	for _, row := range rows {
		fmt.Fprintf(&b, " %s %d %s\n", row.SHA256, row.Size, row.Path)
	}
	return b.Bytes()
}

// writeRelease writes one of the three Release files of a generation. They are
// dated like their content: apt over HTTP keeps an InRelease whose time of last
// change, in whole seconds, is the one it knows.
func (w *writer) writeRelease(dir string, f Document, date time.Time) error {
	rel := path.Join(dir, f.Name)
	if err := w.disk.write(rel, f.Data); err != nil {
		return err
	}
	return w.disk.date(rel, date)
}
