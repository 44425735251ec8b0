package cache

import (
	"cmp"
	"context"
	"iter"
	"slices"

	"dbuild/deb"
)

// MaxSteps is how many deps images stand on each other at most: after that many
// steps an image is made afresh from the base, since chains cost lookups, seals
// and, with some engines, layers of which there are only so many.
const MaxSteps = 5

// Replacement is a package that is there in one version and wanted in another.
type Replacement struct {
	Old, New Package
}

// Ancestor is a deps image in force that an image with a wanted set can be made
// on by adding packages and, if there are replacements, upgrading some.
type Ancestor struct {
	Statement Statement
	Hash      string        // of the statement; see [Store.Entry]
	Missing   []Package     // what is to be installed, the new versions of Replaced among it
	Replaced  []Replacement // the caller decides whether they may be upgraded in place
}

// Ancestors yields the deps images which an image with this set can be made on,
// those that leave least to install first. Everything that such an image holds
// is in set, in the same or an older version, and came from archives (by
// address and suite) among those given; the policy fits it and what it stands
// on; it has not been made in [MaxSteps] steps already. What is yielded has been
// verified; an image that does not verify is left out with a warning. Others are
// verified only when the caller goes on to them.
func (s *Store) Ancestors(ctx context.Context, p Policy, set []Package, archives []Archive) iter.Seq2[Ancestor, error] {
	return func(yield func(Ancestor, error) bool) {
		likely, err := s.likely(ctx, set)
		for _, hash := range likely {
			var e *Entry
			if e, err = s.listed(ctx, hash); err != nil {
				break
			}
			if e == nil || len(e.Chain) >= MaxSteps || p.refuses(e.Base()) != "" || p.refusesSteps(e) != "" || !e.within(archives) {
				continue
			}
			missing, replaced, ok := step(e.Statement.Packages, set)
			if ok && !yield(Ancestor{e.Statement, e.Hash, missing, replaced}, nil) {
				return
			}
		}
		if err != nil {
			yield(Ancestor{}, err)
		}
	}
}

// likely returns the statements of the deps images in force that hold nothing
// which set does not have in some version, those that leave least to install
// first. It goes by what was kept of each statement, which is enough to choose
// but proves nothing.
func (s *Store) likely(ctx context.Context, set []Package) (hashes []string, err error) {
	type candidate struct {
		hash              string
		missing, replaced int
	}
	var found []candidate
	want := sketchOf(set).index()
	err = s.withHead(ctx, func(h *head) error {
		found = nil
		for _, c := range slices.Backward(h.Entries) { // the newest of equal ones first
			if c.Kind != KindDeps || c.Engine != s.engineName() || h.aside(c.Statement) {
				continue
			}
			have, ok := s.sketch(ctx, h, c.Statement)
			if !ok {
				continue
			}
			if replaced, ok := have.within(want); ok {
				found = append(found, candidate{c.Statement, len(want) - have.count() + replaced, replaced})
			}
		}
		return nil
	})
	slices.SortStableFunc(found, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.missing, b.missing), cmp.Compare(a.replaced, b.replaced))
	})
	for _, c := range found {
		hashes = append(hashes, c.hash)
	}
	return hashes, err
}

// listed returns the verified entry of a statement; nil if it is no longer in
// force, or does not verify, which is said.
func (s *Store) listed(ctx context.Context, hash string) (e *Entry, err error) {
	err = s.withHead(ctx, func(h *head) (err error) {
		e = nil
		if _, ok := h.find(hash); !ok {
			return nil
		}
		if e, err = s.load(h, hash); err != nil {
			s.report.Warn("%v", err)
		}
		return nil
	})
	return e, err
}

// within reports whether the image and all below it came from these archives.
func (e *Entry) within(archives []Archive) bool {
	for _, st := range append([]Statement{e.Statement}, e.Chain...) {
		for _, a := range st.Archive {
			if !slices.ContainsFunc(archives, func(b Archive) bool { return a.URL == b.URL && a.Suite == b.Suite }) {
				return false
			}
		}
	}
	return true
}

// step says how have becomes want by adding packages and raising versions. It
// is not possible if something had to go, or a version had to fall or to be
// another build of the same.
func step(have, want []Package) (missing []Package, replaced []Replacement, ok bool) {
	type name struct{ name, arch string }
	installed := make(map[name]Package, len(have))
	for _, p := range have {
		installed[name{p.Name, p.Arch}] = p
	}
	for _, p := range want {
		old, there := installed[name{p.Name, p.Arch}]
		delete(installed, name{p.Name, p.Arch})
		switch {
		case !there:
			missing = append(missing, p)
		case old == p:
		case deb.CompareVersions(old.Version, p.Version) < 0:
			missing = append(missing, p)
			replaced = append(replaced, Replacement{old, p})
		default:
			return nil, nil, false
		}
	}
	return missing, replaced, len(installed) == 0
}
