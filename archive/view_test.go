package archive_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dbuild/archive"
	"dbuild/archive/archivetest"
	"dbuild/internal/fault"
)

// paths lists the files of a view.
func paths(t *testing.T, v *archive.View) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(v.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o644)
		if d.IsDir() {
			want = 0o755
		} else {
			rel, _ := filepath.Rel(v.Dir, path)
			list = append(list, rel)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode(), want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return list
}

func readText(t *testing.T, v *archive.View, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(v.Dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestView(t *testing.T) {
	_, server := small(t, archivetest.Suite{Components: []string{"main", "contrib"}, Date: time.Now().Add(30 * time.Minute)})
	_, mine := small(t, archivetest.Suite{Name: "./", Flat: true, NoByHash: true})
	c := open(t, t.TempDir(), archive.Options{})
	pinned := server.Source("bookworm", "main", "contrib")
	pinned.Pin = 100
	sts, err := c.Update(t.Context(), []archive.Source{pinned, mine.Source("./")})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Prefetch(t.Context(), sts, []string{"amd64"}); err != nil {
		t.Fatal(err)
	}
	files := []archive.File{helloFile(t, c, sts[0]), helloFile(t, c, sts[1])}
	if _, err := c.View(t.Context(), sts, "amd64", files); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("files that were not fetched: %v", err)
	}
	if _, _, err := c.Fetch(t.Context(), files); err != nil {
		t.Fatal(err)
	}
	v, err := c.View(t.Context(), sts, "amd64", files)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"0/dists/bookworm/InRelease",
		"0/dists/bookworm/main/binary-amd64/Packages",
		"0/pool/main/h/hello/hello_2.10-3_amd64.deb",
		"1/InRelease",
		"1/Packages",
		"1/hello_2.10-3_amd64.deb",
		"apt.conf",
		"keys/0.gpg",
		"keys/1.gpg",
		"preferences",
		"sources.list",
	}
	if diff := cmp.Diff(want, paths(t, v)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	const list = "deb [arch=amd64 by-hash=no signed-by=/run/dbuild/archive/keys/0.gpg check-date=no] file:/run/dbuild/archive/0 bookworm main contrib\n" +
		"deb [arch=amd64 by-hash=no signed-by=/run/dbuild/archive/keys/1.gpg] file:/run/dbuild/archive/1 ./\n"
	if diff := cmp.Diff(list, readText(t, v, "sources.list")); diff != "" {
		t.Errorf("sources.list (-want +got):\n%s", diff)
	}
	const pins = "Package: *\nPin: release a=bookworm,n=bookworm\nPin-Priority: 100\n\n"
	if diff := cmp.Diff(pins, readText(t, v, "preferences")); diff != "" {
		t.Errorf("preferences (-want +got):\n%s", diff)
	}
	if got := readText(t, v, "0/dists/bookworm/InRelease"); got != string(sts[0].InRelease) {
		t.Error("InRelease is not the one of the state")
	}
	other, err := c.View(t.Context(), sts, "amd64", nil)
	if err != nil || other.Dir == v.Dir {
		t.Errorf("a second view: %v", err)
	}
	for range 2 {
		if err := errors.Join(v.Close(), other.Close()); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(v.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the view is still there: %v", err)
	}
	check(t, c, files[0])
}

func TestViewExtend(t *testing.T) {
	_, server := small(t, archivetest.Suite{})
	c := open(t, t.TempDir(), archive.Options{})
	sts := []*archive.State{mustUpdate(t, c, server.Source("bookworm"))}
	f := helloFile(t, c, sts[0])
	v, err := c.View(t.Context(), sts, "amd64", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if err := c.Extend(v, sts, []archive.File{f}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that was not fetched: %v", err)
	}
	if _, _, err := c.Fetch(t.Context(), []archive.File{f}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.Extend(v, sts, []archive.File{f}); err != nil {
			t.Fatal(err)
		}
	}
	if got := readText(t, v, "0/"+f.Filename); archivetest.SHA256([]byte(got)) != f.SHA256 {
		t.Error("the file in the view is not the one of the pool")
	}
	f.URL += "x"
	f.Filename = "../../escape"
	if err := c.Extend(v, sts, []archive.File{f}); err != nil {
		t.Errorf("a file of another archive: %v", err)
	}
}

// TestViewBeside adds a file beside the archives; what apt makes of the view is
// known by its sum.
func TestViewBeside(t *testing.T) {
	_, server := small(t, archivetest.Suite{})
	c := open(t, t.TempDir(), archive.Options{})
	plain, pinned := server.Source("bookworm"), server.Source("bookworm")
	pinned.Pin = 100
	var sums []string
	for _, src := range []archive.Source{plain, plain, pinned} {
		st := mustUpdate(t, c, src)
		if err := c.Prefetch(t.Context(), []*archive.State{st}, []string{"amd64"}); err != nil {
			t.Fatal(err)
		}
		v, err := c.View(t.Context(), []*archive.State{st}, "amd64", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		cached := filepath.Join(t.TempDir(), "cached")
		if err := os.WriteFile(cached, []byte("text"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := v.AddFiles("apt", map[string]string{"pkgcache.bin": cached}); err != nil || readText(t, v, "apt/pkgcache.bin") != "text" {
			t.Errorf("add a file: %v", err)
		}
		wantClass(t, v.AddFiles("apt", map[string]string{"../escape": cached}), fault.Internal)
		info, err := os.Stat(filepath.Join(v.Dir, "sources.list"))
		if err != nil || time.Since(info.ModTime()) < 24*time.Hour {
			t.Errorf("sources.list is of %v, and apt would believe no cache: %v", info.ModTime(), err)
		}
		sum, err := v.Sum()
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, sum)
	}
	if sums[0] != sums[1] || sums[0] == sums[2] {
		t.Errorf("sums %q", sums)
	}
}

func TestViewDetachedExpired(t *testing.T) {
	_, server := small(t, archivetest.Suite{Name: "mine", Detached: true, ValidUntil: time.Now().Add(-time.Minute)})
	c := open(t, t.TempDir(), archive.Options{AllowExpired: true})
	st := mustUpdate(t, c, server.Source("mine"))
	if err := c.Prefetch(t.Context(), []*archive.State{st}, []string{"amd64"}); err != nil {
		t.Fatal(err)
	}
	v, err := c.View(t.Context(), []*archive.State{st}, "amd64", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	want := []string{"0/dists/mine/Release", "0/dists/mine/Release.gpg", "0/dists/mine/main/binary-amd64/Packages", "apt.conf", "keys/0.gpg", "preferences", "sources.list"}
	if diff := cmp.Diff(want, paths(t, v)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if !strings.Contains(readText(t, v, "sources.list"), "check-valid-until=no") {
		t.Error("apt would refuse the expired Release")
	}
}

func TestViewRefuses(t *testing.T) {
	_, server := small(t, archivetest.Suite{})
	c := open(t, t.TempDir(), archive.Options{})
	sts := []*archive.State{mustUpdate(t, c, server.Source("bookworm"))}
	if _, err := c.View(t.Context(), sts, "amd64", nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without indexes: %v", err)
	}
	_, err := c.View(t.Context(), sts, "amd64 trusted=yes", nil)
	wantClass(t, err, fault.Usage)
	left, err := os.ReadDir(filepath.Join(filepath.Dir(filepath.Dir(c.IndexPath("x"))), "views"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestViewReaped leaves a view as a killed process does.
func TestViewReaped(t *testing.T) {
	_, server := small(t, archivetest.Suite{})
	dir := t.TempDir()
	c := open(t, dir, archive.Options{})
	st := mustUpdate(t, c, server.Source("bookworm"))
	if err := c.Prefetch(t.Context(), []*archive.State{st}, []string{"amd64"}); err != nil {
		t.Fatal(err)
	}
	used, err := c.View(t.Context(), []*archive.State{st}, "amd64", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer used.Close()
	dead := filepath.Join(dir, "views", "dead")
	if err := os.MkdirAll(filepath.Join(dead, "root", "0"), 0o755); err != nil {
		t.Fatal(err)
	}
	open(t, dir, archive.Options{})
	if _, err := os.Stat(dead); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the dead view is still there: %v", err)
	}
	if _, err := os.Stat(used.Dir); err != nil {
		t.Errorf("the view in use is gone: %v", err)
	}
}

func TestFilesFromURIs(t *testing.T) {
	sum := strings.Repeat("a", 64)
	sts := []*archive.State{{Source: archive.Source{URL: "http://x/debian"}}, {Source: archive.Source{URL: "http://x/security"}}}
	printed := "Reading package lists...\nNeed to get 1 B.\n" +
		"'file:/run/dbuild/archive/0/pool/main/g/gcc/libstdc%2b%2b6_12%7e1_amd64.deb' libstdc++6_12~1_amd64.deb 613456 SHA256:" + sum + "\n" +
		"'file:///run/dbuild/archive/1/./x.deb' x.deb 1 SHA256:" + sum + "\n"
	want := []archive.File{
		{URL: "http://x/debian/pool/main/g/gcc/libstdc%2B%2B6_12~1_amd64.deb", Filename: "pool/main/g/gcc/libstdc++6_12~1_amd64.deb",
			Size: 613456, SHA256: sum, Name: "libstdc++6_12~1_amd64.deb"},
		{URL: "http://x/security/x.deb", Filename: "./x.deb", Size: 1, SHA256: sum, Name: "x.deb"},
	}
	got, err := archive.FilesFromURIs(sts, []byte(printed))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	for _, bad := range []string{
		"'http://x/y.deb' y.deb 1 SHA256:" + sum,
		"'file:/run/dbuild/archive/2/y.deb' y.deb 1 SHA256:" + sum,
		"'file:/run/dbuild/archive/0/y.deb' y.deb 1 MD5Sum:" + sum,
		"'file:/run/dbuild/archive/0/y.deb' y.deb -1 SHA256:" + sum,
		"'file:/run/dbuild/archive/0/%zz' y.deb 1 SHA256:" + sum,
		"'file:/run/dbuild/archive/0/y.deb' y.deb 1",
		"'",
	} {
		_, err := archive.FilesFromURIs(sts, []byte(bad))
		wantClass(t, err, fault.Internal)
	}
}
