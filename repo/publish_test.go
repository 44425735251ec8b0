package repo

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dbuild/internal/fault"
)

func TestPublishMakesASuite(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	e := newEnv(t)
	bin := pkg{content: "first", control: "Depends: libc6 (>= 2.36)\nFilename: pool/evil.deb\nSHA256: 00\n"}.build(t)
	doc := pkg{name: "hello-doc", source: "hello", arch: "all", section: "doc"}.build(t)
	u := upload(t, "2.10-3", append(source(t, "2.10-3", "orig", "debian"), bin, doc)...)
	u.Buildinfo = buildinfo("hello", "2.10-3", "/build/x", bin)
	p := e.publish(t, u)

	if p.Generation != 1 || p.Unchanged || p.Suite != "bookworm" || p.Path != e.Dir() || len(p.Replaced) != 0 {
		t.Errorf("published: %+v", p)
	}
	if got, err := os.Readlink(filepath.Join(e.Dir(), "dists/bookworm")); err != nil || got != ".bookworm.1" {
		t.Errorf("dists/bookworm is %q (%v)", got, err)
	}
	want := listing{
		"main/binary-amd64/Packages hello_2.10-3_amd64.deb":   bin.SHA256,
		"main/binary-amd64/Packages hello-doc_2.10-3_all.deb": doc.SHA256,
	}
	for _, f := range u.Files[:3] {
		want["main/source/Sources "+f.Name] = f.SHA256
	}
	if diff := cmp.Diff(want, look(t, e.Dir(), "bookworm")); diff != "" {
		t.Errorf("listing (-want +got):\n%s", diff)
	}
	for rel, mode := range map[string]os.FileMode{
		"":        0o755 | os.ModeDir,
		"key.asc": 0o644,
		"pool/bookworm/main/h/hello/hello_2.10-3_amd64.deb": 0o644,
		"pool/bookworm/main/h/hello/hello_2.10-3.dsc":       0o644,
		"dists/bookworm/InRelease":                          0o644,
		"dists/bookworm/main/binary-amd64":                  0o755 | os.ModeDir,
		"dists/bookworm/main/source/by-hash/SHA256":         0o755 | os.ModeDir,
		"builds/build-1/hello_2.10-3_amd64.changes":         0o644,
		"builds/build-1/hello_2.10-3_amd64.buildinfo":       0o644,
		"suites/bookworm.json":                              0o644,
	} {
		fi, err := os.Stat(filepath.Join(e.Dir(), rel))
		if err != nil {
			t.Error(err)
		} else if fi.Mode() != mode {
			t.Errorf("%s has mode %v, want %v", rel, fi.Mode(), mode)
		}
	}
}

func TestIndexText(t *testing.T) {
	e := newEnv(t)
	bin := pkg{control: "Filename: pool/evil.deb\nSHA256: 00\nX-Note:\n a folded field\n .\n with a dot\nDescription-md5: 11\n"}.build(t)
	src := source(t, "2.10-3", "orig", "debian")
	e.publish(t, upload(t, "2.10-3", append(src, bin)...))
	cur, err := e.current("bookworm")
	if err != nil {
		t.Fatal(err)
	}
	packages, err := e.indexBytes("bookworm", cur, "main/binary-amd64/Packages")
	if err != nil {
		t.Fatal(err)
	}
	want := `Package: hello
Version: 2.10-3
Architecture: amd64
Maintainer: Test <test@example.org>
Priority: optional
Section: devel
X-Note:
 a folded field
 .
 with a dot
Description: test package hello
Filename: pool/bookworm/main/h/hello/hello_2.10-3_amd64.deb
Size: SIZE
SHA256: HASH

`
	want = strings.NewReplacer("SIZE", itoa(bin.Size), "HASH", bin.SHA256).Replace(want)
	if diff := cmp.Diff(want, string(packages)); diff != "" {
		t.Errorf("Packages (-want +got):\n%s", diff)
	}
	sources, err := e.indexBytes("bookworm", cur, "main/source/Sources")
	if err != nil {
		t.Fatal(err)
	}
	var rows strings.Builder
	writeRows(t, &rows, "Files", "", src...)
	writeRows(t, &rows, "Checksums-Sha256", "", src...)
	want = `Package: hello
Format: 3.0 (quilt)
Binary: hello
Architecture: any
Version: 2.10-3
Maintainer: A Maintainer <a@example.org>
Standards-Version: 4.6.2
Build-Depends: debhelper-compat (= 13)
Package-List:
 hello deb devel optional arch=any
Section: devel
Priority: optional
` + rows.String() + `Directory: pool/bookworm/main/h/hello

`
	if diff := cmp.Diff(want, string(sources)); diff != "" {
		t.Errorf("Sources (-want +got):\n%s", diff)
	}
}

