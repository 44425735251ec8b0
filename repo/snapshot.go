package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"time"

	"dbuild/deb"
	"dbuild/internal/fault"
)

// Snapshot makes a suite with the given name that lists what another one lists
// now, and never changes: apt can name it like any suite. Its packages are the
// same files. A name that is taken is an error of class usage.
func (r *Repo) Snapshot(ctx context.Context, suite, name string) error {
	if _, err := r.queried(suite); err != nil {
		return err
	}
	s := DefaultSuite(name)
	s.Snapshot = suite
	from, _, err := r.readSuite(suite)
	if err != nil {
		return err
	}
	s.Origin, s.Label = from.Origin, from.Label
	s.NotAutomatic, s.ButAutomaticUpgrades = from.NotAutomatic, from.ButAutomaticUpgrades
	s.Description = "snapshot of " + suite
	s.Rules = Rules{Immutable: true, Contents: from.Contents, Translations: from.Translations, XZ: from.XZ}
	s.Architectures, s.Components = from.Architectures, from.Components
	if err := s.check(); err != nil {
		return fault.Wrap(fault.Usage, fmt.Errorf("snapshot: %w", err))
	}
	_, err = r.update(ctx, s, func(w *writer, have Suite, cur generation) (change, error) {
		ch := change{suite: have, from: cur}
		if have.Snapshot != suite || cur.n > 0 {
			return ch, fault.New(fault.Usage, "snapshot %q: the name is taken by a suite", name)
		}
		_, now, err := w.openSuite(ctx, DefaultSuite(suite))
		if err != nil {
			return ch, err
		}
		if now.n > 0 {
			ch.architectures, ch.components = without(slices.Clone(now.release.Architectures), []string{"all"}), now.release.Components
		}
		ch.add, err = w.rows(ctx, suite, `1`)
		return ch, err
	})
	return err
}

// fixed refuses to change a snapshot.
func (s Suite) fixed() error {
	if s.Snapshot == "" {
		return nil
	}
	return fault.New(fault.Usage, "suite %q is a snapshot of %q and never changes", s.Name, s.Snapshot)
}

// Generation is one state that a suite was in and that is still there.
type Generation struct {
	Number  int       `json:"generation"`
	Date    time.Time `json:"date"`
	Current bool      `json:"current"` // clients see this one
}

// Generations lists the generations of a suite that are still there, the newest
// first.
func (r *Repo) Generations(ctx context.Context, suite string) (all []Generation, err error) {
	if _, err := r.queried(suite); err != nil {
		return nil, err
	}
	cur, err := r.shown(ctx, suite)
	if err != nil {
		return nil, err
	}
	ns, err := r.generations(suite)
	if err != nil {
		return nil, err
	}
	for _, n := range slices.Backward(ns) {
		if g, err := r.generation(suite, n); err == nil && n <= cur.n {
			all = append(all, Generation{Number: n, Date: g.release.Date, Current: n == cur.n})
		}
	}
	return all, nil
}

// Rollback makes a suite list again what it listed in an earlier generation, or
// what a snapshot lists. It makes a new generation of it, since the Date must
// rise. n is the generation; zero takes the last one before the current, and a
// snapshot that is not empty is taken instead. What is newer is not lost: its
// generation can be gone back to as well, until it is collected. Rollback
// returns what left the suite and what came back.
func (r *Repo) Rollback(ctx context.Context, suite string, n int, snapshot string) (gone, back []Package, err error) {
	if _, err := r.queried(suite); err != nil {
		return nil, nil, err
	}
	if snapshot != "" {
		if _, err := r.queried(snapshot); err != nil {
			return nil, nil, err
		}
	}
	_, err = r.update(ctx, DefaultSuite(suite), func(w *writer, s Suite, cur generation) (change, error) {
		ch := change{suite: s, from: cur}
		if err := s.fixed(); err != nil {
			return ch, err
		}
		want, err := w.earlier(ctx, suite, cur, n, snapshot)
		if err != nil {
			return ch, err
		}
		have, err := w.rows(ctx, suite, `1`)
		if err != nil {
			return ch, err
		}
		ch.drop, ch.add = difference(have, want)
		for _, e := range ch.add {
			if err := w.here(e); err != nil {
				return ch, err
			}
			back = append(back, e.listed(suite))
		}
		for _, e := range ch.drop {
			gone = append(gone, e.listed(suite))
		}
		return ch, nil
	})
	if err != nil {
		return nil, nil, err
	}
	return gone, back, nil
}

