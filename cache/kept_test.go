package cache

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func (f *fixture) keep(input, text string) KeptDir {
	f.t.Helper()
	old := time.Unix(1000, 0)
	sum, err := f.KeepFile(strings.NewReader(text), old)
	must(f.t, err)
	info, err := os.Stat(f.KeptPath(sum))
	must(f.t, err)
	if !info.ModTime().Equal(old) {
		f.t.Errorf("the file has time %v", info.ModTime())
	}
	d := KeptDir{Links: map[string]string{"lists/x": "/target"}, Files: map[string]string{"cache": sum}}
	must(f.t, f.Keep(ctx, input, d))
	return d
}

func TestKept(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(t *testing.T, f *fixture, d KeptDir)
		there bool
	}{
		{"untouched", func(*testing.T, *fixture, KeptDir) {}, true},
		{"file altered", func(t *testing.T, f *fixture, d KeptDir) { rewrite(t, f.KeptPath(d.Files["cache"]), flip) }, false},
		{"file gone", func(t *testing.T, f *fixture, d KeptDir) { must(t, os.Remove(f.KeptPath(d.Files["cache"]))) }, false},
		{"row altered", func(t *testing.T, f *fixture, _ KeptDir) {
			_, err := f.db.ExecContext(ctx, "UPDATE memo SET value = replace(value, '/target', '/another') WHERE key = 'kept input'")
			must(f.t, err)
		}, false},
		{"row of another input", func(t *testing.T, f *fixture, _ KeptDir) {
			_, err := f.db.ExecContext(ctx, "UPDATE memo SET value = (SELECT value FROM memo WHERE key = 'kept other'), mac = (SELECT mac FROM memo WHERE key = 'kept other') WHERE key = 'kept input'")
			must(f.t, err)
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, true)
			d := f.keep("input", "content")
			f.keep("other", "another content")
			test.spoil(t, f, d)
			got, there := f.Kept(ctx, "input")
			if there != test.there {
				t.Fatalf("there: %v", there)
			}
			if diff := cmp.Diff(d, got); there && diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestKeptIsBounded(t *testing.T) {
	f := newFixture(t, true)
	for _, input := range []string{"a", "b", "c", "d", "e"} {
		f.keep(input, input)
	}
	if _, there := f.Kept(ctx, "a"); there {
		t.Errorf("more than %d directories are kept", maxKept)
	}
	if _, there := f.Kept(ctx, "b"); !there {
		t.Error("too few are kept")
	}
}
