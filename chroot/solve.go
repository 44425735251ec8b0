package chroot

import (
	"cmp"
	"slices"
	"strings"

	"dbuild/deb"
	"dbuild/internal/fault"
)

// Choice is one package of a solution.
type Choice struct {
	*deb.Package
	State     int  // the [IndexFile].State that it is from
	Essential bool // belongs to the first stage: Essential packages and what they need
	Auto      bool // only a dependency of the second stage
}

// Solve picks the packages of a buildd base as mmdebstrap and apt do, sorted
// by name:
//
//   - first every package with Essential: yes and what those need,
//   - then build-essential and every package with Priority: required, and what
//     those need; only these dependencies count as automatically installed.
//
// Recommends are ignored. Of alternatives one that is already chosen wins,
// else the first that has a fitting candidate; of a purely virtual package the
// provider of the best priority. Alternatives are decided after everything
// that leaves no choice, which is what makes "base-passwd | adduser" come out
// as apt has it.
//
// A relation that cannot be met, and members that conflict with each other,
// are [fault.DepWait].
func Solve(x *Index) ([]Choice, error) {
	s := &solver{x: x, chosen: map[string]*Choice{}, provided: map[string][]provision{}}
	if err := s.stage(s.roots(func(c *candidate) bool { return c.essential }), true); err != nil {
		return nil, err
	}
	if len(s.chosen) == 0 {
		return nil, fault.New(fault.DepWait, "the indexes hold no essential package for %s", x.arch)
	}
	roots := s.roots(func(c *candidate) bool { return c.required && !c.essential })
	be := x.byName["build-essential"]
	if be == nil {
		return nil, fault.New(fault.DepWait, "the indexes hold no build-essential for %s", x.arch)
	}
	if err := s.stage(append(roots, be), false); err != nil {
		return nil, err
	}
	set := make([]Choice, 0, len(s.chosen))
	for _, c := range s.chosen {
		set = append(set, *c)
	}
	slices.SortFunc(set, func(a, b Choice) int { return cmp.Compare(a.Name, b.Name) })
	if err := checkConflicts(set); err != nil {
		return nil, err
	}
	return set, nil
}

type solver struct {
	x        *Index
	chosen   map[string]*Choice
	provided map[string][]provision // by virtual name, of chosen packages

	plain  []*candidate // chosen, dependencies not yet looked at
	groups []group      // to be decided when plain is empty
}

// group is a relation that leaves a choice, and who asks for it.
type group struct {
	alternatives deb.Alternatives
	by           string
}

type provision struct {
	by      string
	version string // "" when unversioned
}

func (s *solver) roots(want func(*candidate) bool) []*candidate {
	var roots []*candidate
	for _, c := range s.x.byName {
		if want(c) {
			roots = append(roots, c)
		}
	}
	slices.SortFunc(roots, func(a, b *candidate) int { return cmp.Compare(a.name, b.name) })
	return roots
}

// stage chooses roots and all that they need.
func (s *solver) stage(roots []*candidate, essential bool) error {
	for _, c := range roots {
		if err := s.choose(c, essential, false); err != nil {
			return err
		}
	}
	for len(s.plain)+len(s.groups) > 0 {
		if len(s.plain) == 0 {
			g := s.groups[0]
			s.groups = s.groups[1:]
			if err := s.decide(g, essential); err != nil {
				return err
			}
			continue
		}
		c := s.plain[0]
		s.plain = s.plain[1:]
		if err := s.follow(c, essential); err != nil {
			return err
		}
	}
	return nil
}

func (s *solver) choose(c *candidate, essential, auto bool) error {
	if s.chosen[c.name] != nil {
		return nil
	}
	p, err := s.x.load(c)
	if err != nil {
		return err
	}
	s.chosen[c.name] = &Choice{Package: p, State: s.x.sources[c.file].State, Essential: essential, Auto: auto}
	provides, err := deb.ParseDependency(p.Provides)
	if err != nil {
		return fault.New(fault.Input, "package %q: read Provides: %w", c.name, err)
	}
	for _, alternatives := range provides {
		for _, r := range alternatives {
			s.provided[r.Name] = append(s.provided[r.Name], provision{c.name, r.Version})
		}
	}
	s.plain = append(s.plain, c)
	return nil
}

