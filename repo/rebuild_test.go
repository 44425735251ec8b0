package repo

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dbuild/internal/fault"
	"dbuild/sign"
)

// rowsText is everything that the database knows of a suite.
func (e *env) rowsText(t testing.TB) []string {
	t.Helper()
	rows, err := e.rows(t.Context(), "bookworm", `1 ORDER BY e.kind, e.name, e.version, e.arch`)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, r := range rows {
		all = append(all, strings.Join([]string{r.component, string(r.kind), r.name, r.version, r.arch, r.source,
			r.sourceVersion, r.section, r.sha256, itoa(r.size), r.path, string(r.text)}, "|"))
	}
	return all
}

func publishSome(t testing.TB, e *env) Upload {
	t.Helper()
	e.publish(t, upload(t, "2.10-3", append(source(t, "2.10-3", "orig", "debian"), pkg{}.build(t))...))
	u := upload(t, "1:3-1", pkg{version: "1:3-1"}.build(t),
		pkg{name: "hello-doc", version: "1:3-1", source: "hello", arch: "all"}.build(t),
		pkg{name: "hello-udeb", version: "1:3-1", source: "hello", ext: "udeb"}.build(t),
		pkg{name: "hello-extra", version: "7", source: "hello (1:3-1)"}.build(t))
	e.publish(t, u)
	return u
}

func TestDatabaseIsOnlyACache(t *testing.T) {
	e := newEnv(t)
	u := publishSome(t, e)
	want, indexes := e.rowsText(t), look(t, e.Dir(), "bookworm")

	fresh := openDB(t, filepath.Join(t.TempDir(), "other.db"))
	e.Repo.db = fresh
	if err := e.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, e.rowsText(t)); diff != "" {
		t.Errorf("rows (-before +rebuilt):\n%s", diff)
	}

	// A publish does the same by itself.
	e.Repo.db = openDB(t, filepath.Join(t.TempDir(), "third.db"))
	if p := e.publish(t, u); !p.Unchanged {
		t.Errorf("published: %+v", p)
	}
	if diff := cmp.Diff(want, e.rowsText(t)); diff != "" {
		t.Errorf("rows (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(indexes, look(t, e.Dir(), "bookworm")); diff != "" {
		t.Errorf("listing (-before +after):\n%s", diff)
	}
}

// An index that is written again from rebuilt rows has the same bytes.
func TestRebuiltRowsMakeTheSameIndex(t *testing.T) {
	release := func(e *env) map[string]string {
		cur, err := e.current("bookworm")
		if err != nil {
			t.Fatal(err)
		}
		sums := map[string]string{}
		for p, row := range cur.release.Files {
			sums[p] = row.SHA256
		}
		return sums
	}
	next := upload(t, "4", append(source(t, "4", "orig", "debian")[:0], pkg{version: "4"}.build(t))...)
	// In the order in which they came, of two architectures and of both.
	some := func(e *env) {
		publishSome(t, e)
		for _, p := range []pkg{{name: "zoo", arch: "arm64"}, {name: "yew", arch: "all"}, {name: "ash"}, {name: "elm", arch: "all"}, {name: "bay", arch: "arm64"}} {
			p.source = "hello"
			u := upload(t, "2.10-3", p.build(t))
			u.Build = "build-" + p.name
			e.publish(t, u)
		}
	}
	e := newEnv(t)
	some(e)
	e.publish(t, next)
	want := release(e)

	e = newEnv(t)
	some(e)
	e.Repo.db = openDB(t, filepath.Join(t.TempDir(), "other.db"))
	e.publish(t, next)
	if len(want) != 15 {
		t.Errorf("rows: %v", want)
	}
	if diff := cmp.Diff(want, release(e)); diff != "" {
		t.Errorf("rows of Release (-want +got):\n%s", diff)
	}
}

func TestLostSuiteFileIsRestored(t *testing.T) {
	e := newEnv(t)
	if err := e.CreateSuite(t.Context(), Suite{Name: "bookworm", Origin: "Example", NotAutomatic: true}); err != nil {
		t.Fatal(err)
	}
	n := &notes{}
	e.report = warnOnly{n}
	if err := os.Remove(filepath.Join(e.Dir(), "suites/bookworm.json")); err != nil {
		t.Fatal(err)
	}
	publishSome(t, e)
	cur, err := e.current("bookworm")
	if err != nil {
		t.Fatal(err)
	}
	if cur.release.Origin != "Example" || !cur.release.NotAutomatic || len(n.warn) != 1 {
		t.Errorf("Release: %+v, warnings %q", cur.release, n.warn)
	}
}

// The entries of two architectures come in one order that fits both, and an
// order that cannot be is no reason to stop.
func TestInOrder(t *testing.T) {
	list := func(names string) (l []entry) {
		for _, c := range names {
			arch := "amd64"
			switch {
			case c < 'a':
				arch = "all"
			case c > 'm':
				arch = "arm64"
			}
			l = append(l, entry{stanza: stanza{kind: kindDeb, name: string(c), version: "1", arch: arch}})
		}
		return l
	}
	for _, tt := range []struct{ amd64, arm64, want string }{
		{"", "", ""},
		{"abc", "", "abc"},
		{"aAbB", "nAoB", "anAboB"},
		{"AaB", "ABn", "AaBn"},
		{"aA", "n", "aAn"},
		{"AB", "BA", "AB"},
	} {
		got := ""
		for i, e := range inOrder([][]entry{list(tt.amd64), list(tt.arm64)}) {
			got += e.name
			if e.serial != int64(i)+1 {
				t.Errorf("serial %d at %d", e.serial, i)
			}
		}
		if got != tt.want {
			t.Errorf("inOrder(%q, %q) = %q, want %q", tt.amd64, tt.arm64, got, tt.want)
		}
	}
}

