package archive_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"dbuild/archive"
	"dbuild/archive/archivetest"
	"dbuild/internal/fault"
)

const packages = "dists/bookworm/main/binary-amd64/Packages"

func TestPackagesForms(t *testing.T) {
	tests := []struct {
		name   string
		shape  archivetest.Suite
		asked  string // the path that is fetched holds this
		gone   string // this file is missing on the mirror
		byHash bool
	}{
		{"gz by hash", archivetest.Suite{Forms: []string{".gz", ".xz", ""}}, "/by-hash/SHA256/", "", true},
		{"gz by name", archivetest.Suite{NoByHash: true, Forms: []string{".gz", ".xz"}}, "Packages.gz", "", false},
		{"xz", archivetest.Suite{NoByHash: true, Forms: []string{".xz", ".zst"}}, "Packages.xz", "", false},
		{"zst", archivetest.Suite{NoByHash: true, Forms: []string{".zst", ""}}, "Packages.zst", "", false},
		{"plain", archivetest.Suite{NoByHash: true, Forms: []string{""}}, "Packages", "", false},
		{"gz listed but missing", archivetest.Suite{NoByHash: true, Forms: []string{".gz", ".xz"}}, "Packages.xz", packages + ".gz", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, server := small(t, tt.shape)
			a.Remove(tt.gone)
			c := open(t, t.TempDir(), archive.Options{})
			st := mustUpdate(t, c, server.Source("bookworm"))
			path, err := c.Packages(t.Context(), st, "main", "amd64")
			if err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			row := st.Release.Files["main/binary-amd64/Packages"]
			if got := archivetest.SHA256(data); got != row.SHA256 || filepath.Base(path) != row.SHA256 {
				t.Errorf("%s holds %s, want %s", path, got, row.SHA256)
			}
			asked := server.Requests("Packages")
			if tt.byHash {
				asked = server.Requests("by-hash")
			}
			if len(asked) == 0 || !strings.Contains(asked[len(asked)-1].Path, tt.asked) {
				t.Errorf("asked %+v, want %q last", asked, tt.asked)
			}
			server.ClearRequests()
			if _, err := c.Packages(t.Context(), st, "main", "amd64"); err != nil || len(server.Requests("")) != 0 {
				t.Errorf("second time: %v, asked %+v", err, server.Requests(""))
			}
		})
	}
}

func TestPackagesNotListed(t *testing.T) {
	a, server := small(t, archivetest.Suite{Components: []string{"main", "contrib"}})
	c := open(t, t.TempDir(), archive.Options{})
	st := mustUpdate(t, c, server.Source("bookworm"))
	for _, tt := range [][2]string{{"main", "riscv64"}, {"non-free", "amd64"}, {"contrib", "amd64"}} {
		if path, err := c.Packages(t.Context(), st, tt[0], tt[1]); path != "" || err != nil {
			t.Errorf("%v: got %q, %v; want nothing", tt, path, err)
		}
	}

	text := a.ReleaseText("bookworm")
	var kept []string
	for line := range strings.Lines(text) {
		if !strings.HasSuffix(line, "binary-amd64/Packages\n") {
			kept = append(kept, line)
		}
	}
	a.Sign("bookworm", strings.Join(kept, ""))
	st = mustUpdate(t, c, server.Source("bookworm"))
	_, err := c.Packages(t.Context(), st, "main", "amd64")
	wantClass(t, err, fault.Input)
}

// TestPackagesRefuses has an index that is not what the Release names (F27).
func TestPackagesRefuses(t *testing.T) {
	for _, form := range []string{".gz", ".xz", ".zst", ""} {
		tests := []struct {
			name  string
			fault archivetest.Fault
			want  fault.Class
			again bool // one good answer after the bad one mends it
		}{
			{"flipped", archivetest.Fault{Flip: true}, fault.Trust, true},
			{"shorter than announced", archivetest.Fault{Truncate: 30}, fault.Network, true},
			{"announced shorter", archivetest.Fault{Short: 30}, fault.Trust, true},
			{"longer", archivetest.Fault{Extra: 1}, fault.Trust, true},
			{"endless", archivetest.Fault{Endless: true}, fault.Trust, true},
			{"empty", archivetest.Fault{Body: []byte{}}, fault.Network, true},
			{"web page", archivetest.Fault{HTML: true}, fault.Network, false},
			{"500", archivetest.Fault{Status: 500}, fault.Network, true},
			{"403", archivetest.Fault{Status: 403}, fault.Network, false},
		}
		for _, tt := range tests {
			t.Run(tt.name+form, func(t *testing.T) {
				t.Parallel()
				_, server := small(t, archivetest.Suite{Forms: []string{form}})
				c := open(t, t.TempDir(), archive.Options{})
				st := mustUpdate(t, c, server.Source("bookworm"))
				tt.fault.Path = "by-hash"
				server.Fault(tt.fault)
				_, err := c.Packages(t.Context(), st, "main", "amd64")
				wantClass(t, err, tt.want)
				noIndex(t, c, st)
				if !tt.again {
					return
				}
				server.ClearFaults()
				tt.fault.Times = 1
				server.Fault(tt.fault)
				if _, err := c.Packages(t.Context(), st, "main", "amd64"); err != nil {
					t.Errorf("one bad answer and then good ones: %v", err)
				}
			})
		}
	}
}