func TestPublishAgainTouchesNothing(t *testing.T) {
	e := newEnv(t)
	u := upload(t, "2.10-3", append(source(t, "2.10-3", "orig", "debian"), pkg{}.build(t))...)
	first := e.publish(t, u)
	before := snapshot(t, e.Dir())
	steps := 0
	e.before = func(string, string) error { steps++; return nil }
	again := e.publish(t, u)
	if !again.Unchanged || again.Generation != first.Generation || !again.Date.Equal(first.Date) {
		t.Errorf("published again: %+v, first %+v", again, first)
	}
	if diff := cmp.Diff(first.Files, again.Files); diff != "" {
		t.Errorf("files (-first +again):\n%s", diff)
	}
	if steps != 0 {
		t.Errorf("%d changes were made", steps)
	}
	if diff := cmp.Diff(before, snapshot(t, e.Dir())); diff != "" {
		t.Errorf("tree (-before +after):\n%s", diff)
	}
}

func TestRebuildReplaces(t *testing.T) {
	e := newEnv(t)
	first := pkg{content: "first"}.build(t)
	dbgsym := pkg{name: "hello-dbgsym", source: "hello", content: "first"}.build(t)
	doc := pkg{name: "hello-doc", source: "hello", arch: "all"}.build(t)
	src := source(t, "2.10-3", "orig", "debian")
	e.publish(t, upload(t, "2.10-3", append(src, first, dbgsym, doc)...))

	second := pkg{content: "second"}.build(t)
	p := e.publish(t, upload(t, "2.10-3", second))
	const dir = "pool/bookworm/main/h/hello/"
	wantReplaced := []string{dir + "hello-dbgsym_2.10-3_amd64.deb", dir + "hello_2.10-3_amd64.deb"}
	if diff := cmp.Diff(wantReplaced, p.Replaced); diff != "" {
		t.Errorf("replaced (-want +got):\n%s", diff)
	}
	if want := dir + second.SHA256[:12] + "/hello_2.10-3_amd64.deb"; p.Files[0].Path != want {
		t.Errorf("the rebuild is at %q, want %q", p.Files[0].Path, want)
	}
	if got := sha(readFile(t, filepath.Join(e.Dir(), dir, first.Name))); got != first.SHA256 {
		t.Error("the replaced file changed under clients of the generation before")
	}
	l := look(t, e.Dir(), "bookworm")
	if got := l["main/binary-amd64/Packages hello_2.10-3_amd64.deb"]; got != second.SHA256 {
		t.Errorf("the suite lists %s", got)
	}
	if _, ok := l["main/binary-amd64/Packages hello-dbgsym_2.10-3_amd64.deb"]; ok {
		t.Error("the debug package of the replaced build is still listed")
	}
	if _, ok := l["main/binary-amd64/Packages hello-doc_2.10-3_all.deb"]; !ok {
		t.Error("the package of another architecture is gone")
	}
	// Back to the first bytes: they are still where they were.
	if p := e.publish(t, upload(t, "2.10-3", first)); p.Files[0].Path != dir+first.Name {
		t.Errorf("the first build is at %q", p.Files[0].Path)
	}
	look(t, e.Dir(), "bookworm")
}

func TestReplacedSourceMovesAsAWhole(t *testing.T) {
	e := newEnv(t)
	e.publish(t, upload(t, "2.10-3", append(source(t, "2.10-3", "orig", "one"), pkg{}.build(t))...))
	src := source(t, "2.10-3", "orig", "two")
	p := e.publish(t, upload(t, "2.10-3", append(src, pkg{}.build(t))...))
	want := "pool/bookworm/main/h/hello/" + src[0].SHA256[:12] + "/hello_2.10-3.dsc"
	if p.Files[0].Path != want {
		t.Errorf("the .dsc is at %q, want %q", p.Files[0].Path, want)
	}
	if l := look(t, e.Dir(), "bookworm"); l["main/source/Sources "+src[2].Name] != src[2].SHA256 {
		t.Errorf("listing: %v", l)
	}
}

