package buildenv

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func testLog(t *testing.T, limit int64) (*Log, func() string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	l := newLog(f, nil, limit)
	t.Cleanup(func() { _ = l.Close() })
	return l, func() string {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
}

func TestLogBoxes(t *testing.T) {
	l, text := testLog(t, 0)
	l.Title("hello 2.10-3 (amd64)", time.Date(2026, 11, 21, 8, 5, 0, 0, time.UTC))
	lines := strings.Split(strings.TrimSpace(text()), "\n")
	want := []string{
		"+" + strings.Repeat("=", 78) + "+",
		"| hello 2.10-3 (amd64)                         Sat, 21 Nov 2026 08:05:00 +0000 |",
		"+" + strings.Repeat("=", 78) + "+",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
}

func TestLogLimitAndExcerpt(t *testing.T) {
	l, text := testLog(t, 100)
	for i := range 50 {
		if _, err := fmt.Fprintf(l, "line %d \x1b[2J\n", i); err != nil {
			t.Fatal(err)
		}
	}
	if got := text(); strings.Count(got, "larger than 100 bytes") != 1 || len(got) > 200 {
		t.Errorf("log of %d bytes: %q", len(got), got)
	}
	last := l.Excerpt()
	if len(last) != excerptLines || last[len(last)-1] != `line 49 \x1b[2J` {
		t.Errorf("excerpt %q", last)
	}
	l.Printf("Status: %s", "successful")
	if got := text(); !strings.HasSuffix(got, "not kept\nStatus: successful\n") {
		t.Errorf("dbuild's own lines are not kept: %q", got)
	}
}

func TestLogTee(t *testing.T) {
	l, text := testLog(t, 0)
	l.Printf("before")
	second := filepath.Join(t.TempDir(), "second")
	f, err := os.Create(second)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.tee(f); err != nil {
		t.Fatal(err)
	}
	l.Printf("after")
	data, err := os.ReadFile(second)
	if err != nil || string(data) != text() || string(data) != "before\nafter\n" {
		t.Errorf("second log %q, first %q, %v", data, text(), err)
	}
}

func TestLogsOfOneSecond(t *testing.T) {
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for _, want := range []string{"a_1_amd64-T.build", "a_1_amd64-T-2.build", "a_1_amd64-T-3.build"} {
		f, err := openNewLog(dir, "a_1_amd64-T", os.Geteuid(), os.Getegid())
		if err != nil {
			t.Fatal(err)
		}
		if f.Name() != want {
			t.Errorf("log named %q, want %q", f.Name(), want)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain\ttext\n":          "plain\ttext\n",
		"Grüße":                  "Grüße",
		"\x1b]8;;evil\x07":       `\x1b]8;;evil\x07`,
		"a\rb\x00\x7f":           `a\x0db\x00\x7f`,
		"\xff\xfe":               `\xff\xfe`,
		"\u009b2J\u202e\u2066":   `\u009b2J\u202e\u2066`,
		"\uFFFD is a real glyph": "\uFFFD is a real glyph",
	} {
		if got := Printable(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzLogSanitise(f *testing.F) {
	f.Add("x\x1b[0m\xc2\x9b\u202e")
	f.Fuzz(func(t *testing.T, s string) {
		got := Printable(s)
		if !utf8.ValidString(got) || Printable(got) != got {
			t.Fatalf("%q becomes %q, which is not safe", s, got)
		}
		for _, r := range got {
			if r < ' ' && r != '\t' && r != '\n' || r >= 0x7f && r < 0xa0 {
				t.Fatalf("%q keeps %U", s, r)
			}
		}
	})
}

func TestRewriteRows(t *testing.T) {
	value := "\n aaaa 10 utils optional x_1.dsc\n bbbb 20 utils optional y.deb"
	want := "\n cccc 12 utils optional x_1.dsc\n bbbb 20 utils optional y.deb"
	if diff := cmp.Diff(want, rewriteRows(value, "x_1.dsc", "cccc", 12)); diff != "" {
		t.Error(diff)
	}
}

func TestBuildOptions(t *testing.T) {
	for _, tc := range []struct {
		env  string
		jobs int
		want string
	}{
		{"", 3, "parallel=3"},
		{"nocheck parallel=8", 0, "nocheck parallel=8"},
		{"nocheck parallel=8", 2, "nocheck parallel=2"},
	} {
		b := &build{req: Request{BuildOptions: tc.env, Jobs: tc.jobs}}
		if got := b.buildOptions(); got != tc.want {
			t.Errorf("%q with -j%d: %q, want %q", tc.env, tc.jobs, got, tc.want)
		}
	}
}
