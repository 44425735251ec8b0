package repo

import (
	"archive/tar"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"dbuild/deb"
	"dbuild/internal/cleanup"
)

// contentsText is the part of Contents that belongs to entries: a line for each
// file that one of them holds, with the packages that do. Lines are sorted and
// merged within such a part, not beyond it.
func (w *writer) contentsText(ctx context.Context, q querier, entries []entry) ([]byte, error) {
	holders := map[string][]string{}
	for _, e := range entries {
		paths, err := w.contentsOf(ctx, q, e)
		if err != nil {
			return nil, err
		}
		holder := path.Join(e.section, e.name)
		for _, p := range paths {
			if !slices.Contains(holders[p], holder) {
				holders[p] = append(holders[p], holder)
			}
		}
	}
	var text bytes.Buffer
	for _, p := range slices.Sorted(maps.Keys(holders)) {
		slices.Sort(holders[p])
		fmt.Fprintf(&text, "%-55s %s\n", p, strings.Join(holders[p], ","))
	}
	return text.Bytes(), nil
}

// contentsOf returns the files in a package, sorted. They are read from the
// pool once, and then kept.
func (w *writer) contentsOf(ctx context.Context, q querier, e entry) ([]string, error) {
	var kept string
	err := q.QueryRowContext(ctx, `SELECT paths FROM repo_contents WHERE sha256 = ?`, e.sha256).Scan(&kept)
	if err == nil {
		return strings.FieldsFunc(kept, func(r rune) bool { return r == '\n' }), nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("read repository tables: %w", err)
	}
	paths, err := readContents(w.path(e.filePath()))
	if errors.Is(err, fs.ErrNotExist) {
		w.report.Warn("%s is gone; its files are not in Contents", e.filePath())
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", e.filePath(), err)
	}
	_, err = q.ExecContext(ctx, `INSERT OR REPLACE INTO repo_contents VALUES (?, ?)`, e.sha256, strings.Join(paths, "\n"))
	return paths, err
}

// readContents lists what a package would install but for directories.
func readContents(file string) (paths []string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer cleanup.Close(&err, f)
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	b, err := deb.OpenDeb(f, fi.Size())
	if err != nil {
		return nil, err
	}
	err = b.CheckData(f, func(path string, h *tar.Header) {
		if h.Typeflag != tar.TypeDir {
			paths = append(paths, path)
		}
	})
	return union(paths), err
}
