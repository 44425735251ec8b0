package chroot

import (
	"dbuild/deb"
	"dbuild/internal/fault"
)

// claim is a name that a package of the set goes by: its own, or one that it
// provides.
type claim struct {
	by      *Choice
	version string // "" of an unversioned Provides
	virtual bool
}

// checkConflicts refuses a set in which a member conflicts with or breaks
// another one (Policy 7.3 and 7.4). A base has none; one that has is a broken
// or half-updated archive, and dpkg would stop later with a worse message.
func checkConflicts(set []Choice) error {
	claims, err := claimsOf(set)
	if err != nil {
		return err
	}
	for i := range set {
		c := &set[i]
		for _, field := range [...]struct{ verb, value string }{
			{"conflicts with", c.Conflicts},
			{"breaks", c.Breaks},
		} {
			relations, err := deb.ParseDependency(field.value)
			if err != nil {
				return fault.New(fault.Input, "package %q: read conflicts: %w", c.Name, err)
			}
			for _, a := range relations {
				if other := hit(claims[a[0].Name], a[0], c.Name); other != nil {
					return fault.New(fault.DepWait, "package %q %s %s %q (%s), both needed for the base",
						c.Name, c.Version, field.verb, other.Name, a[0])
				}
			}
		}
	}
	return nil
}

func claimsOf(set []Choice) (map[string][]claim, error) {
	claims := map[string][]claim{}
	for i := range set {
		c := &set[i]
		claims[c.Name] = append(claims[c.Name], claim{c, c.Version, false})
		provides, err := deb.ParseDependency(c.Provides)
		if err != nil {
			return nil, fault.New(fault.Input, "package %q: read Provides: %w", c.Name, err)
		}
		for _, a := range provides {
			claims[a[0].Name] = append(claims[a[0].Name], claim{c, a[0].Version, true})
		}
	}
	return claims, nil
}

// hit returns a package other than self that r is aimed at. A package never
// conflicts with a name that it provides itself.
func hit(claims []claim, r deb.Relation, self string) *Choice {
	for _, c := range claims {
		switch {
		case c.by.Name == self:
		case c.virtual && provisionFits(c.version, r), !c.virtual && r.SatisfiedBy(c.version):
			return c.by
		}
	}
	return nil
}
