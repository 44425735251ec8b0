package cache

import (
	"errors"
	"slices"
	"testing"
	"time"

	"dbuild/internal/fault"
)

func TestRollback(t *testing.T) {
	f := newFixture(t, true)
	old := f.addBase("old")
	if _, _, err := f.Rollback(ctx, "bookworm", "amd64", "buildd"); fault.ClassOf(err) != fault.Usage {
		t.Errorf("only one: got %v", err)
	}
	f.now = f.now.Add(time.Hour)
	young := f.addBase("young")
	deps := f.addDeps(young, "debhelper")
	from, to, err := f.Rollback(ctx, "bookworm", "amd64", "buildd")
	must(t, err)
	if from != young.Hash || to.Seq != old.Statement.Seq {
		t.Errorf("from %s to number %d", from, to.Seq)
	}
	e, err := f.Base(ctx, policy())
	must(t, err, e.Close())
	if e.Hash != old.Hash || !e.RolledBack {
		t.Errorf("found %s, rolled back: %v", e.Hash, e.RolledBack)
	}
	if _, err := f.Deps(ctx, policy(), deps.depsKey()); !errors.Is(err, ErrNotFound) {
		t.Errorf("deps image on what was rolled back: %v", err)
	}
	if _, _, err := f.Rollback(ctx, "bookworm", "amd64", "buildd"); fault.ClassOf(err) != fault.Usage {
		t.Errorf("too far: got %v", err)
	}
	next := f.addBase("next")
	e, err = f.Base(ctx, policy())
	must(t, err, e.Close())
	if e.Hash != next.Hash || e.RolledBack {
		t.Errorf("found %s, rolled back: %v", e.Hash, e.RolledBack)
	}
	// What was set aside goes; what is in force stays.
	removed, err := f.Expire(ctx, Limits{MaxSize: 1})
	must(t, err)
	if slices.Contains(removed, next.Hash) || !slices.Contains(removed, young.Hash) {
		t.Errorf("expired %v", removed)
	}
}

func TestEntry(t *testing.T) {
	f := newFixture(t, true)
	base := f.addBase()
	e, err := f.Entry(ctx, base.Hash)
	must(t, err)
	if err := f.Remove(ctx, base.Hash); fault.ClassOf(err) != fault.Locked {
		t.Errorf("remove while open: %v", err)
	}
	must(t, e.Verify(ctx), e.Close(), f.Remove(ctx, base.Hash))
	if _, err := f.Entry(ctx, base.Hash); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed: %v", err)
	}
}

func TestPolicyOfSteps(t *testing.T) {
	f := newFixture(t, true)
	base := f.addBase()
	st := Statement{Packages: []Package{pkg("x")}, Switches: []string{"allow-expired"}}
	e, err := f.AddDeps(ctx, base, f.image(base.Image.ID, "x"), st)
	must(t, err, e.Close())
	p := policy()
	if _, err := f.Deps(ctx, p, e.depsKey()); !errors.Is(err, ErrNotFound) {
		t.Errorf("a step made with a switch, used without: %v", err)
	}
	p.Switches = []string{"allow-expired"}
	e, err = f.Deps(ctx, p, e.depsKey())
	must(t, err, e.Close())
}
