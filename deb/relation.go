package deb

import "strings"

// Relation is one package in a relationship field (Policy 7.1).
type Relation struct {
	Name      string
	Qualifier string     // "any", "native" or an architecture; "" if not given
	Op        string     // "<<", "<=", "=", ">=", ">>"; "" without a version
	Version   string     // as written
	Arches    []string   // architecture restriction, "!" kept; nil if not given
	Profiles  [][]string // build-profile formula: any group whose terms all hold
}

// Alternatives is one or more relations of which one must hold.
type Alternatives []Relation

// Dependency is a relationship field: every element must hold.
type Dependency []Alternatives

// String prints the relation in the order that dpkg prints it: name,
// qualifier, version, architectures, profiles.
func (r Relation) String() string {
	var b strings.Builder
	b.WriteString(r.Name)
	if r.Qualifier != "" {
		b.WriteString(":" + r.Qualifier)
	}
	if r.Op != "" {
		b.WriteString(" (" + r.Op + " " + r.Version + ")")
	}
	if len(r.Arches) > 0 {
		b.WriteString(" [" + strings.Join(r.Arches, " ") + "]")
	}
	for _, group := range r.Profiles {
		b.WriteString(" <" + strings.Join(group, " ") + ">")
	}
	return b.String()
}

// String prints the relations with " | " between them.
func (a Alternatives) String() string {
	parts := make([]string, len(a))
	for i, r := range a {
		parts[i] = r.String()
	}
	return strings.Join(parts, " | ")
}

// String prints the field on one line. Parsing the result gives the same
// Dependency.
func (d Dependency) String() string {
	parts := make([]string, len(d))
	for i, a := range d {
		parts[i] = a.String()
	}
	return strings.Join(parts, ", ")
}

// Reduce evaluates the restrictions for a host architecture and the active
// build profiles, as deps_parse of Dpkg::Deps does with
// reduce_restrictions: a relation that does not apply is dropped, the others
// lose their restrictions, and an element that loses every alternative
// disappears. The receiver is left as it was.
func (d Dependency) Reduce(arch string, profiles []string) Dependency {
	var out Dependency
	for _, alternatives := range d {
		var kept Alternatives
		for _, r := range alternatives {
			if !r.appliesTo(arch) || !profilesHold(r.Profiles, profiles) {
				continue
			}
			r.Arches, r.Profiles = nil, nil
			kept = append(kept, r)
		}
		if len(kept) > 0 {
			out = append(out, kept)
		}
	}
	return out
}

// First drops all alternatives but the first, as sbuild does without
// --resolve-alternatives: so that a build does not depend on what else the
// archive holds. Further alternatives of the same package stay, because
// "foo (>> 2) | foo (<< 1)" is a single demand. Reduce comes first: the first
// alternative that applies is the one that counts.
func (d Dependency) First() Dependency {
	var out Dependency
	for _, alternatives := range d {
		var kept Alternatives
		for _, r := range alternatives {
			if r.Name == alternatives[0].Name {
				kept = append(kept, r)
			}
		}
		if len(kept) > 0 {
			out = append(out, kept)
		}
	}
	return out
}

// SatisfiedBy reports whether a version of the package fits the version
// constraint; names, architectures and profiles are not looked at. An
// invalid version fits only a relation without a constraint.
func (r Relation) SatisfiedBy(version string) bool {
	if r.Op == "" {
		return true
	}
	have, err := ParseVersion(version)
	if err != nil {
		return false
	}
	want, err := ParseVersion(r.Version)
	if err != nil {
		return false
	}
	c := have.Compare(want)
	switch r.Op {
	case "<<":
		return c < 0
	case "<=":
		return c <= 0
	case "=":
		return c == 0
	case ">=":
		return c >= 0
	case ">>":
		return c > 0
	}
	return false
}

// appliesTo evaluates the architecture restriction. The first name that
// matches decides; a list of exclusions includes everything else
// (debarch_is_concerned of Dpkg::Arch).
func (r Relation) appliesTo(arch string) bool {
	if r.Arches == nil {
		return true
	}
	applies := false
	for _, name := range r.Arches {
		name = strings.ToLower(name)
		name, not := strings.CutPrefix(name, "!")
		if ArchMatches(arch, name) {
			return !not
		}
		applies = applies || not
	}
	return applies
}

// profilesHold evaluates a restriction formula, which is in disjunctive
// normal form; a nil formula holds.
func profilesHold(formula [][]string, active []string) bool {
	if formula == nil {
		return true
	}
	for _, group := range formula {
		if groupHolds(group, active) {
			return true
		}
	}
	return false
}

func groupHolds(group, active []string) bool {
	for _, term := range group {
		name, not := strings.CutPrefix(term, "!")
		found := false
		for _, p := range active {
			found = found || p == name
		}
		if found == not {
			return false
		}
	}
	return true
}