// earlier are the entries of the state that Rollback goes back to.
func (w *writer) earlier(ctx context.Context, suite string, cur generation, n int, snapshot string) ([]entry, error) {
	if snapshot != "" {
		if _, _, err := w.openSuite(ctx, DefaultSuite(snapshot)); err != nil {
			return nil, err
		}
		return w.rows(ctx, snapshot, `1`)
	}
	ns, err := w.generations(suite)
	if err != nil {
		return nil, err
	}
	ns = slices.DeleteFunc(ns, func(i int) bool { return i >= cur.n })
	if n == 0 && len(ns) > 0 {
		n = slices.Max(ns)
	}
	if !slices.Contains(ns, n) {
		return nil, fault.WithHint(fault.New(fault.Usage, "roll back %q: there is no such generation before the current one", suite),
			"dbuild repo rollback -d %s --list", suite)
	}
	g, err := w.generation(suite, n)
	if err != nil {
		return nil, err
	}
	return w.readEntries(suite, g)
}

// difference is what is in have alone and in want alone.
func difference(have, want []entry) (drop, add []entry) {
	type key struct {
		id
		sha256, component, path string
	}
	keyOf := func(e entry) key { return key{e.id(), e.sha256, e.component, e.path} }
	in := map[key]bool{}
	for _, e := range want {
		in[keyOf(e)] = true
	}
	for _, e := range have {
		if !in[keyOf(e)] {
			drop = append(drop, e)
		}
		delete(in, keyOf(e))
	}
	for _, e := range want {
		if in[keyOf(e)] {
			add = append(add, e)
		}
	}
	return drop, add
}

// here tells whether the files of an entry are still in the pool.
func (r *Repo) here(e entry) error {
	rows, err := e.sourceRows()
	if err != nil {
		return err
	}
	for _, row := range rows {
		rel := path.Join(path.Dir(e.filePath()), row.Name)
		fi, err := os.Lstat(r.path(rel))
		if err == nil && fi.Size() != row.Size {
			err = errors.New("it has another size")
		}
		if errors.Is(err, fs.ErrNotExist) {
			return fault.New(fault.Input, "%q is no longer in the pool", rel)
		}
		if err != nil {
			return fault.New(fault.Input, "%q: %w", rel, err)
		}
	}
	return nil
}

// sourceRows are the files of an entry beside each other: one of a package, all
// of a source.
func (e entry) sourceRows() ([]deb.File, error) {
	if e.kind != kindSource {
		return []deb.File{{Name: path.Base(e.path), Size: e.size, SHA256: e.sha256}}, nil
	}
	return e.sourceFiles()
}

// Resign makes a new generation of a suite with the same content and a new Date,
// and brings in what a publish that was killed had recorded.
func (r *Repo) Resign(ctx context.Context, suite string) (n int, date time.Time, err error) {
	if _, err := r.queried(suite); err != nil {
		return 0, time.Time{}, err
	}
	g, err := r.update(ctx, DefaultSuite(suite), func(_ *writer, s Suite, cur generation) (change, error) {
		return change{suite: s, from: cur, anew: true}, nil
	})
	if err != nil {
		return 0, time.Time{}, err
	}
	return g.n, g.release.Date, nil
}

// Settle makes the generation that a publish which was killed had recorded, if
// there is one, and renews what is due.
func (r *Repo) Settle(ctx context.Context, suite string) (n int, date time.Time, err error) {
	if _, err := r.Renew(ctx, suite); err != nil {
		return 0, time.Time{}, err
	}
	g, err := r.current(suite)
	if err != nil || g.n == 0 {
		return 0, time.Time{}, err
	}
	return g.n, g.release.Date, nil
}
