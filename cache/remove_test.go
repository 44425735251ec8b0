package cache

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dbuild/engine"
	"dbuild/internal/fault"
)

func TestList(t *testing.T) {
	f := newFixture(t, true)
	base := f.addBase()
	f.now = f.now.Add(time.Minute)
	deps := f.addDeps(base, "debhelper")
	f.now = f.now.Add(time.Hour)
	must(t, deps.Touch(ctx))
	items, err := f.List(ctx)
	must(t, err)
	want := Item{Kind: KindDeps, Digest: string(deps.Statement.Tree), Suite: "bookworm", Arch: "amd64", Tag: "tag-img-2",
		Signer: f.key.Fingerprint(), Created: whole(f.now.Add(-time.Hour)), LastUsed: whole(f.now), Size: 2000, OwnSize: 1000,
		Engine: "fake", Statement: deps.Hash, ArchiveDate: time.Unix(1_700_000_000, 0).UTC(), parent: base.Hash}
	if diff := cmp.Diff(want, items[1], cmp.AllowUnexported(Item{})); diff != "" || len(items) != 2 {
		t.Error(diff)
	}
	b, err := json.Marshal(items[0])
	must(t, err)
	for _, field := range []string{"kind", "digest", "suite", "arch", "tag", "signer", "created", "last_used", "size", "own_size", "engine"} {
		if !strings.Contains(string(b), `"`+field+`":`) {
			t.Errorf("no field %q in %s", field, b)
		}
	}
	rewrite(t, f.statementPath(deps.Hash), flip)
	items, err = f.List(ctx)
	must(t, err)
	if i := slices.IndexFunc(items, func(it Item) bool { return it.Statement == deps.Hash }); i < 0 || items[i].Problem == "" {
		t.Errorf("items %+v", items)
	}
}

func TestRemove(t *testing.T) {
	f := newFixture(t, true)
	base := f.addBase()
	deps := f.addDeps(base, "debhelper")
	if err := f.Remove(ctx, base.Hash); !errors.Is(err, engine.ErrInUse) || fault.ClassOf(err) != fault.Locked {
		t.Errorf("parent: got %v", err)
	}
	used, err := f.Deps(ctx, policy(), deps.depsKey())
	must(t, err)
	if err := f.Remove(ctx, deps.Hash); !errors.Is(err, engine.ErrInUse) {
		t.Errorf("in use: got %v", err)
	}
	must(t, used.Close(), f.Remove(ctx, deps.Hash))
	if _, err := f.Deps(ctx, policy(), deps.depsKey()); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if _, err := f.fake.Image(ctx, deps.Image.ID); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("the engine still has it: %v", err)
	}
	if err := f.Remove(ctx, deps.Hash); !errors.Is(err, ErrNotFound) {
		t.Errorf("again: got %v", err)
	}
	// A damaged statement must not block the way out.
	rewrite(t, f.statementPath(base.Hash), flip)
	must(t, f.Remove(ctx, base.Hash))
	if items, err := f.List(ctx); err != nil || len(items) != 0 {
		t.Errorf("left: %v, %v", items, err)
	}
	if err := f.Remove(ctx, "../x"); fault.ClassOf(err) != fault.Usage {
		t.Errorf("got %v", err)
	}
}

func TestExpire(t *testing.T) {
	f := newFixture(t, true)
	old := f.addBase("old")
	f.now = f.now.Add(time.Hour)
	base := f.addBase("new")
	a := f.addDeps(base, "a")
	b := f.addDeps(a, "b")
	f.now = f.now.Add(time.Hour)
	c := f.addDeps(base, "c")
	names := func(hashes []string) (out []string) {
		for _, h := range hashes {
			for name, e := range map[string]*Entry{"old": old, "base": base, "a": a, "b": b, "c": c} {
				if e.Hash == h {
					out = append(out, name)
				}
			}
		}
		return out
	}
	removed, err := f.Expire(ctx, Limits{MaxAge: 90 * time.Minute})
	must(t, err)
	if diff := cmp.Diff([]string{"old"}, names(removed)); diff != "" {
		t.Error(diff)
	}
	removed, err = f.Expire(ctx, Limits{MaxSize: 3000})
	must(t, err)
	if diff := cmp.Diff([]string{"b"}, names(removed)); diff != "" {
		t.Error(diff)
	}
	f.now = f.now.Add(time.Hour)
	used, err := f.Deps(ctx, policy(), a.depsKey())
	must(t, err)
	removed, err = f.Expire(ctx, Limits{MaxSize: 1})
	must(t, err)
	if diff := cmp.Diff([]string{"c"}, names(removed)); diff != "" {
		t.Error(diff)
	}
	must(t, used.Close())
	removed, err = f.Expire(ctx, Limits{MaxAge: time.Minute})
	must(t, err)
	if diff := cmp.Diff([]string{"a"}, names(removed)); diff != "" {
		t.Error(diff)
	}
	e, err := f.Base(ctx, policy())
	must(t, err, e.Close())
}

