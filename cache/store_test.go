package cache

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dbuild/engine"
	"dbuild/internal/fault"
)

var ctx = context.Background()

func TestAddAndFind(t *testing.T) {
	for name, sealed := range map[string]bool{"plain engine": false, "sealing engine": true} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, sealed)
			if _, err := f.Base(ctx, policy()); !errors.Is(err, ErrNotFound) {
				t.Fatalf("empty store: %v", err)
			}
			base := f.addBase("usr/bin/su")
			deps := f.addDeps(base, "debhelper")
			deeper := f.addDeps(deps, "cmake")
			got, err := f.Base(ctx, policy())
			must(t, err)
			must(t, check(got), got.Close(), got.Close())
			if got.Hash != base.Hash || got.Image.ID != base.Image.ID {
				t.Errorf("base is %+v", got)
			}
			for _, want := range []*Entry{deps, deeper} {
				got, err := f.Deps(ctx, policy(), want.depsKey())
				must(t, err)
				must(t, check(got), got.Verify(ctx), got.Close())
				if got.Hash != want.Hash || got.Base().Kind != KindBase {
					t.Errorf("deps is %+v", got)
				}
			}
			if want := len(deeper.Chain); want != 2 {
				t.Errorf("chain has %d parents", want)
			}
			if _, err := f.Deps(ctx, policy(), DepsKey([]Package{pkg("x")}, "1")); !errors.Is(err, ErrNotFound) {
				t.Errorf("unknown key: %v", err)
			}
			// What the base holds already needs no image of its own.
			same, err := f.Deps(ctx, policy(), base.depsKey())
			must(t, err)
			must(t, same.Close())
			if same.Hash != base.Hash {
				t.Errorf("got %s", same.Hash)
			}
		})
	}
}

func TestBasePrefersTheNewest(t *testing.T) {
	f := newFixture(t, false)
	f.addBase("one")
	second := f.addBase("two")
	got, err := f.Base(ctx, policy())
	must(t, err, got.Close())
	if got.Hash != second.Hash {
		t.Error("the older base was chosen")
	}
	must(t, f.fake.Remove(ctx, second.Image.ID))
	got, err = f.Base(ctx, policy())
	must(t, err, got.Close())
	if got.Hash == second.Hash || !f.notes.has("is gone from the engine") {
		t.Errorf("got %s, notes %q", got.Hash, f.notes.text)
	}
}

func TestPolicy(t *testing.T) {
	f := newFixture(t, false)
	e, err := f.AddBase(ctx, f.image(""), func() Statement {
		st := baseStatement()
		st.Switches = []string{"allow-expired"}
		return st
	}())
	must(t, err, e.Close())
	good := policy()
	good.Switches = []string{"network", "allow-expired"}
	got, err := f.Base(ctx, good)
	must(t, err, got.Close())
	for name, change := range map[string]func(p *Policy){
		"suite":              func(p *Policy) { p.Suite = "trixie" },
		"architecture":       func(p *Policy) { p.Arch = "arm64" },
		"host architecture":  func(p *Policy) { p.HostArch = "arm64" },
		"variant":            func(p *Policy) { p.Variant = "minbase" },
		"recipe":             func(p *Policy) { p.Recipe = "2" },
		"fewer components":   func(p *Policy) { p.Components = nil },
		"more components":    func(p *Policy) { p.Components = []string{"main", "contrib"} },
		"other suites":       func(p *Policy) { p.Suites = []string{"bookworm"} },
		"more suites":        func(p *Policy) { p.Suites = append(p.Suites, "bookworm-updates") },
		"other archive keys": func(p *Policy) { p.Keys = []string{"ABCD"} },
		"no archive keys":    func(p *Policy) { p.Keys = nil },
		"fewer switches":     func(p *Policy) { p.Switches = []string{"network"} },
	} {
		t.Run(name, func(t *testing.T) {
			p := good
			change(&p)
			if e, err := f.Base(ctx, p); !errors.Is(err, ErrNotFound) {
				t.Errorf("got %v, %v", e, err)
			}
		})
	}
}

// rewrite changes a file of the store.
func rewrite(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err, os.WriteFile(path, change(b), 0o600))
}

func flip(b []byte) []byte {
	b[len(b)/2] ^= 1
	return b
}

