package repo

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"

	"dbuild/deb"
	"dbuild/internal/fault"
)

// A record is what it takes to make the generation that clients see again, apart
// from dists: the forms of its indexes by hash, and its Release files in a
// directory of the generation's number. They are further names of the same
// files, so that a record costs a few links, and what it says is signed.

// recordDir holds the record of a suite.
func recordDir(suite string) string { return path.Join("records", suite) }

// releaseFiles are the files that are signed, or sign, in the order in which they
// come.
var releaseFiles = []string{"Release", "Release.gpg", "InRelease"}

// nextRecord is the directory of a generation that clients do not see yet.
const nextRecord = "next"

// keepRecord makes the record of a generation before clients see it. It counts,
// and the one before goes, with adoptRecord.
func (w *writer) keepRecord(suite string, g generation) error {
	dir := recordDir(suite)
	sub := path.Join(dir, nextRecord)
	if _, err := os.Lstat(w.path(sub)); err == nil { // of a publish that was killed
		if err := w.disk.removeAll(sub); err != nil {
			return err
		}
	}
	if err := w.disk.mkdirAll(sub); err != nil {
		return err
	}
	for p, row := range g.release.Files {
		if err := w.alsoAs(stored(p), byHashPath(suite, row.SHA256), path.Join(dir, row.SHA256)); err != nil {
			return err
		}
	}
	for _, name := range releaseFiles {
		if err := w.disk.link(path.Join(g.dir, name), path.Join(sub, name)); err != nil {
			return err
		}
	}
	return nil
}

// alsoAs gives a file another name, unless it is taken.
func (w *writer) alsoAs(wanted bool, from, to string) error {
	if !wanted {
		return nil
	}
	if _, err := os.Lstat(w.path(to)); err == nil {
		return nil
	}
	return w.disk.link(from, to)
}

// recorded tells whether there is a record of just this generation.
func (r *Repo) recorded(suite string, g generation) bool {
	kept, err := os.Stat(r.path(path.Join(recordDir(suite), strconv.Itoa(g.n), "InRelease")))
	if err != nil {
		return false
	}
	shown, err := os.Stat(r.path(path.Join(g.dir, "InRelease")))
	return err == nil && os.SameFile(kept, shown)
}

// adoptRecord makes the record that keepRecord made that of the suite, once
// clients see the generation.
func (w *writer) adoptRecord(suite string, g generation) error {
	dir := recordDir(suite)
	sub := path.Join(dir, strconv.Itoa(g.n))
	if _, err := os.Lstat(w.path(sub)); err == nil { // damaged, and made again
		if err := w.disk.removeAll(sub); err != nil {
			return err
		}
	}
	if err := w.disk.rename(path.Join(dir, nextRecord), sub); err != nil {
		return err
	}
	return w.pruneRecord(suite, g)
}

// pruneRecord removes what the record of a suite has beside that of the
// generation.
func (w *writer) pruneRecord(suite string, g generation) error {
	keep := map[string]bool{strconv.Itoa(g.n): true}
	for p, row := range g.release.Files {
		keep[row.SHA256] = keep[row.SHA256] || stored(p)
	}
	names, err := os.ReadDir(w.path(recordDir(suite)))
	if err != nil {
		return err
	}
	for _, d := range names {
		if keep[d.Name()] {
			continue
		}
		if err := w.disk.removeAll(path.Join(recordDir(suite), d.Name())); err != nil {
			return err
		}
	}
	return nil
}

// refreshRecord makes the record one of the generation, if it is not.
func (w *writer) refreshRecord(suite string, g generation) error {
	if g.n == 0 {
		return nil
	}
	if !w.recorded(suite, g) {
		if err := w.keepRecord(suite, g); err != nil {
			return err
		}
		if err := w.disk.sync(); err != nil {
			return err
		}
		return w.adoptRecord(suite, g)
	}
	return w.pruneRecord(suite, g)
}

