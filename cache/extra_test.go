package cache

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// What was added to a base from beside its suite is for runs that allow that,
// and a base never is.
func TestStepPolicy(t *testing.T) {
	f := newFixture(t, false)
	base := f.addBase()
	const owner = "0123456789ABCDEF0123456789ABCDEF01234567"
	st := Statement{
		Packages: append(slices.Clone(base.Statement.Packages), pkg("extra")), Switches: []string{"extra-repository"},
		Archive: append(slices.Clone(base.Statement.Archive), Archive{URL: "http://x.test", Suite: "x", InRelease: strings.Repeat("d", 64), SignedBy: owner}),
	}
	e, err := f.AddDeps(ctx, base, f.image(base.Image.ID, "usr/lib/extra"), st)
	must(t, err, e.Close())
	p := policy()
	p.StepKeys, p.StepSwitches = []string{owner}, []string{"extra-repository"}
	got, err := f.Deps(ctx, p, e.depsKey())
	must(t, err, got.Close())
	for name, change := range map[string]func(*Policy){
		"an ordinary run":  func(p *Policy) { p.StepKeys, p.StepSwitches = nil, nil },
		"another owner":    func(p *Policy) { p.StepKeys = []string{"ABCD"} },
		"not that switch":  func(p *Policy) { p.StepSwitches = []string{"extra-package"} },
		"keys of the base": func(p *Policy) { p.Keys, p.StepKeys = nil, append(p.Keys, owner) },
	} {
		t.Run(name, func(t *testing.T) {
			q := p
			change(&q)
			if e, err := f.Deps(ctx, q, e.depsKey()); !errors.Is(err, ErrNotFound) {
				t.Errorf("got %v, %v", e, err)
			}
		})
	}
}

// A result is for runs that could have made it.
func TestAcceptsResult(t *testing.T) {
	p := policy()
	p.StepSwitches = []string{"with-repo"}
	st := baseStatement()
	st.Kind, st.Switches = KindBuild, []string{"with-repo"}
	if why := p.AcceptsResult(&st); why != "" {
		t.Error(why)
	}
	for name, change := range map[string]func(*Statement){
		"suite":    func(st *Statement) { st.Suite = "trixie" },
		"switches": func(st *Statement) { st.Switches = append(st.Switches, "allow-expired") },
		"signer":   func(st *Statement) { st.Archive[0].SignedBy = "ABCD" },
	} {
		other := baseStatement()
		other.Kind = KindBuild
		change(&other)
		if p.AcceptsResult(&other) == "" {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestReusable(t *testing.T) {
	f := newFixture(t, false)
	must(t, f.PutReusable(ctx, "a", "one"), f.PutReusable(ctx, "a", "two"))
	if got, ok := f.Reusable(ctx, "a"); !ok || got != "two" {
		t.Errorf("got %q, %v", got, ok)
	}
	if got, ok := f.Reusable(ctx, "b"); ok {
		t.Errorf("got %q", got)
	}
	_, err := f.db.ExecContext(ctx, "UPDATE memo SET value = 'other' WHERE key = 'reuse a'")
	must(t, err)
	if got, ok := f.Reusable(ctx, "a"); ok {
		t.Errorf("an altered row: %q", got)
	}
}