// noIndex checks that nothing is visible under the index's name.
func noIndex(t *testing.T, c *archive.Copy, st *archive.State) {
	t.Helper()
	path := c.IndexPath(st.Release.Files["main/binary-amd64/Packages"].SHA256)
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is there: %v", path, err)
	}
}

// TestPackagesSignedLie has compressed bytes that match the Release but unpack
// to something else, too much, or with bytes after the end.
func TestPackagesSignedLie(t *testing.T) {
	for _, form := range []string{".gz", ".xz", ".zst"} {
		for name, body := range map[string][]byte{
			"other content": archivetest.Compress(form, []byte("Package: evil\n")),
			"bomb":          archivetest.Compress(form, make([]byte, 8<<20)),
			"cut off":       cut(archivetest.Compress(form, make([]byte, 1000))),
			"not packed":    []byte("Package: evil\n"),
		} {
			t.Run(name+form, func(t *testing.T) {
				a, server := small(t, archivetest.Suite{NoByHash: true, Forms: []string{form}})
				old := a.Get(packages + form)
				text := a.ReleaseText("bookworm")
				a.Put(packages+form, body)
				a.Sign("bookworm", strings.Replace(text, row(old, "main/binary-amd64/Packages"+form), row(body, "main/binary-amd64/Packages"+form), 1))
				c := open(t, t.TempDir(), archive.Options{})
				st := mustUpdate(t, c, server.Source("bookworm"))
				_, err := c.Packages(t.Context(), st, "main", "amd64")
				wantClass(t, err, fault.Trust)
				noIndex(t, c, st)
			})
		}
	}
}

func cut(b []byte) []byte { return b[:len(b)-9] }

func row(data []byte, name string) string {
	return archivetest.SHA256(data) + " " + strconv.Itoa(len(data)) + " " + name + "\n"
}