// recordedGenerations are the numbers of the generations in the record of a
// suite, falling.
func (r *Repo) recordedGenerations(suite string) (ns []int, err error) {
	names, err := os.ReadDir(r.path(recordDir(suite)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, d := range names {
		if n, err := strconv.Atoi(d.Name()); err == nil && n > 0 && d.IsDir() {
			ns = append(ns, n)
		}
	}
	slices.Sort(ns)
	slices.Reverse(ns)
	return ns, err
}

// mended is the generation that clients see. If there is none, but there was, it
// is made again: from the record, or else from the rows of the database.
func (w *writer) mended(ctx context.Context, suite string) (generation, error) {
	cur, err := w.current(suite)
	if err != nil || cur.n > 0 {
		return cur, err
	}
	ns, err := w.recordedGenerations(suite)
	if err != nil {
		return cur, err
	}
	var errs []error
	for _, n := range ns {
		g, err := w.restore(suite, n)
		if err == nil {
			return g, nil
		}
		errs = append(errs, fmt.Errorf("restore generation %d of %q from its record: %w", n, suite, err))
	}
	if g, err := w.restoreRows(ctx, suite); err != nil || g.n > 0 {
		return g, errors.Join(append(errs, err)...)
	}
	if len(errs) > 0 {
		return cur, errors.Join(errs...)
	}
	return w.shown(ctx, suite)
}

// restore shows a generation that is recorded, byte for byte as it was signed.
func (w *writer) restore(suite string, n int) (g generation, err error) {
	dir := recordDir(suite)
	sub := path.Join(dir, strconv.Itoa(n))
	text, err := os.ReadFile(w.path(path.Join(sub, "Release")))
	if err != nil {
		return g, err
	}
	if g, err = newGeneration(suite, n, text); err != nil {
		return g, err
	}
	there := g.dir
	g.dir = sub
	if err := w.verifySigned(g); err != nil {
		return g, err
	}
	g.dir = there
	if err := w.disk.removeAll(g.dir); err != nil {
		return g, err
	}
	if err := w.disk.mkdirAll(path.Join(byHashDir(suite), "SHA256")); err != nil {
		return g, err
	}
	var rows []deb.IndexFile
	for p, row := range g.release.Files {
		row.Path = p
		rows = append(rows, row)
		if err := w.relink(stored(p), path.Join(dir, row.SHA256), byHashPath(suite, row.SHA256), row); err != nil {
			return g, err
		}
	}
	if err := w.disk.mkdir(g.dir); err != nil {
		return g, err
	}
	if err := w.fillGeneration(suite, g.dir, rows); err != nil {
		return g, err
	}
	for _, name := range releaseFiles {
		if err := w.disk.link(path.Join(sub, name), path.Join(g.dir, name)); err != nil {
			return g, err
		}
	}
	if err := w.disk.sync(); err != nil {
		return g, err
	}
	w.report.Warn("restored generation %d of suite %s from its record", n, suite)
	return g, w.show(suite, n)
}

// relink puts a recorded file back to where it was, unless it is still there.
func (w *writer) relink(wanted bool, from, to string, row deb.IndexFile) error {
	if !wanted || w.verifyFile(to, row.Size, row.SHA256) == nil {
		return nil
	}
	if err := w.verifyFile(from, row.Size, row.SHA256); err != nil {
		return fault.New(fault.Trust, "%q: %w", from, err)
	}
	if err := w.disk.remove(to); err != nil {
		return err
	}
	return w.disk.link(from, to)
}

// restoreRows makes a first generation from the rows of a suite whose other
// generations are all gone; it does nothing if there are any, or no rows.
func (w *writer) restoreRows(ctx context.Context, suite string) (g generation, err error) {
	ns, err := w.generations(suite)
	if err != nil || len(ns) > 0 {
		return g, err
	}
	release, err := w.recordedRelease(ctx, suite)
	if err != nil || release == "" {
		return g, err
	}
	s, found, err := w.readSuite(suite)
	if err != nil {
		return g, err
	}
	if !found {
		s = DefaultSuite(suite)
		if err := w.writeSuite(s); err != nil {
			return g, err
		}
	}
	w.report.Warn("dists/%s and its record were lost; made again from the database", suite)
	var st *staged
	err = w.inTx(ctx, func(tx *sql.Tx, commit func() error) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM repo_shard WHERE suite = ?`, suite); err != nil {
			return err
		}
		if err := touchAll(ctx, tx, suite); err != nil {
			return err
		}
		p, err := readPending(ctx, tx, suite)
		if err != nil {
			return err
		}
		date, _ := w.nextDate(suite, generation{})
		if st, err = w.stage(ctx, tx, draft{s, generation{}, p}, date); err != nil {
			return err
		}
		return w.commitRecord(ctx, st, commit)
	})
	if err != nil {
		return g, err
	}
	// Nobody can do without it: this once, all wait for the keys.
	defer func() { err = errors.Join(err, w.discard(st)) }()
	signed, err := w.sign(ctx, st)
	if err != nil {
		return g, err
	}
	return st.generation, w.showStaged(ctx, st, signed)
}

// touchAll records every kind of index that the rows of a suite are in.
func touchAll(ctx context.Context, tx querier, suite string) error {
	seen := map[touch]bool{}
	err := eachRow(ctx, tx, suite, `1`, nil, func(e entry) error {
		seen[touch{component: e.component, kind: e.kind, arch: e.arch}] = true
		seen[touch{component: e.component}] = true
		if e.arch != "all" && e.arch != archSource {
			seen[touch{arch: e.arch}] = true
		}
		return nil
	})
	for t := range seen {
		err = errors.Join(err, recordTouch(ctx, tx, suite, t))
	}
	return err
}
