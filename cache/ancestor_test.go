package cache

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// at is pkg in a version of its own.
func at(name, version string) Package {
	p := pkg(name)
	p.Version = version
	return p
}

func TestStep(t *testing.T) {
	rebuilt := pkg("a")
	rebuilt.SHA256 = "another"
	other := pkg("a")
	other.Arch = "all"
	for _, test := range []struct {
		name       string
		have, want []Package
		missing    int
		replaced   int
		ok         bool
	}{
		{"same", []Package{pkg("a")}, []Package{pkg("a")}, 0, 0, true},
		{"more", []Package{pkg("a")}, []Package{pkg("a"), pkg("b")}, 1, 0, true},
		{"less", []Package{pkg("a"), pkg("b")}, []Package{pkg("a")}, 0, 0, false},
		{"newer", []Package{at("a", "1"), pkg("b")}, []Package{at("a", "2"), pkg("b")}, 1, 1, true},
		{"newer and more", []Package{at("a", "1")}, []Package{at("a", "1+b1"), pkg("b")}, 2, 1, true},
		{"older", []Package{at("a", "2")}, []Package{at("a", "1")}, 0, 0, false},
		{"other bytes of the same version", []Package{pkg("a")}, []Package{rebuilt}, 0, 0, false},
		{"other architecture", []Package{pkg("a")}, []Package{other}, 1, 0, false},
		{"architecture beside", []Package{pkg("a")}, []Package{pkg("a"), other}, 1, 0, true},
	} {
		missing, replaced, ok := step(test.have, test.want)
		if ok != test.ok || ok && (len(missing) != test.missing || len(replaced) != test.replaced) {
			t.Errorf("%s: missing %v, replaced %v, %v", test.name, missing, replaced, ok)
		}
		// By the sketches alone it is at least likely, with the same numbers.
		k := sketchOf(test.have)
		guessed, likely := k.within(sketchOf(test.want).index())
		if ok && (!likely || guessed != len(replaced) || len(test.want)-k.count()+guessed != len(missing)) {
			t.Errorf("%s: the sketch says %v, replaced %d", test.name, likely, guessed)
		}
	}
}

func TestAncestors(t *testing.T) {
	f := newFixture(t, true)
	base := f.addBase()
	a := f.addDeps(base, "a")
	ab := f.addDeps(a, "b")
	f.addDeps(base, "x")
	set := append([]Package{pkg("b"), pkg("a"), pkg("c")}, base.Statement.Packages...)
	names := func(p Policy, set []Package, archives []Archive) (out []string) {
		t.Helper()
		for one, err := range f.Ancestors(ctx, p, set, archives) {
			must(t, err)
			for name, e := range map[string]*Entry{"a": a, "ab": ab} {
				if e.Hash == one.Hash {
					out = append(out, name)
				}
			}
		}
		return out
	}
	archives := base.Statement.Archive
	if diff := cmp.Diff([]string{"ab", "a"}, names(policy(), set, archives)); diff != "" {
		t.Error(diff)
	}
	if got := names(policy(), set, archives[:1]); got != nil {
		t.Errorf("from an archive that this run does not have: %v", got)
	}
	p := policy()
	p.Keys = nil
	if got := names(p, set, archives); got != nil {
		t.Errorf("signed by a key that is not allowed: %v", got)
	}
	// An unreadable statement is left out, the others are found.
	rewrite(t, f.statementPath(ab.Hash), flip)
	if diff := cmp.Diff([]string{"a"}, names(policy(), set, archives)); diff != "" {
		t.Error(diff)
	}
}

func TestAncestorsEndAfterSteps(t *testing.T) {
	f := newFixture(t, true)
	top := f.addBase()
	set := top.Statement.Packages
	for i, name := range []string{"a", "b", "c", "d", "e"} {
		top = f.addDeps(top, name)
		set = append(set, pkg(name))
		nearest := ""
		for one, err := range f.Ancestors(ctx, policy(), append(set, pkg("more")), top.Statement.Archive) {
			must(t, err)
			nearest = one.Hash
			break
		}
		if got, want := nearest == top.Hash, i+1 < MaxSteps; got != want || nearest == "" {
			t.Errorf("after %d steps: the newest image is taken: %v", i+1, got)
		}
	}
}

// TestAncestorsWithoutSketches loses and alters what is kept of the statements.
func TestAncestorsWithoutSketches(t *testing.T) {
	f := newFixture(t, true)
	base := f.addBase()
	set := append([]Package{pkg("a"), pkg("b")}, base.Statement.Packages...)
	a := f.addDeps(base, "a")
	f.addDeps(base, "x")
	for _, change := range []string{
		"DELETE FROM memo WHERE key LIKE 'sketch %'",
		"UPDATE memo SET value = '' WHERE key LIKE 'sketch %'",
		"SELECT 1", // the rows are there again
	} {
		_, err := f.db.ExecContext(ctx, change)
		must(t, err)
		var found []string
		for one, err := range f.Ancestors(ctx, policy(), set, base.Statement.Archive) {
			must(t, err)
			found = append(found, one.Hash)
		}
		if diff := cmp.Diff([]string{a.Hash}, found); diff != "" {
			t.Errorf("%s: %s", change, diff)
		}
	}
}
