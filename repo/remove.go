package repo

import (
	"context"
	"slices"
	"strings"

	"dbuild/internal/fault"
)

// Selection names what is to leave a suite.
type Selection struct {
	Suite string
	// Names are NAME or NAME=VERSION, of binary and source packages.
	Names []string
	// BySource takes the names for those of sources, and everything that was
	// built from them goes as well; a VERSION is then the source's.
	BySource bool
}

// Remove takes packages out of a suite, all in one generation, and returns
// them. Their files stay for the grace time; what was removed may come back
// with the same bytes. A name that selects nothing is an error of class usage,
// and then nothing is removed.
func (r *Repo) Remove(ctx context.Context, sel Selection) (removed []Package, err error) {
	if _, err := r.queried(sel.Suite); err != nil {
		return nil, err
	}
	if sel.Suite == "" || len(sel.Names) == 0 {
		return nil, fault.New(fault.Usage, "remove: no suite or no package given")
	}
	_, err = r.update(ctx, DefaultSuite(sel.Suite), func(w *writer, s Suite, cur generation) (change, error) {
		ch := change{suite: s, from: cur}
		if err := s.fixed(); err != nil {
			return ch, err
		}
		var err error
		if ch.drop, err = w.selectedAll(ctx, sel); err != nil {
			return ch, err
		}
		for _, e := range ch.drop {
			removed = append(removed, e.listed(s.Name))
		}
		return ch, nil
	})
	if err != nil {
		return nil, err
	}
	return removed, nil
}

// selected are the entries that one name of a selection means.
func (r *Repo) selected(ctx context.Context, sel Selection, name string) ([]entry, error) {
	bare, version, _ := strings.Cut(name, "=")
	column := `e.name`
	if sel.BySource {
		column = `e.source`
	}
	found, err := r.rows(ctx, sel.Suite, column+` = ?`, bare)
	if err != nil {
		return nil, err
	}
	found = slices.DeleteFunc(found, func(e entry) bool {
		have := e.version
		if sel.BySource {
			have = e.sourceVersion
		}
		return version != "" && version != have
	})
	if len(found) == 0 {
		return nil, fault.New(fault.Usage, "remove: suite %q has no %q", sel.Suite, name)
	}
	return found, nil
}