// TestTampering changes what is stored behind the store's back. Each change
// must be refused with class trust.
func TestTampering(t *testing.T) {
	type state struct {
		*fixture
		base, deps *Entry
	}
	for _, test := range []struct {
		name   string
		change func(t *testing.T, s state)
	}{
		{"byte of the statement", func(t *testing.T, s state) { rewrite(t, s.statementPath(s.deps.Hash), flip) }},
		{"byte of the parent's statement", func(t *testing.T, s state) { rewrite(t, s.statementPath(s.base.Hash), flip) }},
		{"byte of the signature", func(t *testing.T, s state) { rewrite(t, s.statementPath(s.deps.Hash)+".asc", flip) }},
		{"statement empty", func(t *testing.T, s state) { must(t, os.Truncate(s.statementPath(s.deps.Hash), 0)) }},
		{"statement missing", func(t *testing.T, s state) { must(t, os.Remove(s.statementPath(s.deps.Hash))) }},
		{"signature missing", func(t *testing.T, s state) { must(t, os.Remove(s.statementPath(s.deps.Hash)+".asc")) }},
		{"statement is a link", func(t *testing.T, s state) {
			p := s.statementPath(s.deps.Hash)
			must(t, os.Rename(p, p+".x"), os.Symlink(p+".x", p))
		}},
		{"signature of another statement", func(t *testing.T, s state) {
			b, err := os.ReadFile(s.statementPath(s.base.Hash) + ".asc")
			must(t, err, os.WriteFile(s.statementPath(s.deps.Hash)+".asc", b, 0o600))
		}},
		{"statement of another image", func(t *testing.T, s state) {
			for _, ext := range []string{"", ".asc"} {
				b, err := os.ReadFile(s.statementPath(s.base.Hash) + ext)
				must(t, err, os.WriteFile(s.statementPath(s.deps.Hash)+ext, b, 0o600))
			}
		}},
		{"signed by another key", func(t *testing.T, s state) {
			data, err := os.ReadFile(s.statementPath(s.deps.Hash))
			must(t, err)
			sig, err := newKey(t).DetachSign(data, s.now, string(KindDeps))
			must(t, err, os.WriteFile(s.statementPath(s.deps.Hash)+".asc", sig, 0o600))
		}},
		{"signed as another kind", func(t *testing.T, s state) {
			data, err := os.ReadFile(s.statementPath(s.deps.Hash))
			must(t, err)
			sig, err := s.key.DetachSign(data, s.now, string(KindBuild))
			must(t, err, os.WriteFile(s.statementPath(s.deps.Hash)+".asc", sig, 0o600))
		}},
		{"signed without a kind", func(t *testing.T, s state) {
			data, err := os.ReadFile(s.statementPath(s.deps.Hash))
			must(t, err)
			sig, err := s.key.DetachSign(data, s.now, "")
			must(t, err, os.WriteFile(s.statementPath(s.deps.Hash)+".asc", sig, 0o600))
		}},
		{"byte of head", func(t *testing.T, s state) { rewrite(t, s.headPath(), flip) }},
		{"head missing", func(t *testing.T, s state) { must(t, os.Remove(s.headPath())) }},
		{"head empty", func(t *testing.T, s state) { must(t, os.Truncate(s.headPath(), 0)) }},
		{"head by another key", func(t *testing.T, s state) {
			rewrite(t, s.headPath(), func(b []byte) []byte {
				line, _, _ := bytes.Cut(b, []byte("\n"))
				sig, err := newKey(t).DetachSign(append(line, '\n'), s.now, kindHead)
				must(t, err)
				return append(line, append([]byte("\n"), sig...)...)
			})
		}},
		{"head says another key", func(t *testing.T, s state) {
			h, err := s.readHead(ctx)
			must(t, err)
			for i := range h.Entries {
				h.Entries[i].Key = s.deps.depsKey()
				h.Entries[i].Kind = KindDeps
			}
			must(t, s.writeHead(ctx, h))
		}},
		{"deps on a base of another suite", func(t *testing.T, s state) {
			st := baseStatement()
			st.Suite = "trixie"
			other, err := s.AddBase(ctx, s.image("", "x"), st)
			must(t, err, other.Close())
			forged := s.deps.Statement
			forged.Parent, forged.Seq = other.Hash, other.Statement.Seq
			hash, err := s.writeStatement(forged)
			must(t, err)
			h, err := s.readHead(ctx)
			must(t, err)
			h.Entries = append(h.Entries, headEntry{Statement: hash, Kind: KindDeps, Key: forged.key(), Engine: s.engineName(), Parent: forged.Parent})
			must(t, s.writeHead(ctx, h))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, true)
			base := f.addBase()
			deps := f.addDeps(base, "debhelper")
			got, err := f.Deps(ctx, policy(), deps.depsKey())
			must(t, err, got.Close())
			test.change(t, state{f, base, deps})
			got, err = f.Deps(ctx, policy(), deps.depsKey())
			if fault.ClassOf(err) != fault.Trust || errors.Is(err, ErrNotFound) {
				t.Fatalf("got %v, %v", got, err)
			}
			if !strings.Contains(err.Error(), f.dir) || fault.HintOf(err) == "" {
				t.Errorf("error names no file or no way out: %v", err)
			}
		})
	}
}

