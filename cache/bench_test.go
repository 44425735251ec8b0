package cache

import (
	"fmt"
	"slices"
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

// BenchmarkAncestors looks through 200 deps images of 300 packages for the
// nearest one to stand on.
func BenchmarkAncestors(b *testing.B) {
	for _, wanted := range []struct {
		name  string
		fits  bool
		count int
	}{{"none fits", false, 0}, {"all fit", true, 1}} {
		b.Run(wanted.name, func(b *testing.B) {
			f := newFixture(b, true)
			base := f.addBase()
			set := slices.Clone(base.Statement.Packages)
			for i := range 200 {
				st := Statement{Packages: slices.Clone(base.Statement.Packages)}
				for p := range 300 {
					st.Packages = append(st.Packages, pkg(fmt.Sprintf("package-%d", i+p)))
				}
				e, err := f.AddDeps(ctx, base, f.image(base.Image.ID), st)
				must(b, err, e.Close())
			}
			for p := range 500 {
				if wanted.fits || p < 100 {
					set = append(set, pkg(fmt.Sprintf("package-%d", p)))
				}
			}
			for b.Loop() {
				count := 0
				for _, err := range f.Ancestors(ctx, policy(), set, baseStatement().Archive) {
					must(b, err)
					count++
					break
				}
				if count != wanted.count {
					b.Fatalf("%d found", count)
				}
			}
		})
	}
}