func TestArchitectureAllIsInEveryIndex(t *testing.T) {
	e := newEnv(t)
	doc := pkg{name: "hello-doc", source: "hello", arch: "all"}.build(t)
	e.publish(t, upload(t, "2.10-3", doc))
	arm := pkg{arch: "arm64"}.build(t)
	e.publish(t, upload(t, "2.10-3", arm))
	want := listing{
		"main/binary-amd64/Packages hello-doc_2.10-3_all.deb": doc.SHA256,
		"main/binary-arm64/Packages hello-doc_2.10-3_all.deb": doc.SHA256,
		"main/binary-arm64/Packages hello_2.10-3_arm64.deb":   arm.SHA256,
	}
	if diff := cmp.Diff(want, look(t, e.Dir(), "bookworm")); diff != "" {
		t.Errorf("listing (-want +got):\n%s", diff)
	}
	cur, err := e.current("bookworm")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"amd64", "arm64"}, cur.release.Architectures); diff != "" {
		t.Errorf("Architectures (-want +got):\n%s", diff)
	}
}

func TestComponentsAndInstallerPackages(t *testing.T) {
	e := newEnv(t)
	main := pkg{}.build(t)
	contrib := pkg{name: "hello-contrib", source: "hello", section: "contrib/devel"}.build(t)
	udeb := pkg{name: "hello-udeb", source: "hello", section: "debian-installer", ext: "udeb"}.build(t)
	u := upload(t, "2.10-3", main, contrib, udeb)
	u.Changes.Data = []byte(strings.ReplaceAll(string(u.Changes.Data), "devel optional hello-contrib", "contrib/devel optional hello-contrib"))
	e.publish(t, u)
	want := listing{
		"main/binary-amd64/Packages hello_2.10-3_amd64.deb":                        main.SHA256,
		"contrib/binary-amd64/Packages hello-contrib_2.10-3_amd64.deb":             contrib.SHA256,
		"main/debian-installer/binary-amd64/Packages hello-udeb_2.10-3_amd64.udeb": udeb.SHA256,
	}
	if diff := cmp.Diff(want, look(t, e.Dir(), "bookworm")); diff != "" {
		t.Errorf("listing (-want +got):\n%s", diff)
	}
	// The next publish does not touch, and so keeps, the installer's index.
	next := pkg{version: "2.10-4"}.build(t)
	e.publish(t, upload(t, "2.10-4", next))
	want["main/binary-amd64/Packages hello_2.10-4_amd64.deb"] = next.SHA256
	if diff := cmp.Diff(want, look(t, e.Dir(), "bookworm")); diff != "" {
		t.Errorf("listing after the next publish (-want +got):\n%s", diff)
	}
}

func TestDatesRise(t *testing.T) {
	for _, tt := range []struct {
		name  string
		step  time.Duration // of the clock, between two publishes
		slept time.Duration
		warns int
	}{
		{name: "next second", step: time.Second},
		{name: "same second", step: 0, slept: time.Second},
		{name: "a little back", step: -3 * time.Second, slept: 4 * time.Second},
		{name: "far back", step: -time.Hour, warns: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEnv(t)
			e.clock.time = e.clock.time.Truncate(time.Second)
			n := &notes{}
			e.report = warnOnly{n}
			first := e.publish(t, upload(t, "2.10-3", pkg{}.build(t)))
			e.clock.time = e.clock.time.Add(tt.step)
			second := e.publish(t, upload(t, "2.10-4", pkg{version: "2.10-4"}.build(t)))
			if tt.warns == 0 && !second.Date.After(first.Date) {
				t.Errorf("Date went from %v to %v", first.Date, second.Date)
			}
			if second.Date.After(e.clock.time) {
				t.Errorf("Date %v is ahead of %v", second.Date, e.clock.time)
			}
			if e.clock.slept != tt.slept || len(n.warn) != tt.warns {
				t.Errorf("slept %v with warnings %q", e.clock.slept, n.warn)
			}
			fi, err := os.Stat(filepath.Join(e.Dir(), "dists/bookworm/InRelease"))
			if err != nil || !fi.ModTime().Equal(second.Date) {
				t.Errorf("InRelease changed at %v, its Date is %v (%v)", fi.ModTime(), second.Date, err)
			}
		})
	}
}