// What another key signed, or nobody, is not taken over into a generation that
// this repository's key signs.
func TestForeignGenerationIsNotSigned(t *testing.T) {
	other, err := sign.Generate("somebody else", time.Now().Add(-48*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		damage func(*testing.T, *env)
	}{
		{"another key", func(t *testing.T, e *env) { e.keys = []sign.Signer{other} }},
		{"changed Release", func(t *testing.T, e *env) {
			p := filepath.Join(e.Dir(), "dists/bookworm/Release")
			text := strings.Replace(string(readFile(t, p)), "Description: packages", "Description: Packages", 1)
			if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}},
		{"changed index", func(t *testing.T, e *env) {
			for _, form := range []string{".gz", ".zst"} {
				p := filepath.Join(e.Dir(), "dists/bookworm/main/binary-amd64/Packages"+form)
				if err := os.WriteFile(p, readFile(t, filepath.Join(e.Dir(), "dists/bookworm/main/source/Sources"+form)), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEnv(t)
			publishSome(t, e)
			e.Repo.db = openDB(t, filepath.Join(t.TempDir(), "other.db"))
			tt.damage(t, e)
			_, err := e.Publish(t.Context(), upload(t, "4", pkg{version: "4"}.build(t)))
			if fault.ClassOf(err) != fault.Trust {
				t.Errorf("class %q: %v", fault.ClassOf(err), err)
			}
		})
	}
}

func TestOneDamagedFormIsEnough(t *testing.T) {
	e := newEnv(t)
	u := publishSome(t, e)
	e.Repo.db = openDB(t, filepath.Join(t.TempDir(), "other.db"))
	if err := os.Truncate(filepath.Join(e.Dir(), "dists/bookworm/main/binary-amd64/Packages.gz"), 10); err != nil {
		t.Fatal(err)
	}
	if p := e.publish(t, u); !p.Unchanged {
		t.Errorf("published: %+v", p)
	}
}

func TestConcurrentPublishes(t *testing.T) {
	e := newEnv(t)
	var uploads []Upload
	for _, v := range []string{"1", "2", "3", "4", "5", "6"} {
		u := upload(t, v, pkg{version: v}.build(t))
		u.Build = "build-" + v
		uploads = append(uploads, u)
	}
	var wg sync.WaitGroup
	for _, u := range uploads {
		wg.Go(func() {
			if _, err := e.Publish(t.Context(), u); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if l := look(t, e.Dir(), "bookworm"); len(l) != len(uploads) {
		t.Errorf("listing: %v", l)
	}
}

func TestCollect(t *testing.T) {
	state := t.TempDir()
	e := openEnv(t, state)
	e.keep = 2
	var files []File
	for _, content := range []string{"a", "b", "c", "d", "e"} {
		f := pkg{content: content}.build(t)
		files = append(files, f)
		e.publish(t, upload(t, "2.10-3", f))
		e.clock.time = e.clock.time.Add(time.Minute)
	}
	pool := func() map[string]bool {
		sums := map[string]bool{}
		for p := range snapshot(t, filepath.Join(e.Dir(), "pool")) {
			if strings.HasSuffix(p, ".deb") {
				sums[sha(readFile(t, p))] = true
			}
		}
		return sums
	}
	if c, err := e.Collect(t.Context(), e.clock.now()); err != nil || c != (Collected{}) {
		t.Errorf("within the grace: %+v, %v", c, err)
	}
	if got := pool(); len(got) != len(files) {
		t.Errorf("%d files in the pool", len(got))
	}
	// A day later the last three generations stay: the current one and two.
	c, err := e.Collect(t.Context(), e.clock.now().Add(25*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if c.Generations != 2 || c.PoolFiles != 2 || c.Indexes != 4 {
		t.Errorf("collected %+v", c)
	}
	got := pool()
	for i, f := range files {
		if got[f.SHA256] != (i >= 2) {
			t.Errorf("file of publish %d in the pool: %v", i+1, got[f.SHA256])
		}
	}
	look(t, e.Dir(), "bookworm")
	e.publish(t, upload(t, "2.10-3", files[0]))
	look(t, e.Dir(), "bookworm")
}

func TestCollectInterrupted(t *testing.T) {
	for k := 1; ; k++ {
		e := newEnv(t)
		e.keep = 1
		for _, content := range []string{"a", "b", "c", "d"} {
			e.publish(t, upload(t, "2.10-3", pkg{content: content}.build(t)))
		}
		later := e.clock.now().Add(25 * time.Hour)
		n := 0
		e.before = func(string, string) error {
			if n++; n >= k {
				return errStopped
			}
			return nil
		}
		_, err := e.Collect(t.Context(), later)
		e.before = nil
		look(t, e.Dir(), "bookworm")
		if n < k {
			if err != nil || k < 5 {
				t.Fatalf("after %d steps: %v", k, err)
			}
			return
		}
		if !errors.Is(err, errStopped) {
			t.Fatalf("step %d: %v", k, err)
		}
		if _, err := e.Collect(t.Context(), later); err != nil {
			t.Fatal(err)
		}
		ns, err := e.generations("bookworm")
		if err != nil || len(ns) != 2 {
			t.Errorf("generations %v, %v", ns, err)
		}
	}
}

func TestLockIsWaitedFor(t *testing.T) {
	e := newEnv(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := e.write(t.Context(), func(*writer) error {
		_, err := e.Publish(ctx, upload(t, "2.10-3", pkg{}.build(t)))
		return err
	})
	if fault.ClassOf(err) != fault.Locked {
		t.Errorf("publish while another writes: %v", err)
	}
}