// follow takes the dependencies of a chosen package in.
func (s *solver) follow(c *candidate, essential bool) error {
	p := c.parsed
	for _, field := range [...]string{p.PreDepends, p.Depends} {
		relations, err := deb.ParseDependency(field)
		if err != nil {
			return fault.New(fault.Input, "package %q: read dependencies: %w", c.name, err)
		}
		for _, alternatives := range relations {
			only := s.fitting(alternatives[0])
			if len(alternatives) > 1 || only == nil {
				s.groups = append(s.groups, group{alternatives, c.name})
				continue
			}
			if err := s.choose(only, essential, !essential); err != nil {
				return err
			}
		}
	}
	return nil
}

// decide settles a group whose alternatives may all be open.
func (s *solver) decide(g group, essential bool) error {
	for _, r := range g.alternatives {
		if s.met(r) {
			return nil
		}
	}
	for _, r := range g.alternatives {
		c := s.fitting(r)
		if c == nil {
			var err error
			if c, err = s.provider(r); err != nil {
				return err
			}
		}
		if c != nil {
			return s.choose(c, essential, !essential)
		}
	}
	return fault.New(fault.DepWait, "package %q needs %q, which the indexes do not hold for %s",
		g.by, deb.Dependency{g.alternatives}.String(), s.x.arch)
}

// met reports whether a chosen package satisfies r.
func (s *solver) met(r deb.Relation) bool {
	if c := s.chosen[r.Name]; c != nil && fits(c.Package, r) {
		return true
	}
	for _, p := range s.provided[r.Name] {
		if provisionFits(p.version, r) {
			return true
		}
	}
	return false
}

// fitting returns the candidate called r.Name if it satisfies r.
func (s *solver) fitting(r deb.Relation) *candidate {
	c := s.x.byName[r.Name]
	if c == nil || !r.SatisfiedBy(c.version) {
		return nil
	}
	if r.Qualifier != "" {
		if p, err := s.x.load(c); err != nil || !fits(p, r) {
			return nil
		}
	}
	return c
}

// provider returns the best candidate that provides r.Name, or nil.
func (s *solver) provider(r deb.Relation) (*candidate, error) {
	var best *candidate
	for _, c := range s.x.providers(r.Name) {
		p, err := s.x.load(c)
		if err != nil {
			return nil, err
		}
		provides, err := deb.ParseDependency(p.Provides)
		if err != nil {
			return nil, fault.New(fault.Input, "package %q: read Provides: %w", c.name, err)
		}
		fit := slices.ContainsFunc(provides, func(a deb.Alternatives) bool {
			return a[0].Name == r.Name && provisionFits(a[0].Version, r)
		})
		if fit && (best == nil || cmp.Or(
			cmp.Compare(priorityRank(p.Priority), priorityRank(best.parsed.Priority)),
			cmp.Compare(c.name, best.name)) < 0) {
			best = c
		}
	}
	return best, nil
}

// fits reports whether p itself satisfies r, architecture qualifier included.
func fits(p *deb.Package, r deb.Relation) bool {
	switch r.Qualifier {
	case "", "native":
	case "any":
		if p.MultiArch != "allowed" {
			return false
		}
	default:
		if p.Architecture != r.Qualifier {
			return false
		}
	}
	return r.SatisfiedBy(p.Version)
}

// provisionFits reports whether a Provides with this version satisfies r: only
// a versioned one meets a versioned relation (Policy 7.5).
func provisionFits(version string, r deb.Relation) bool {
	if r.Op == "" {
		return true
	}
	return version != "" && r.SatisfiedBy(version)
}

func priorityRank(p string) int {
	ranks := []string{"required", "important", "standard", "optional"}
	if i := slices.Index(ranks, strings.ToLower(p)); i >= 0 {
		return i
	}
	return len(ranks)
}