func TestReap(t *testing.T) {
	f := newFixture(t, true)
	base := f.addBase()
	deps := f.addDeps(base, "debhelper")
	orphan := f.image(base.Image.ID, "x")
	above := f.image(orphan.ID, "y")
	foreign := f.image("", "z")
	foreign.Config.Labels = map[string]string{LabelState: "another"}
	f.fake.images[foreign.ID] = foreign
	// A process died after the statement and before head.
	st := base.Statement
	st.Seq = 99
	stray, err := f.writeStatement(st)
	must(t, err)
	tmp := filepath.Join(f.dir, "statements", ".x.json.123.tmp")
	must(t, os.WriteFile(tmp, nil, 0o600))

	l, err := f.MakeLock(ctx, KindDeps, "x", nil)
	must(t, err)
	if n, err := f.Reap(ctx); n != 0 || err != nil {
		t.Errorf("while an image is made: %d, %v", n, err)
	}
	must(t, l.Unlock())
	if n, err := f.Reap(ctx); n != 2 || err != nil {
		t.Errorf("images, and files that are young: %d, %v", n, err)
	}
	f.now = f.now.Add(2 * Grace)
	if n, err := f.Reap(ctx); n != 3 || err != nil {
		t.Errorf("files: %d, %v", n, err)
	}
	for id, want := range map[engine.ImageID]bool{base.Image.ID: true, deps.Image.ID: true, foreign.ID: true, orphan.ID: false, above.ID: false} {
		if _, ok := f.fake.images[id]; ok != want {
			t.Errorf("image %s is there: %v", id, ok)
		}
	}
	if _, err := os.Lstat(f.statementPath(stray)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("stray statement: %v", err)
	}
	// A published file may lead to it, and to those below.
	if got, err := OpenChain(f.dir, f.key.Keyring()).Image(stray); err != nil || got.Seq != 99 {
		t.Errorf("stray statement is not kept: %+v, %v", got.Kind, err)
	}
	if _, err := OpenChain(f.dir, f.key.Keyring()).Image(deps.Hash); err != nil {
		t.Errorf("statement in force: %v", err)
	}
	e, err := f.Deps(ctx, policy(), deps.depsKey())
	must(t, err)
	must(t, check(e), e.Close())
}

func TestReapTouchesNothingWhenInDoubt(t *testing.T) {
	f := newFixture(t, true)
	base := f.addBase()
	f.image("", "orphan")
	f.now = f.now.Add(2 * Grace)
	rewrite(t, f.statementPath(base.Hash), flip)
	if n, err := f.Reap(ctx); n != 0 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
	if len(f.fake.images) != 2 {
		t.Error("an image is gone")
	}
}

// TestDeathAtEveryWrite adds an image while the directory that a step writes
// to refuses it. Whatever was written before, the next run must find the old
// state or the new one.
func TestDeathAtEveryWrite(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere")
	}
	for _, sub := range []string{"statements", "."} {
		f := newFixture(t, true)
		base := f.addBase()
		img := f.image(base.Image.ID, "x")
		dir := filepath.Join(f.dir, sub)
		must(t, os.Chmod(dir, 0o500))
		_, err := f.AddDeps(ctx, base, img, Statement{Packages: []Package{pkg("x")}})
		must(t, os.Chmod(dir, 0o700))
		if err == nil {
			t.Errorf("%s: no error", sub)
		}
		if _, err := f.Deps(ctx, policy(), DepsKey([]Package{pkg("x")}, "1")); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: got %v", sub, err)
		}
		e, err := f.AddDeps(ctx, base, img, Statement{Packages: []Package{pkg("x")}})
		must(t, err, e.Close())
	}
}