// TestPackagesMirrorUpdate is F28: the mirror has a new Release and old
// indexes, or the reverse, for a while or for good.
func TestPackagesMirrorUpdate(t *testing.T) {
	// stages returns the archive before and after an upload.
	stages := func(t *testing.T, byHash bool) (a *archivetest.Archive, server *archivetest.Server, before, after map[string][]byte) {
		a, server = small(t, archivetest.Suite{NoByHash: !byHash})
		before = a.Snapshot()
		a.AddPackage("bookworm", "main", archivetest.Package{Name: "fresh", Version: "1", Architecture: "amd64"})
		a.SetDates("bookworm", time.Now().Add(-time.Minute), time.Time{})
		a.Publish("bookworm")
		return a, server, before, a.Snapshot()
	}
	mixed := func(releases, indexes map[string][]byte) map[string][]byte {
		m := map[string][]byte{}
		for name, data := range indexes {
			m[name] = data
		}
		m["dists/bookworm/InRelease"] = releases["dists/bookworm/InRelease"]
		return m
	}

	t.Run("old by-hash files are kept", func(t *testing.T) {
		a, server, before, after := stages(t, true)
		a.Restore(before)
		c := open(t, t.TempDir(), archive.Options{})
		st := mustUpdate(t, c, server.Source("bookworm"))
		a.Restore(after) // which still has the old files by hash
		for name, data := range before {
			if strings.Contains(name, "by-hash") {
				a.Put(name, data)
			}
		}
		sum := st.SHA256
		if _, err := c.Packages(t.Context(), st, "main", "amd64"); err != nil || st.SHA256 != sum {
			t.Errorf("got %v, want the old state with its index", err)
		}
	})
	t.Run("indexes went on", func(t *testing.T) {
		for _, byHash := range []bool{true, false} {
			a, server, before, after := stages(t, byHash)
			a.Restore(before)
			c := open(t, t.TempDir(), archive.Options{})
			st := mustUpdate(t, c, server.Source("bookworm"))
			old := st.SHA256
			a.Restore(after)
			removeByHash(a, before, after)
			path, err := c.Packages(t.Context(), st, "main", "amd64")
			if err != nil {
				t.Fatal(err)
			}
			if st.SHA256 == old {
				t.Error("the state is still the old one")
			}
			if _, err := archive.FindPackage(path, "fresh", "", ""); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("indexes lag and catch up", func(t *testing.T) {
		a, server, before, after := stages(t, false)
		a.Restore(mixed(after, before))
		c := open(t, t.TempDir(), archive.Options{})
		st := mustUpdate(t, c, server.Source("bookworm"))
		caughtUp := sync.OnceFunc(func() { a.Restore(after) })
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
				if len(server.Requests("InRelease")) > 1 {
					caughtUp()
					return
				}
			}
		})
		c.SlowUpdates()
		_, err := c.Packages(t.Context(), st, "main", "amd64")
		close(stop)
		wg.Wait()
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("never matches, by hash", func(t *testing.T) {
		a, server, before, after := stages(t, true)
		a.Restore(mixed(after, before))
		c := open(t, t.TempDir(), archive.Options{})
		st := mustUpdate(t, c, server.Source("bookworm"))
		_, err := c.Packages(t.Context(), st, "main", "amd64")
		wantClass(t, err, fault.Network)
		if n := len(server.Requests("InRelease")); n != 3 {
			t.Errorf("asked for InRelease %d times, want 3", n)
		}
		noIndex(t, c, st)
	})
	t.Run("never matches, by name", func(t *testing.T) {
		a, server, before, after := stages(t, false)
		a.Restore(mixed(after, before))
		c := open(t, t.TempDir(), archive.Options{})
		st := mustUpdate(t, c, server.Source("bookworm"))
		_, err := c.Packages(t.Context(), st, "main", "amd64")
		wantClass(t, err, fault.Trust)
	})
}

// removeByHash takes away the by-hash files that only the stage before had.
func removeByHash(a *archivetest.Archive, before, after map[string][]byte) {
	for name, data := range before {
		if strings.Contains(name, "by-hash") && !bytes.Contains(after["dists/bookworm/InRelease"], []byte(archivetest.SHA256(data))) {
			a.Remove(name)
		}
	}
}

func TestPrefetch(t *testing.T) {
	a, server := small(t, archivetest.Suite{Components: []string{"main", "contrib"}, Architectures: []string{"amd64", "arm64", "all"}})
	a.AddPackage("bookworm", "contrib", archivetest.Package{Name: "other", Version: "1", Architecture: "arm64"})
	a.Publish("bookworm")
	log := &notes{}
	dir := t.TempDir()
	c := open(t, dir, archive.Options{Report: log})
	st := mustUpdate(t, c, server.Source("bookworm", "main", "contrib"))
	if err := c.Prefetch(t.Context(), []*archive.State{st}, []string{"amd64", "arm64", "source"}); err != nil {
		t.Fatal(err)
	}
	offline := open(t, dir, archive.Options{Offline: true})
	for _, tt := range []struct{ component, arch, has string }{
		{"main", "amd64", "hello"},
		{"main", "all", "libfoo++1"}, // the Release does not say that the others have it
		{"contrib", "arm64", "other"},
	} {
		path, err := offline.Packages(t.Context(), st, tt.component, tt.arch)
		if err != nil {
			t.Errorf("%v: %v", tt, err)
			continue
		}
		if _, err := archive.FindPackage(path, tt.has, "", ""); err != nil {
			t.Errorf("%v: %v", tt, err)
		}
	}
	path, err := offline.Packages(t.Context(), st, "main", "source")
	if err != nil {
		t.Fatal(err)
	}
	entries, err := archive.FindSource(path, "hello", "")
	if err != nil || len(entries) != 1 {
		t.Fatalf("got %d entries, %v", len(entries), err)
	}
	files := st.Source.SourceFiles(entries[0])
	if n, _, err := c.Fetch(t.Context(), files); n != 2 || err != nil {
		t.Errorf("fetched %d source files, %v; want 2", n, err)
	}
	last := log.progress[len(log.progress)-1]
	if last.Label != "download" || last.Done != last.Total || last.Total == 0 {
		t.Errorf("last progress %+v, want a finished download", last)
	}
}

// TestPrefetchShared lets many copies of one directory fetch at once: every
// index is fetched once.
func TestPrefetchShared(t *testing.T) {
	_, server := small(t, archivetest.Suite{})
	server.Fault(archivetest.Fault{Path: "by-hash", Delay: 20 * time.Millisecond})
	dir, src := t.TempDir(), server.Source("bookworm")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			c := open(t, dir, archive.Options{})
			st, err := updateOne(t, c, src)
			if err == nil {
				_, err = c.Packages(t.Context(), st, "main", "amd64")
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(server.Requests("by-hash")); n != 1 {
		t.Errorf("the index was fetched %d times", n)
	}
}
