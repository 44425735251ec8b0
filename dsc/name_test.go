package dsc

import (
	"testing"

	"dbuild/deb"
)

func TestParseName(t *testing.T) {
	tests := []struct {
		arg  string
		want Name
		ok   bool
	}{
		{"hello", Name{"hello", "", ""}, true},
		{"libc++", Name{"libc++", "", ""}, true},
		{"hello=2.10-3", Name{"hello", "2.10-3", ""}, true},
		{"hello_2.10-3", Name{"hello", "2.10-3", ""}, true},
		{"hello=1:2.10-3", Name{"hello", "1:2.10-3", ""}, true},
		{"hello/bookworm", Name{"hello", "", "bookworm"}, true},
		{"hello=2.10-3/bookworm-backports", Name{"hello", "2.10-3", "bookworm-backports"}, true},
		{"", Name{}, false},
		{".", Name{}, false},
		{"..", Name{}, false},
		{"./hello", Name{}, false},
		{"/hello", Name{}, false},
		{"hello/", Name{}, false},
		{"hello/a/b", Name{}, false},
		{"hello/..", Name{}, false},
		{"hello.dsc", Name{}, false},
		{"hello_2.10-3.dsc", Name{}, false},
		{"hello_2.10-3_amd64.changes", Name{}, false},
		{"Hello", Name{}, false},
		{"-hello", Name{}, false},
		{"hello=", Name{}, false},
		{"hello=2.10-3;x", Name{}, false},
		{"hello world", Name{}, false},
	}
	for _, tt := range tests {
		t.Run(tt.arg, func(t *testing.T) {
			got, ok := ParseName(tt.arg)
			if ok != tt.ok || ok && got != tt.want {
				t.Fatalf("got %+v, %v", got, ok)
			}
			if again, ok := ParseName(got.String()); tt.ok && (!ok || again != got) {
				t.Errorf("%q does not come back", got)
			}
		})
	}
}

func TestSuite(t *testing.T) {
	entry := func(d ...string) deb.ChangelogEntry { return deb.ChangelogEntry{Distributions: d} }
	tests := []struct {
		name    string
		entries []deb.ChangelogEntry
		want    string
	}{
		{"none", nil, ""},
		{"released", []deb.ChangelogEntry{entry("bookworm"), entry("sid")}, "bookworm"},
		{"two", []deb.ChangelogEntry{entry("bookworm", "sid")}, "bookworm"},
		{"unreleased", []deb.ChangelogEntry{entry("UNRELEASED"), entry("UNRELEASED"), entry("sid")}, "sid"},
		{"never released", []deb.ChangelogEntry{entry("UNRELEASED")}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Suite(tt.entries); got != tt.want {
				t.Errorf("suite %q", got)
			}
		})
	}
}
