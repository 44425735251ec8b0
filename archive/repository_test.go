package archive_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dbuild/archive"
	"dbuild/archive/archivetest"
	"dbuild/internal/fault"
)

func TestParseRepository(t *testing.T) {
	keys := []string{"/k"}
	for text, want := range map[string][]archive.Source{
		"deb http://h/debian/ sid main contrib": {{URL: "http://h/debian", Suite: "sid", Components: []string{"main", "contrib"}, Keyrings: keys, Extra: true}},
		" deb [signed-by=/a.asc lang=none] https://h/x ./ ": {
			{URL: "https://h/x", Suite: "./", Flat: true, Keyrings: []string{"/a.asc"}, Extra: true},
		},
		"deb file:/srv/repo local main": {{URL: "file:///srv/repo", Suite: "local", Components: []string{"main"}, Keyrings: keys, Extra: true}},
		"Types: deb deb-src\nURIs: http://h\nSuites: a b\nComponents: main\nSigned-By: /b.asc\n": {
			{URL: "http://h", Suite: "a", Components: []string{"main"}, Keyrings: []string{"/b.asc"}, Extra: true},
			{URL: "http://h", Suite: "b", Components: []string{"main"}, Keyrings: []string{"/b.asc"}, Extra: true},
		},
	} {
		got, err := archive.ParseRepository(text, keys)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
	for _, bad := range []string{
		"", "deb", "http://h sid main", "deb http://h", "deb http://h sid", "deb http://h ./ main", "deb-src http://h sid main",
		"deb [trusted=yes] http://h sid main", "deb [ arch=amd64 allow-insecure=yes ] http://h sid main", "deb [frobnicate=1] http://h sid main",
		"deb ftp://h sid main", "deb http://h ../.. main", "deb file:/srv/../x sid main", "deb [signed-by=a.asc] http://h sid main",
		"deb http://h sid main\ndeb http://i sid main", "Types: deb\nURIs: http://h\nSuites: a\nComponents: main\nTrusted: yes",
		"Types: deb-src\nURIs: http://h\nSuites: a\nComponents: main", "Types: deb\nURIs: http://h\nComponents: main",
	} {
		if got, err := archive.ParseRepository(bad, keys); fault.ClassOf(err) != fault.Usage {
			t.Errorf("%q: %+v, %v", bad, got, err)
		}
	}
}

// A directory of this machine is an archive like others, and read anew whatever
// the settings for the network are.
func TestLocalRoot(t *testing.T) {
	a, _ := small(t, archivetest.Suite{Name: "local"})
	dir := t.TempDir()
	a.WriteTo(dir)
	c := open(t, t.TempDir(), archive.Options{Offline: true, MaxAge: time.Hour})
	src := archive.Source{URL: "file://" + dir, Suite: "local", Components: []string{"main"}, Keyrings: []string{a.Keyring()}, Extra: true}
	st := mustUpdate(t, c, src)
	paths, err := c.PackageIndexes(t.Context(), st, "amd64")
	if err != nil || len(paths) != 1 {
		t.Fatal(paths, err)
	}
	hello, err := archive.FindPackage(paths[0], "hello", "", "")
	if err != nil {
		t.Fatal(err)
	}
	file := st.Source.File(hello)
	deb := filepath.Join(dir, hello.Filename)
	good, err := os.ReadFile(deb)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(deb, append(good[:len(good)-1:len(good)-1], 'x'), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Fetch(t.Context(), []archive.File{file}); fault.ClassOf(err) != fault.Trust {
		t.Errorf("another file under the name: %v", err)
	}
	if err := os.WriteFile(deb, good, 0o644); err != nil {
		t.Fatal(err)
	}
	if n, _, err := c.Fetch(t.Context(), []archive.File{file}); n != 1 || err != nil {
		t.Errorf("fetched %d, %v", n, err)
	}
	a.SetDates("local", time.Now().Add(-time.Minute), time.Time{})
	a.Publish("local")
	a.WriteTo(dir)
	if again := mustUpdate(t, c, src); !again.Date.After(st.Date) {
		t.Errorf("the new Release was not read: %s", again.Date)
	}
	src.Extra = false
	if _, err := c.Update(t.Context(), []archive.Source{src}); fault.ClassOf(err) != fault.Usage {
		t.Errorf("a suite's mirror may not be a directory: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "dists")); err != nil {
		t.Fatal(err)
	}
	src.Extra = true
	if _, err := c.Update(t.Context(), []archive.Source{src}); fault.ClassOf(err) != fault.Network {
		t.Errorf("nothing there: %v", err)
	}
}

// Packages without an archive get a signed index of their own, which a real apt
// verifies and prefers among equal versions.
func TestOneShot(t *testing.T) {
	a, server := small(t, archivetest.Suite{})
	_ = a
	dir := t.TempDir()
	write := func(name string, p archivetest.Package) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, p.Deb(), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	mine := write("mine.deb", archivetest.Package{Name: "mine", Version: "1:1.0", Architecture: "amd64", Depends: "hello"})
	hello := write("hello.deb", archivetest.Package{Name: "hello", Version: "2.10-3", Architecture: "amd64", Files: map[string]string{"usr/share/mine": "mine"}})
	c := open(t, t.TempDir(), archive.Options{})
	st, files, err := c.OneShot(t.Context(), []string{mine, hello}, a.Key, a.Keyring())
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 2 || files[0].Filename != "mine_1.0_amd64.deb" || !st.Source.Offers(files[1]) {
		t.Fatalf("%+v", files)
	}
	sts := []*archive.State{st, mustUpdate(t, c, server.Source("bookworm"))}
	if err := c.Prefetch(t.Context(), sts, []string{"amd64"}); err != nil {
		t.Fatal(err)
	}
	v, err := c.View(t.Context(), sts, "amd64", files)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	apt := newApt(t, v)
	apt.run(t, "update")
	planned, err := archive.FilesFromURIs(sts, apt.printed(t, "install", "mine"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range planned {
		planned[i].Name = ""
	}
	for i := range files {
		files[i].Name = ""
	}
	if diff := cmp.Diff([]archive.File{files[1], files[0]}, planned); diff != "" {
		t.Error(diff)
	}

	other := write("other.deb", archivetest.Package{Name: "mine", Version: "1:1.0", Architecture: "amd64"})
	if _, _, err := c.OneShot(t.Context(), []string{mine, other}, a.Key, a.Keyring()); fault.ClassOf(err) != fault.Input {
		t.Errorf("two contents of one version: %v", err)
	}
	if err := os.WriteFile(other, []byte("!<arch>\nno package"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.OneShot(t.Context(), []string{other}, a.Key, a.Keyring()); fault.ClassOf(err) != fault.Input {
		t.Errorf("not a package: %v", err)
	}
}