func TestLinkedFileSharesItsInode(t *testing.T) {
	e := newEnv(t)
	f := pkg{}.build(t)
	f.Link = true
	p := e.publish(t, upload(t, "2.10-3", f))
	a, err := os.Stat(f.Path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.Stat(filepath.Join(e.Dir(), p.Files[0].Path))
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(a, b) || b.Mode() != 0o644 {
		t.Errorf("%v and %v", a.Mode(), b.Mode())
	}
}

func TestDeletedPoolFileIsPutBack(t *testing.T) {
	e := newEnv(t)
	u := upload(t, "2.10-3", pkg{}.build(t))
	p := e.publish(t, u)
	if err := os.Remove(filepath.Join(e.Dir(), p.Files[0].Path)); err != nil {
		t.Fatal(err)
	}
	if p := e.publish(t, u); !p.Unchanged {
		t.Errorf("published: %+v", p)
	}
	look(t, e.Dir(), "bookworm")
}

func TestSuiteIdentityIsFixed(t *testing.T) {
	e := newEnv(t)
	s := Suite{Name: "nightly", Origin: "Example", Label: "Example nightly", NotAutomatic: true, ButAutomaticUpgrades: true}
	for range 2 {
		if err := e.CreateSuite(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	if l := look(t, e.Dir(), "nightly"); len(l) != 0 {
		t.Errorf("a new suite lists %v", l)
	}
	s.Origin = "Other"
	if err := e.CreateSuite(t.Context(), s); fault.ClassOf(err) != fault.Usage {
		t.Errorf("another Origin: %v", err)
	}
	s.Origin, s.Components = "Example", []string{"main", "contrib"}
	if err := e.CreateSuite(t.Context(), s); err != nil {
		t.Errorf("one more component: %v", err)
	}
	u := upload(t, "2.10-3", pkg{}.build(t))
	u.Suite = "nightly"
	e.publish(t, u)
	cur, err := e.current("nightly")
	if err != nil {
		t.Fatal(err)
	}
	rel := cur.release
	if rel.Origin != "Example" || rel.Label != "Example nightly" || rel.Codename != "nightly" || !rel.NotAutomatic || !rel.ButAutomaticUpgrades || !rel.ByHash || len(rel.Components) != 2 {
		t.Errorf("Release: %+v", rel)
	}
	if suites, err := e.Suites(); err != nil || len(suites) != 1 || suites[0].Name != "nightly" {
		t.Errorf("suites: %v (%v)", suites, err)
	}
}

func TestSuiteNamesThatAreRefused(t *testing.T) {
	e := newEnv(t)
	for _, name := range []string{"", ".", "..", "../stable", "a/b", ".bookworm.1", "a b", "-x", "a\n"} {
		u := upload(t, "2.10-3", pkg{}.build(t))
		u.Suite = name
		if _, err := e.Publish(t.Context(), u); fault.ClassOf(err) != fault.Usage {
			t.Errorf("suite %q: %v", name, err)
		}
	}
}

func TestCancelledPublishChangesNothing(t *testing.T) {
	e := newEnv(t)
	e.publish(t, upload(t, "2.10-3", pkg{}.build(t)))
	e.sleep = sleep
	e.now = time.Now
	e.publish(t, upload(t, "2.10-4", pkg{version: "2.10-4"}.build(t)))
	before := look(t, e.Dir(), "bookworm")
	ctx, cancel := contextEndingAt(t, e, "write", "Release")
	defer cancel()
	_, err := e.Publish(ctx, upload(t, "2.10-5", pkg{version: "2.10-5"}.build(t)))
	if fault.ClassOf(err) != fault.Interrupted {
		t.Errorf("cancelled publish: %v", err)
	}
	if diff := cmp.Diff(before, look(t, e.Dir(), "bookworm")); diff != "" {
		t.Errorf("listing (-before +after):\n%s", diff)
	}
	var rejected *RejectedError
	if errors.As(err, &rejected) {
		t.Error("a cancelled publish is called rejected")
	}
}
