package repo

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"dbuild/internal/fault"
)

// Drop takes a suite, or a snapshot, out of the repository and returns what it
// listed. Its debug suite goes with it. Files that no other suite lists are
// removed by the next Collect. Refused with class usage are a suite that lists
// something and is no snapshot, unless forced, and the debug suite of another.
func (r *Repo) Drop(ctx context.Context, suite string, force bool) (gone []Package, err error) {
	err = r.write(ctx, func(w *writer) error {
		s, err := w.droppable(ctx, suite)
		if err != nil {
			return err
		}
		names := []string{suite}
		if debug := s.debugSuite().Name; s.Debug == DebugSuite && w.isSuite(debug) {
			names = []string{debug, suite} // in this order the same command can be given again
		}
		for _, name := range names {
			rows, err := w.rows(ctx, name, `1`)
			if err != nil {
				return err
			}
			for _, e := range rows {
				gone = append(gone, e.listed(name))
			}
		}
		if len(gone) > 0 && s.Snapshot == "" && !force {
			return fault.WithHint(fault.New(fault.Usage, "drop suite %q: it lists %d packages", suite, len(gone)), "--force drops it all the same")
		}
		for _, name := range names {
			if err := w.drop(ctx, name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return gone, nil
}

// droppable returns a suite, with its rows in step, that others do not need.
func (w *writer) droppable(ctx context.Context, suite string) (Suite, error) {
	names, err := w.queried("")
	if err != nil {
		return Suite{}, err
	}
	if _, err := w.queried(suite); err != nil || suite == "" {
		return Suite{}, errors.Join(err, map[bool]error{true: fault.New(fault.Usage, "drop: no suite given")}[suite == ""])
	}
	for _, name := range names {
		o, found, err := w.readSuite(name)
		if err != nil {
			return Suite{}, err
		}
		if found && o.Debug == DebugSuite && o.debugSuite().Name == suite {
			return Suite{}, fault.New(fault.Usage, "drop suite %q: the debug packages of %q go there", suite, name)
		}
	}
	s, _, err := w.openSuite(ctx, DefaultSuite(suite))
	return s, err
}

func (r *Repo) isSuite(name string) bool {
	names, err := r.suiteNames()
	return err == nil && slices.Contains(names, name)
}

// droppedMark is what the link of a suite becomes when the suite is dropped, and
// what stays until nothing else of the suite is left.
func droppedMark(suite string) string { return path.Join("dists", "."+suite+".dropped") }

func (r *Repo) dropped(suite string) bool {
	_, err := os.Lstat(r.path(droppedMark(suite)))
	return err == nil
}

// drop takes the suite away from clients in one step, and then removes what it
// was made of. Whoever comes next goes on where that ended.
func (w *writer) drop(ctx context.Context, suite string) error {
	link := path.Join("dists", suite)
	_, err := os.Lstat(w.path(link))
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.Join(w.disk.mkdir("dists"), w.disk.symlink(".", droppedMark(suite)))
	} else if err == nil {
		err = w.disk.rename(link, droppedMark(suite))
	}
	if err != nil {
		return err
	}
	if err := w.disk.sync(); err != nil {
		return err
	}
	return w.sweepDropped(ctx, suite)
}

// sweepDropped removes what is left of a suite that was dropped.
func (w *writer) sweepDropped(ctx context.Context, suite string) error {
	err := inTx(context.WithoutCancel(ctx), w.db, func(tx *sql.Tx) error {
		for _, query := range []string{
			`DELETE FROM repo_entry WHERE suite = ?`, `DELETE FROM repo_shard WHERE suite = ?`,
			`DELETE FROM repo_pending WHERE suite = ?`, `DELETE FROM repo_draft WHERE suite = ?`, `DELETE FROM repo_suite WHERE name = ?`,
		} {
			if _, err := tx.ExecContext(ctx, query, suite); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if _, err := w.drafts(suite); err != nil { // who makes one will find the suite gone
		return err
	}
	ns, err := w.generations(suite)
	if err != nil {
		return err
	}
	left := []string{suiteFile(suite), recordDir(suite), byHashDir(suite), shardDir(suite), path.Join("dists", "."+suite+".new")}
	for _, n := range ns {
		left = append(left, generationDir(suite, n))
	}
	for _, rel := range left {
		if _, err := os.Lstat(w.path(rel)); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := w.disk.removeAll(rel); err != nil {
			return err
		}
		w.disk.changed(filepath.Dir(rel))
	}
	if err := w.disk.sync(); err != nil {
		return err
	}
	return w.disk.remove(droppedMark(suite))
}

// sweepAllDropped does so for all suites whose removal did not come to its end.
func (w *writer) sweepAllDropped(ctx context.Context) error {
	marks, err := filepath.Glob(w.path(droppedMark("*")))
	if err != nil {
		return err
	}
	for _, m := range marks {
		suite := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(m), "."), ".dropped")
		if err := w.sweepDropped(ctx, suite); err != nil {
			return err
		}
	}
	return nil
}
