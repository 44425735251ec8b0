package chroot

import (
	"cmp"
	"context"
	"slices"

	"dbuild/archive"
	"dbuild/deb"
	"dbuild/engine"
	"dbuild/internal/fault"
)

// member is one package of the base on its way into the container.
type member struct {
	Choice
	file  archive.File
	seed  bool // the container's xz needs it
	early bool // see [packageSet.split]

	// Filled in when the .deb was opened and unpacked.
	control *deb.BinaryFile
	entries []engine.PutEntry // of the data member, in tar order
}

// packageSet is the whole base, sorted by name.
type packageSet struct {
	members   []*member
	byName    map[string]*member
	providers map[string][]*member // by provided name
}

// resolve reads the indexes and picks the packages.
func resolve(ctx context.Context, o Options) (_ *packageSet, err error) {
	if err := o.Copy.Prefetch(ctx, o.States, []string{o.Arch}); err != nil {
		return nil, err
	}
	var files []IndexFile
	for i, st := range o.States {
		for _, component := range st.Source.Components {
			path, err := o.Copy.Packages(ctx, st, component, o.Arch)
			if err != nil {
				return nil, err
			}
			if path != "" {
				files = append(files, IndexFile{Path: path, State: i, Pin: pinOf(st)})
			}
		}
	}
	if len(files) == 0 {
		return nil, fault.New(fault.DepWait, "the archives of %q have no packages for %s", o.Suite.Name, o.Arch)
	}
	x, err := OpenIndex(ctx, o.Arch, files)
	if err != nil {
		return nil, fault.Wrap(fault.Input, err)
	}
	choices, err := Solve(x)
	if cerr := x.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	return newPackageSet(choices, func(c Choice) archive.File {
		return o.States[c.State].Source.File(c.Package)
	}), nil
}

// pinOf is apt's default priority of a source (apt_preferences(5)) unless the
// source has its own.
func pinOf(st *archive.State) int {
	switch {
	case st.Source.Pin != 0:
		return st.Source.Pin
	case st.Release.NotAutomatic && st.Release.ButAutomaticUpgrades:
		return 100
	case st.Release.NotAutomatic:
		return 1
	}
	return 500
}

func newPackageSet(choices []Choice, file func(Choice) archive.File) *packageSet {
	s := &packageSet{byName: make(map[string]*member, len(choices)), providers: map[string][]*member{}}
	for _, c := range choices {
		m := &member{Choice: c, file: file(c)}
		s.members = append(s.members, m)
		s.byName[c.Name] = m
		for _, r := range relations(c.Provides) {
			s.providers[r.Name] = append(s.providers[r.Name], m)
		}
	}
	s.split()
	return s
}

// split marks the seeds and divides the set in two groups. The early group is
// configured while the rest, mostly the compiler, is still being unpacked: it
// is the essential and required packages and the shared libraries, with all
// that they need. Libraries belong to it because ldconfig runs when it is
// configured and must not meet one half unpacked; the few packages of the late
// group that have triggers are held back until that is over, see [queue].
func (s *packageSet) split() {
	var early []string
	for _, m := range s.members {
		if m.Choice.Essential || m.Priority == "required" || m.Section == "libs" {
			early = append(early, m.Name)
		}
	}
	for _, m := range s.closure(early) {
		m.early = true
	}
	for _, m := range s.closure([]string{"xz-utils"}) {
		m.seed = true
	}
}

// group returns the members of one of the two groups, sorted by name.
func (s *packageSet) group(early bool) []*member {
	var list []*member
	for _, m := range s.members {
		if m.early == early {
			list = append(list, m)
		}
	}
	return list
}

// has reports whether the set has a package called name.
func (s *packageSet) has(name string) bool { return s.byName[name] != nil }

// list is the set as the caller records it.
func (s *packageSet) list() []Package {
	list := make([]Package, len(s.members))
	for i, m := range s.members {
		list[i] = Package{Name: m.Name, Version: m.Version, Arch: m.Architecture, SHA256: m.SHA256, Auto: m.Auto}
	}
	return list
}

// fetchOrder is the order to download in: base-files, which tells how the
// root looks, the seeds, the early group, the rest, of each the largest first,
// so that no big one is left over at the end.
func (s *packageSet) fetchOrder() []*member {
	rank := func(m *member) int {
		switch {
		case m.Name == baseFiles:
			return 0
		case m.seed:
			return 1
		case m.early:
			return 2
		}
		return 3
	}
	order := slices.Clone(s.members)
	slices.SortFunc(order, func(a, b *member) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(b.Size, a.Size), cmp.Compare(a.Name, b.Name))
	})
	return order
}

// closure returns the members called names and all that they depend on inside
// the set, a dependency before what needs it as far as there are no cycles.
func (s *packageSet) closure(names []string) []*member {
	var (
		order []*member
		seen  = map[*member]bool{}
		visit func(m *member)
	)
	visit = func(m *member) {
		if m == nil || seen[m] {
			return
		}
		seen[m] = true
		for _, r := range append(relations(m.PreDepends), relations(m.Depends)...) {
			visit(s.byName[r.Name])
			for _, p := range s.providers[r.Name] {
				visit(p)
			}
		}
		order = append(order, m)
	}
	for _, name := range names {
		visit(s.byName[name])
	}
	return order
}

// configureOrder is the order in which dpkg is asked to configure one group:
// that of mmdebstrap as far as it can be seen in the result, the essential
// stage first, each by name and behind its dependencies.
func (s *packageSet) configureOrder(early bool) []*member {
	var essential, rest []string
	for _, m := range s.group(early) {
		if m.Choice.Essential {
			essential = append(essential, m.Name)
		} else {
			rest = append(rest, m.Name)
		}
	}
	order := s.closure(append(essential, rest...))
	return slices.DeleteFunc(order, func(m *member) bool { return m.early != early })
}

// relations flattens a field that [Solve] has parsed without an error.
func relations(field string) []deb.Relation {
	var flat []deb.Relation
	d, _ := deb.ParseDependency(field)
	for _, alternatives := range d {
		flat = append(flat, alternatives...)
	}
	return flat
}
