package cache

import (
	"fmt"
	"testing"
)

// BenchmarkDeps finds one of 200 deps images of 300 packages: what the warm
// path of a build pays for the chain of signatures.
func BenchmarkDeps(b *testing.B) {
	f := newFixture(b, false)
	base := f.addBase()
	var last *Entry
	for i := range 200 {
		st := Statement{}
		for p := range 300 {
			st.Packages = append(st.Packages, pkg(fmt.Sprintf("package-%d-%d", i, p)))
		}
		e, err := f.AddDeps(ctx, base, f.image(base.Image.ID), st)
		must(b, err, e.Close())
		last = e
	}
	key := last.depsKey()
	for b.Loop() {
		e, err := f.Deps(ctx, policy(), key)
		must(b, err, e.Close())
	}
}

// BenchmarkAncestors looks through 200 deps images for one to stand on; each
// statement is verified.
func BenchmarkAncestors(b *testing.B) {
	f := newFixture(b, false)
	base := f.addBase()
	for i := range 200 {
		st := Statement{}
		for p := range 300 {
			st.Packages = append(st.Packages, pkg(fmt.Sprintf("package-%d-%d", i, p)))
		}
		e, err := f.AddDeps(ctx, base, f.image(base.Image.ID), st)
		must(b, err, e.Close())
	}
	for b.Loop() {
		_, err := f.Ancestors(ctx, policy(), []Package{pkg("x")}, baseStatement().Archive)
		must(b, err)
	}
}
