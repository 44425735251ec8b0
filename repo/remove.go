package repo

import (
	"context"
	"errors"
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
		chosen, err := w.selectedAll(ctx, sel)
		if err != nil {
			// Clients may see what waits to go: then that is what is asked for.
			if removed, err = w.leaving(ctx, sel, cur, err); err != nil {
				return ch, err
			}
			return ch, nil
		}
		ch.drop = chosen
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

// leaving are the packages of a selection that clients still see, while the rows
// no longer have any of them: an earlier removal waits for its generation. For
// others it returns missing, the error of a name that selects nothing.
func (w *writer) leaving(ctx context.Context, sel Selection, cur generation, missing error) (all []Package, err error) {
	if ticket, err := w.lastTicket(ctx, sel.Suite); err != nil || ticket == 0 {
		return nil, errors.Join(missing, err)
	}
	shown, err := w.readEntries(sel.Suite, cur)
	if err != nil {
		return nil, errors.Join(missing, err)
	}
	for _, name := range sel.Names {
		some := slices.DeleteFunc(slices.Clone(shown), func(e entry) bool { return !sel.means(e, name) })
		if _, err := w.selected(ctx, sel, name); err == nil || len(some) == 0 {
			return nil, missing
		}
		for _, e := range some {
			all = append(all, e.listed(sel.Suite))
		}
	}
	return all, nil
}

// means tells whether a name of a selection is that of an entry.
func (sel Selection) means(e entry, name string) bool {
	bare, version, _ := strings.Cut(name, "=")
	if sel.BySource {
		return e.source == bare && (version == "" || version == e.sourceVersion)
	}
	return e.name == bare && (version == "" || version == e.version)
}

// selected are the entries that one name of a selection means.
func (r *Repo) selected(ctx context.Context, sel Selection, name string) ([]entry, error) {
	bare, _, _ := strings.Cut(name, "=")
	column := `e.name`
	if sel.BySource {
		column = `e.source`
	}
	found, err := r.rows(ctx, sel.Suite, column+` = ?`, bare)
	if err != nil {
		return nil, err
	}
	found = slices.DeleteFunc(found, func(e entry) bool { return !sel.means(e, name) })
	if len(found) == 0 {
		return nil, fault.New(fault.Usage, "remove: suite %q has no %q", sel.Suite, name)
	}
	return found, nil
}
