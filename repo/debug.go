package repo

import (
	"context"
	"slices"
	"strings"
)

// isDebug tells whether a package was made by debhelper to hold the debug
// symbols of another (debhelper(7), Policy 4.8.1).
func (s stanza) isDebug() bool {
	_, section, ok := strings.Cut(s.section, "/")
	if !ok {
		section = s.section
	}
	return s.kind == kindDeb && strings.HasSuffix(s.name, "-dbgsym") && section == "debug"
}

// debugSuite is the suite of a suite's debug packages.
func (s Suite) debugSuite() Suite {
	d := s
	d.Name, d.Suite, d.Codename = s.Name+"-debug", s.Suite+"-debug", s.Codename+"-debug"
	d.Description = "debug symbols of " + s.Name
	d.Debug = DebugSame
	d.Architectures, d.Components = slices.Clone(s.Architectures), slices.Clone(s.Components)
	return d
}

// createDebugSuite makes the debug suite of a suite whose rules ask for one, so
// that a source may name it before the first package is there.
func (r *Repo) createDebugSuite(ctx context.Context, name string) error {
	s, found, err := r.readSuite(name)
	if err != nil || !found || s.Debug != DebugSuite {
		return err
	}
	d := s.debugSuite()
	if _, found, err := r.readSuite(d.Name); err != nil || found {
		return err
	}
	return r.CreateSuite(ctx, d)
}

// routed puts the debug packages of an upload into their component.
func (c checked) routed(s Suite) checked {
	if s.Debug != DebugComponent {
		return c
	}
	c.items = slices.Clone(c.items)
	for i, it := range c.items {
		if it.isDebug() && !strings.HasSuffix(it.component, "-debug") {
			c.items[i].component += "-debug"
		}
	}
	return c
}

// split parts an upload into what goes into the suite and what into its debug
// suite.
func (c checked) split() (main, debug checked) {
	main, debug = c, c
	main.all, debug.all = c.items, c.items
	main.items = slices.DeleteFunc(slices.Clone(c.items), func(it item) bool { return it.isDebug() })
	debug.items = slices.DeleteFunc(slices.Clone(c.items), func(it item) bool { return !it.isDebug() })
	return main, debug
}

// publishDebug brings the debug packages of an upload into the debug suite
// before the others come into theirs, so that none is ever without its symbols.
// An upload that the suite itself refuses is refused before.
func (r *Repo) publishDebug(ctx context.Context, s Suite, main, debug checked) (p Published, err error) {
	var ch change
	var placed []entry
	g, err := r.update(ctx, s.debugSuite(), func(w *writer, d Suite, cur generation) (_ change, err error) {
		have, shown, err := w.openSuite(ctx, s)
		if err != nil {
			return ch, err
		}
		if _, _, err := w.plan(ctx, have, shown, main); err != nil {
			return ch, err
		}
		ch, placed, err = w.accept(ctx, d, cur, debug)
		return ch, err
	})
	if err != nil {
		return p, err
	}
	return r.published(g, ch, placed), nil
}