func TestOlderPairPutBack(t *testing.T) {
	f := newFixture(t, false)
	dir := f.dir
	old := f.addBase("old")
	saved := filepath.Join(t.TempDir(), "images")
	must(t, os.CopyFS(saved, os.DirFS(dir)))
	f.addBase("new")
	must(t, f.Remove(ctx, old.Hash))
	// Only the pair: it is not in force and never used.
	for _, ext := range []string{"", ".asc"} {
		b, err := os.ReadFile(filepath.Join(saved, "statements", old.Hash+".json"+ext))
		must(t, err, os.WriteFile(f.statementPath(old.Hash)+ext, b, 0o600))
	}
	got, err := f.Base(ctx, policy())
	must(t, err, got.Close())
	if got.Hash == old.Hash {
		t.Error("a retired base is used")
	}
	// The pair with its head.
	b, err := os.ReadFile(filepath.Join(saved, "head"))
	must(t, err, os.WriteFile(f.headPath(), b, 0o600))
	if _, err := f.Base(ctx, policy()); fault.ClassOf(err) != fault.Trust || !strings.Contains(err.Error(), "put back") {
		t.Errorf("got %v", err)
	}
	// The way out.
	must(t, f.Discard(ctx))
	if _, err := f.Base(ctx, policy()); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestAnotherImageKey(t *testing.T) {
	f := newFixture(t, false)
	f.addBase()
	f.open(f.dir, false, newKey(t), "boot-1")
	if _, err := f.Base(ctx, policy()); fault.ClassOf(err) != fault.Trust {
		t.Errorf("got %v", err)
	}
}

func TestCheckFindsChangedFiles(t *testing.T) {
	for name, sealed := range map[string]bool{"plain engine": false, "sealing engine": true} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, sealed)
			base := f.addBase()
			deps := f.addDeps(base, "debhelper")
			if !sealed {
				f.open(f.dir, sealed, f.key, "boot-2")
			}
			got, err := f.Deps(ctx, policy(), deps.depsKey())
			must(t, err)
			defer got.Close()
			must(t, check(got))
			file := filepath.Join(f.fake.path(base.Image.ID), "etc/passwd")
			st, err := os.Stat(file)
			must(t, err)
			time.Sleep(15 * time.Millisecond)
			rewrite(t, file, flip)
			must(t, os.Chtimes(file, st.ModTime(), st.ModTime()))
			if !sealed {
				f.open(f.dir, sealed, f.key, "boot-3")
				got.store = f.Store
			}
			err = check(got)
			if fault.ClassOf(err) != fault.Trust || !errors.Is(err, engine.ErrDamaged) {
				t.Errorf("got %v", err)
			}
			if err := got.Verify(ctx); fault.ClassOf(err) != fault.Trust {
				t.Errorf("verify: got %v", err)
			}
		})
	}
}

func TestCheckHashesOncePerBoot(t *testing.T) {
	f := newFixture(t, true)
	f.addBase()
	checked := func() int {
		e, err := f.Base(ctx, policy())
		must(t, err)
		before := f.fake.digests
		must(t, check(e), e.Close())
		return f.fake.digests - before
	}
	if n := checked(); n != 0 {
		t.Errorf("hashed %d times although just made", n)
	}
	f.open(f.dir, true, f.key, "boot-2")
	if n := checked(); n != 1 {
		t.Errorf("hashed %d times after a boot", n)
	}
	if n := checked(); n != 0 {
		t.Errorf("hashed %d times again", n)
	}
}

