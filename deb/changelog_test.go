package deb

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const changelogText = `hello (2.10-4) UNRELEASED; urgency=medium

  * Work in progress.

 -- Ann Author <ann@example.org>  Mon, 01 Jan 2024 10:00:00 +0100

hello (1:2.10-3+b1) bookworm-security unstable; urgency=HIGH (see below), binary-only=yes

  [ Ann Author ]
  * First change
    over two lines. (Closes: #123456)

  * Second change.


 -- Ann Author <ann@example.org>  Sat, 5 Feb 2022 7:03:04 -0330

hello (2.10-2) unstable; urgency=low

  * Old.

 -- Bob <bob@example.org>  Sun, 10 Oct 2021 23:59:59 +0000

Local variables:
mode: debian-changelog
End:
`

func TestParseChangelog(t *testing.T) {
	got, err := ParseChangelog(strings.NewReader(changelogText), 2)
	if err != nil {
		t.Fatal(err)
	}
	want := []ChangelogEntry{{
		Source: "hello", Version: "2.10-4", Distributions: []string{"UNRELEASED"}, Urgency: "medium",
		Maintainer: "Ann Author <ann@example.org>",
		Date:       time.Date(2024, 1, 1, 10, 0, 0, 0, time.FixedZone("", 3600)),
		Changes:    "hello (2.10-4) UNRELEASED; urgency=medium\n\n  * Work in progress.",
	}, {
		Source: "hello", Version: "1:2.10-3+b1", Distributions: []string{"bookworm-security", "unstable"},
		Urgency: "high", BinaryOnly: true,
		Maintainer: "Ann Author <ann@example.org>",
		Date:       time.Date(2022, 2, 5, 7, 3, 4, 0, time.FixedZone("", -12600)),
		Changes: "hello (1:2.10-3+b1) bookworm-security unstable; urgency=HIGH (see below), binary-only=yes\n\n" +
			"  [ Ann Author ]\n  * First change\n    over two lines. (Closes: #123456)\n\n  * Second change.",
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	all, err := ParseChangelog(strings.NewReader(changelogText), 0)
	if err != nil || len(all) != 3 || all[2].Version != "2.10-2" {
		t.Errorf("all: %d entries, %v", len(all), err)
	}
}

// oddChangelogs is what real packages have in the entries that count.
var oddChangelogs = []struct {
	name, in string
}{
	{"plain", changelogText},
	{"blank lines first", "\n\n" + changelogText},
	{"no trailer", "a1 (1) unstable; urgency=low\n\n  * X\n"},
	{"no changes", "a1 (1) unstable; urgency=low\n\n -- A <a@b>  Mon, 01 Jan 2024 10:00:00 +0000\n"},
	{"one blank before the date", "a1 (1) unstable; urgency=low\n\n  * X\n\n -- A <a@b> Mon, 01 Jan 2024 10:00:00 +0000\n"},
	{"no day of the week", "a1 (1) unstable; urgency=low\n\n  * X\n\n -- A <a@b>  01 Jan 2024 10:00:00 +0000\n"},
	{"wrong day of the week", "a1 (1) unstable; urgency=low\n\n  * X\n\n -- A <a@b>  Tue, 01 Jan 2024 10:00:00 +0000\n"},
	{"month that does not exist", "a1 (1) unstable; urgency=low\n\n  * X\n\n -- A <a@b>  Mon, 01 Foo 2024 10:00:00 +0000\n"},
	{"trailer malformed", "a1 (1) unstable; urgency=low\n\n  * X\n\n -- A <a@b>  yesterday\n\na1 (0) unstable; urgency=low\n\n  * Y\n\n -- A <a@b>  Mon, 01 Jan 2024 10:00:00 +0000\n"},
	{"heading malformed", "a1 (1) unstable; urgency=low\n\n  * X\nJunk in here!\n  * Y\n\n -- A <a@b>  Mon, 01 Jan 2024 10:00:00 +0000\n"},
	{"comments and keywords", "a1 (1) unstable; urgency=low\n# no\n$Id: no$\n/* no */\n\n  * X\n\n -- A <a@b>  Mon, 01 Jan 2024 10:00:00 +0000\nvim: no\n"},
	{"options", "a1 (1) unstable; Urgency = high , urgency=low,medium\n\n  * X\n\n -- A <a@b>  Mon, 01 Jan 2024 10:00:00 +0000\n"},
	{"no options", "a1 (1) unstable;\n\n  * X\n\n -- A <a@b>  Mon, 01 Jan 2024 10:00:00 +0000\n"},
	{"tabs", "a1 (1)\tunstable\tstable; urgency=low\t\n\n\t\t* X\n\n -- A <a@b>  Mon, 01 Jan 2024 10:00:00 +0000\n"},
	{"one blank before a change", "a1 (1) unstable; urgency=low\n\n * X\n  * Y\n\n -- A <a@b>  Mon, 01 Jan 2024 10:00:00 +0000\n"},
	{"not UTF-8", "a1 (1) unstable; urgency=low\n\n  * X \xff\n\n -- \xe9 <a@b>  Mon, 01 Jan 2024 10:00:00 +0000\n"},
	{"ancient format below", changelogText[:strings.Index(changelogText, "Local")] + "Thu Jan  1 1998  Bob <bob@example.org>\n\n\t* x\n"},
	{"blanks at line ends", "a1 (1) unstable; urgency=low   \n \n  * X  \n \t\n  * Y\n\n -- A <a@b>  Mon, 01 Jan 2024 10:00:00 +0000  \n"},
}

func TestParseChangelogWithDpkg(t *testing.T) {
	program := needProgram(t, "dpkg-parsechangelog")
	for _, tc := range oddChangelogs {
		t.Run(tc.name, func(t *testing.T) {
			got, err := ParseChangelog(strings.NewReader(tc.in), 1)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "changelog")
			if err := os.WriteFile(file, []byte(tc.in), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(program, "-l", file, "-n", "1")
			cmd.Env = append(os.Environ(), "LC_ALL=C", "DEB_VENDOR=Debian")
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			want, err := ParseParagraph(out, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			compareEntry(t, got[0], want)
		})
	}
}

// compareEntry compares an entry with the fields that dpkg-parsechangelog
// prints.
func compareEntry(t *testing.T, e ChangelogEntry, want *Paragraph) {
	t.Helper()
	date := ""
	if !e.Date.IsZero() {
		date = e.Date.UTC().Format(time.DateTime)
	}
	wantDate := ""
	if d, err := time.Parse("Mon, 2 Jan 2006 15:04:05 -0700", want.Get("Date")); err == nil {
		wantDate = d.UTC().Format(time.DateTime)
	} else if d, err := time.Parse("2 Jan 2006 15:04:05 -0700", want.Get("Date")); err == nil {
		wantDate = d.UTC().Format(time.DateTime)
	}
	urgency := e.Urgency
	if urgency == "" {
		urgency = "unknown"
	}
	for _, f := range []struct{ name, have, want string }{
		{"Source", e.Source, want.Get("Source")},
		{"Version", e.Version, want.Get("Version")},
		{"Distribution", strings.Join(e.Distributions, " "), want.Get("Distribution")},
		{"Urgency", urgency, want.Get("Urgency")},
		{"Maintainer", e.Maintainer, want.Get("Maintainer")},
		{"Date", date, wantDate},
		{"Changes", foldField("\n" + e.Changes), want.Get("Changes")},
	} {
		if f.have != f.want {
			t.Errorf("%s: %q, dpkg has %q", f.name, f.have, f.want)
		}
	}
}

// foldField does what dpkg does to print a value of several lines.
func foldField(value string) string {
	lines := strings.Split(strings.TrimRight(value, "\n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " \t")
		switch {
		case i == 0:
		case lines[i] == "":
			lines[i] = " ."
		default:
			lines[i] = " " + lines[i]
		}
	}
	return strings.Join(lines, "\n")
}

func TestParseChangelogRefuses(t *testing.T) {
	trailer := "\n\n  * X\n\n -- A <a@b>  Mon, 01 Jan 2024 10:00:00 +0000\n"
	for _, in := range []string{
		"", "\n\n", "no header\n", "  * only changes\n",
		"hello (1.0-) unstable; urgency=low" + trailer,
		"hello (x) unstable; urgency=low" + trailer,
		"Hello (1) unstable; urgency=low" + trailer,
		"hello (1) ; urgency=low" + trailer,
		"hello 1 unstable; urgency=low" + trailer,
		"hello (1) unstable; urgency=low\n\n  * X\x00\n",
		"../x (1) unstable; urgency=low" + trailer,
	} {
		if got, err := ParseChangelog(strings.NewReader(in), 1); err == nil {
			t.Errorf("%q is read as %+v", in, got)
		}
	}
}

func TestParseChangelogBounds(t *testing.T) {
	var limit *LimitError
	if _, err := ParseChangelog(endless{[]byte("a")}, 1); !errors.As(err, &limit) {
		t.Errorf("endless line: error %v, want a LimitError", err)
	}
	// What stands below the entries that are asked for is not read.
	in := changelogText[:strings.Index(changelogText, "hello (2.10-2)")+len("hello (2.10-2) unstable; urgency=low\n")]
	if got, err := ParseChangelog(&thenFail{strings.NewReader(in)}, 2); err != nil || len(got) != 2 {
		t.Errorf("two entries before the end: %d, %v", len(got), err)
	}
}

// thenFail reads without looking ahead and fails at the end.
type thenFail struct{ r *strings.Reader }

func (f *thenFail) Read(p []byte) (int, error) {
	if f.r.Len() == 0 {
		return 0, errors.New("read too far")
	}
	return f.r.Read(p)
}

func TestParseChangelogOlderEntryMayBeOdd(t *testing.T) {
	in := strings.Replace(changelogText, "(2.10-2)", "(2.10-)", 1)
	got, err := ParseChangelog(strings.NewReader(in), 0)
	if err != nil || len(got) != 3 || got[2].Version != "" {
		t.Errorf("%+v, %v", got, err)
	}
}
