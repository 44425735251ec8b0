package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Collected is what [Repo.Collect] removed.
type Collected struct {
	Generations int   // superseded generations
	Indexes     int   // index files by hash
	PoolFiles   int   // packages and sources
	Bytes       int64 // of all of these, as far as no other name shares them
}

// Collect removes what no client can still need: generations that were
// superseded longer ago than the grace time and are not among the last ones
// kept, then the indexes and pool files that no remaining generation lists,
// and whatever a killed publish left. It takes the repository's lock, may be
// interrupted anywhere and simply run again, and touches no .changes or
// .buildinfo.
func (r *Repo) Collect(ctx context.Context, now time.Time) (c Collected, err error) {
	err = r.write(ctx, func(w *writer) error {
		if err := w.sweepAllDropped(ctx); err != nil {
			return fmt.Errorf("collect from dropped suites: %w", err)
		}
		if _, err := w.drafts(""); err != nil {
			return fmt.Errorf("collect drafts: %w", err)
		}
		names, err := w.suiteNames()
		if err != nil {
			return err
		}
		files := map[string]bool{} // a suite may list what is in the pool of another
		for _, name := range names {
			if err := w.collectSuite(ctx, name, now, files, &c); err != nil {
				return fmt.Errorf("collect from suite %q: %w", name, err)
			}
		}
		if err := w.sweep(ctx, "pool", files, &c.PoolFiles, &c.Bytes); err != nil {
			return fmt.Errorf("collect from pool: %w", err)
		}
		for _, table := range []string{"repo_stanza", "repo_contents"} {
			if _, err := w.db.ExecContext(ctx, `DELETE FROM `+table+` WHERE sha256 NOT IN (SELECT sha256 FROM repo_entry)`); err != nil {
				return err
			}
		}
		return nil
	})
	return c, err
}

// collectSuite removes generations and indexes of a suite, and adds to files
// what of the pool it still needs.
func (w *writer) collectSuite(ctx context.Context, suite string, now time.Time, files map[string]bool, c *Collected) error {
	cur, err := w.mended(ctx, suite)
	if err != nil {
		return err
	}
	if err := w.refreshRecord(suite, cur); err != nil {
		return err
	}
	kept, err := w.collectGenerations(suite, cur, now, c)
	if err != nil {
		return err
	}
	indexes := map[string]bool{}
	for _, g := range kept {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.mark(suite, g, indexes, files); err != nil {
			return err
		}
	}
	drafts, err := w.markDrafts(suite, indexes, files)
	if err != nil {
		return err
	}
	if err := w.markPending(ctx, suite, files); err != nil {
		return err
	}
	shards, err := w.shardFiles(ctx, suite)
	if err != nil {
		return err
	}
	if err := w.sweep(ctx, byHashDir(suite), indexes, &c.Indexes, &c.Bytes); err != nil || drafts > 0 {
		return err // the shards of a draft are not recorded yet
	}
	return w.sweep(ctx, shardDir(suite), shards, new(int), new(int64))
}

// markDrafts adds what the drafts list that wait to be signed, and returns how
// many those are.
func (w *writer) markDrafts(suite string, indexes, files map[string]bool) (int, error) {
	live, err := w.drafts(suite)
	if err != nil {
		return 0, err
	}
	for _, place := range live {
		text, err := os.ReadFile(w.path(path.Join(place, "Release")))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was just given up
		}
		if err != nil {
			return 0, err
		}
		g, err := newGeneration(suite, 0, text)
		if err != nil {
			return 0, err
		}
		if err := w.mark(suite, g, indexes, files); err != nil {
			return 0, err
		}
	}
	return len(live), nil
}

// markPending adds the pool files of what is recorded and waits for its
// generation.
func (w *writer) markPending(ctx context.Context, suite string, files map[string]bool) error {
	p, err := readPending(ctx, w.db, suite)
	if err != nil || len(p.tickets) == 0 {
		return err
	}
	return eachRow(ctx, w.db, suite, `1`, nil, func(e entry) error { return e.markFiles(files) })
}

// collectGenerations removes old generations and returns those that stay.
func (w *writer) collectGenerations(suite string, cur generation, now time.Time, c *Collected) (kept []generation, err error) {
	ns, err := w.generations(suite)
	if err != nil {
		return nil, err
	}
	// From the newest to the oldest, each with the time when the one after it
	// came. A number above the current one was never shown.
	superseded, older := time.Time{}, 0
	for _, n := range slices.Backward(ns) {
		if n == cur.n {
			kept, superseded = append(kept, cur), cur.release.Date
			continue
		}
		g, err := w.generation(suite, n)
		if n > cur.n || err != nil || older >= w.keep && now.Sub(superseded) > w.grace {
			c.Generations++
			if err := w.disk.removeAll(generationDir(suite, n)); err != nil {
				return nil, err
			}
			continue
		}
		older++
		kept, superseded = append(kept, g), g.release.Date
	}
	return kept, nil
}

// mark adds the index files that a generation has, and the pool files that
// those list. Indexes that were marked before are not read again.
func (r *Repo) mark(suite string, g generation, indexes, files map[string]bool) error {
	for p, row := range g.release.Files {
		if !stored(p) {
			continue
		}
		rel := byHashPath(suite, row.SHA256)
		if indexes[rel] {
			continue
		}
		indexes[rel] = true
		if !strings.HasSuffix(p, ".zst") {
			continue // the other form of the same index
		}
		entries, err := r.readIndex(suite, g, strings.TrimSuffix(p, ".zst"))
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := e.markFiles(files); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e entry) markFiles(files map[string]bool) error {
	files[e.filePath()] = true
	if e.kind != kindSource {
		return nil
	}
	rows, err := e.sourceFiles()
	for _, f := range rows {
		files[path.Join(e.path, f.Name)] = true
	}
	return err
}

// sweep removes the files below dir that are not kept, and the directories
// that become empty.
func (w *writer) sweep(ctx context.Context, dir string, keep map[string]bool, n *int, bytes *int64) error {
	var dirs []string
	err := filepath.WalkDir(w.path(dir), func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		rel, err := filepath.Rel(w.dir, p)
		if err != nil {
			return err
		}
		if d.IsDir() {
			dirs = append(dirs, rel)
			return nil
		}
		if keep[rel] {
			return nil
		}
		if fi, err := d.Info(); err == nil && nlink(fi) == 1 {
			*bytes += fi.Size()
		}
		*n++
		return w.disk.remove(rel)
	})
	for _, rel := range slices.Backward(dirs) {
		if list, e := os.ReadDir(w.path(rel)); e == nil && len(list) == 0 {
			err = errors.Join(err, w.disk.remove(rel))
		}
	}
	return err
}