func TestSealFileDamaged(t *testing.T) {
	f := newFixture(t, true)
	base := f.addBase()
	rewrite(t, f.sealPath(base.Statement.Engine.Seal), flip)
	e, err := f.Base(ctx, policy())
	must(t, err)
	defer e.Close()
	if err := check(e); fault.ClassOf(err) != fault.Trust {
		t.Errorf("got %v", err)
	}
}

func TestUnfitTreeIsRefused(t *testing.T) {
	f := newFixture(t, true)
	img := f.image("")
	must(t, os.Remove(filepath.Join(f.fake.path(img.ID), "proc")), os.Symlink("/etc", filepath.Join(f.fake.path(img.ID), "proc")))
	if _, err := f.AddBase(ctx, img, baseStatement()); fault.ClassOf(err) != fault.Trust {
		t.Errorf("got %v", err)
	}
	if _, err := f.Base(ctx, policy()); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestSetIDIsRecorded(t *testing.T) {
	f := newFixture(t, true)
	img := f.image("", "usr/bin/su", "usr/bin/odd\xff")
	for _, name := range []string{"usr/bin/su", "usr/bin/odd\xff"} {
		must(t, os.Chmod(filepath.Join(f.fake.path(img.ID), name), 0o755|os.ModeSetuid))
	}
	e, err := f.AddBase(ctx, img, baseStatement())
	must(t, err, e.Close())
	if diff := cmp.Diff([]string{"usr/bin/odd\uFFFD", "usr/bin/su"}, e.Statement.SetID); diff != "" {
		t.Error(diff)
	}
}

func TestBuildStatement(t *testing.T) {
	f := newFixture(t, false)
	base := f.addBase()
	st := Statement{Suite: "bookworm", Arch: "amd64", Deps: base.Hash, Source: []File{{Name: "x.dsc", SHA256: strings.Repeat("e", 64)}},
		Artifacts: []File{{Name: "x.deb", SHA256: strings.Repeat("f", 64)}}}
	data, sig, err := f.SignBuild(st)
	must(t, err)
	got, err := f.VerifyBuild(data, sig)
	must(t, err)
	if diff := cmp.Diff(st.Artifacts, got.Artifacts); diff != "" || got.Deps != base.Hash {
		t.Error(diff, got.Deps)
	}
	if _, err := f.VerifyBuild(flip(bytes.Clone(data)), sig); fault.ClassOf(err) != fault.Trust {
		t.Errorf("got %v", err)
	}
	must(t, f.Remove(ctx, base.Hash))
	link, err := f.Statement(ctx, got.Deps)
	must(t, err)
	if link.Archive[0].SignedBy != archiveKey {
		t.Errorf("retired statement is %+v", link)
	}
	if _, err := f.Statement(ctx, "../../etc/passwd"); fault.ClassOf(err) != fault.Usage {
		t.Errorf("got %v", err)
	}
}

func TestMemo(t *testing.T) {
	f := newFixture(t, false)
	in := MemoInput{Base: "b", Depends: []string{"debhelper (>= 13)", "", ""}, Arch: "amd64"}
	set := []Package{pkg("b"), pkg("a")}
	if _, ok := f.Memo(ctx, in); ok {
		t.Error("empty memo knows it")
	}
	must(t, f.PutMemo(ctx, in, set), f.PutMemo(ctx, in, set))
	got, ok := f.Memo(ctx, in)
	if diff := cmp.Diff(Sort(set), got); diff != "" || !ok {
		t.Error(diff)
	}
	other := in
	other.Depends = []string{"", "debhelper (>= 13)", ""}
	if _, ok := f.Memo(ctx, other); ok {
		t.Error("the field that a dependency is in does not count")
	}
	must(t, f.PutMemo(ctx, other, []Package{pkg("c")}))
	for name, query := range map[string]string{
		"mutated value":  "UPDATE memo SET value = replace(value, '1.0-1', '1.0-2') WHERE key LIKE 'resolved %'",
		"exchanged rows": "UPDATE memo SET value = (SELECT value FROM memo m WHERE m.key LIKE 'resolved %' AND m.key != memo.key), mac = (SELECT mac FROM memo m WHERE m.key LIKE 'resolved %' AND m.key != memo.key) WHERE key LIKE 'resolved %'",
		"empty mac":      "UPDATE memo SET mac = x'' WHERE key LIKE 'resolved %'",
	} {
		t.Run(name, func(t *testing.T) {
			must(t, f.PutMemo(ctx, in, set), f.PutMemo(ctx, other, []Package{pkg("c")}))
			_, err := f.db.Exec(query)
			must(t, err)
			f.notes.text = nil
			if set, ok := f.Memo(ctx, in); ok || !f.notes.has("was altered") {
				t.Errorf("got %v, notes %q", set, f.notes.text)
			}
			f.notes.text = nil
			if _, ok := f.Memo(ctx, in); ok || f.notes.has("altered") {
				t.Error("the row is still there")
			}
		})
	}
	must(t, f.PutMemo(ctx, in, set))
	f.open(f.dir, false, newKey(t), "boot-1")
	if _, ok := f.Memo(ctx, in); ok {
		t.Error("the row of another image key is believed")
	}
}

func TestMemoIsPruned(t *testing.T) {
	f := newFixture(t, false)
	for i := range maxResolved + 5 {
		must(t, f.PutMemo(ctx, MemoInput{Base: time.Duration(i).String()}, nil))
	}
	var n int
	must(t, f.db.QueryRow("SELECT count(*) FROM memo").Scan(&n))
	if n != maxResolved {
		t.Errorf("%d rows", n)
	}
	if _, ok := f.Memo(ctx, MemoInput{Base: time.Duration(maxResolved + 4).String()}); !ok {
		t.Error("the newest row is gone")
	}
}

func TestWithoutDatabase(t *testing.T) {
	f := newFixture(t, false)
	f.db = nil
	f.open(f.dir, false, f.key, "boot-1")
	f.addBase()
	e, err := f.Base(ctx, policy())
	must(t, err)
	must(t, check(e), e.Touch(ctx), f.PutMemo(ctx, MemoInput{}, nil), e.Close())
	if f.fake.digests == 0 {
		t.Error("nothing was hashed")
	}
}

func TestDatabaseLost(t *testing.T) {
	f := newFixture(t, false)
	base := f.addBase()
	f.db = openDB(t)
	f.open(f.dir, false, f.key, "boot-1")
	e, err := f.Base(ctx, policy())
	must(t, err, e.Close())
	if e.Hash != base.Hash {
		t.Errorf("got %s", e.Hash)
	}
}

// TestManyWriters lets several stores on one directory add at the same time.
func TestManyWriters(t *testing.T) {
	f := newFixture(t, false)
	base := f.addBase()
	var wg sync.WaitGroup
	errs := make([]error, 8)
	images := make([]engine.Image, len(errs))
	for i := range images {
		images[i] = f.image(base.Image.ID, "x")
	}
	for i := range errs {
		wg.Go(func() {
			st := Statement{Packages: []Package{pkg("p" + string(rune('a'+i)))}}
			e, err := f.AddDeps(ctx, base, images[i], st)
			errs[i] = errors.Join(err, e.Close())
		})
	}
	wg.Wait()
	must(t, errs...)
	items, err := f.List(ctx)
	must(t, err)
	if len(items) != 9 {
		t.Errorf("%d images", len(items))
	}
	h, err := f.readHead(ctx)
	must(t, err)
	if h.Seq != 9 {
		t.Errorf("number is %d", h.Seq)
	}
}

// TestParentIsGone has the engine lose the image that another one stands on.
func TestParentIsGone(t *testing.T) {
	f := newFixture(t, true)
	base := f.addBase()
	deps := f.addDeps(base, "debhelper")
	delete(f.fake.images, base.Image.ID)
	if e, err := f.Deps(ctx, policy(), deps.depsKey()); !errors.Is(err, ErrNotFound) || !f.notes.has("is gone from the engine") {
		t.Errorf("got %v, %v, notes %q", e, err, f.notes.text)
	}
}

// TestForeignOwner adds a file whose owner no container has.
func TestForeignOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	f := newFixture(t, false)
	base := f.addBase()
	path := filepath.Join(f.fake.path(base.Image.ID), "new")
	must(t, os.WriteFile(path, nil, 0o644), os.Lchown(path, 12345, 12345))
	e, err := f.Base(ctx, policy())
	must(t, err)
	defer e.Close()
	if err := e.Verify(ctx); fault.ClassOf(err) != fault.Trust || !errors.Is(err, engine.ErrDamaged) {
		t.Errorf("got %v", err)
	}
}
