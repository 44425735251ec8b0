package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"dbuild/deb"
)

// Finding is something in the repository that is not as its signed indexes
// say.
type Finding struct {
	Suite string `json:"suite"`
	Path  string `json:"path"` // relative to the repository
	Text  string `json:"text"`
}

// Verified is what [Repo.Verify] looked at and found.
type Verified struct {
	Suites   int       `json:"suites"`
	Indexes  int       `json:"indexes"` // stored forms
	Files    int       `json:"files"`   // of the pool, each once
	Bytes    int64     `json:"bytes"`   // of these
	Findings []Finding `json:"findings"`
}

// Verify reads the whole repository as its clients see it: the signature of
// each suite, every index by name and by hash, every file of the pool that an
// index lists. It changes nothing and takes no lock; a suite in which a
// generation is shown meanwhile is verified as it was before. Only what keeps
// it from reading on is an error.
func (r *Repo) Verify(ctx context.Context) (v Verified, err error) {
	names, err := r.suiteNames()
	if err != nil {
		return v, err
	}
	seen := map[string]string{} // path in the pool → its hash
	for _, suite := range names {
		v.Suites++
		if err := r.verifySuite(ctx, suite, seen, &v); err != nil {
			return v, fmt.Errorf("verify suite %q: %w", suite, err)
		}
	}
	return v, nil
}

func (r *Repo) verifySuite(ctx context.Context, suite string, seen map[string]string, v *Verified) error {
	found := func(path string, err error) {
		v.Findings = append(v.Findings, Finding{Suite: suite, Path: path, Text: err.Error()})
	}
	cur, err := r.shown(ctx, suite)
	if err != nil {
		found(path.Join("dists", suite), err)
		return nil
	}
	if cur.n == 0 {
		return nil
	}
	if err := r.verifySigned(cur); err != nil {
		found(path.Join(cur.dir, "InRelease"), err)
		return nil
	}
	for _, p := range slices.Sorted(maps.Keys(cur.release.Files)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if stored(p) {
			v.Indexes++
			for _, rel := range []string{path.Join(cur.dir, p), byHashPath(suite, cur.release.Files[p].SHA256)} {
				if err := r.verifyFile(rel, cur.release.Files[p].Size, cur.release.Files[p].SHA256); err != nil {
					found(rel, err)
				}
			}
			continue
		}
		entries, err := r.readIndex(suite, cur, p)
		if err != nil {
			found(path.Join(cur.dir, p), err)
		}
		for _, e := range entries {
			if err := r.verifyEntry(ctx, e, seen, v, found); err != nil {
				return err
			}
		}
	}
	return nil
}

// verifyEntry looks at the files of an entry that were not looked at before.
func (r *Repo) verifyEntry(ctx context.Context, e entry, seen map[string]string, v *Verified, found func(string, error)) error {
	rows := []deb.File{{Name: path.Base(e.filePath()), Size: e.size, SHA256: e.sha256}}
	if e.kind == kindSource {
		var err error
		if rows, err = e.sourceFiles(); err != nil {
			found(e.filePath(), err)
		}
	}
	for _, row := range rows {
		if err := ctx.Err(); err != nil {
			return err
		}
		rel := path.Join(path.Dir(e.filePath()), row.Name)
		if seen[rel] == row.SHA256 {
			continue
		}
		seen[rel] = row.SHA256
		v.Files++
		v.Bytes += row.Size
		if err := r.verifyFile(rel, row.Size, row.SHA256); err != nil {
			found(rel, err)
		}
	}
	return nil
}

// verifyFile compares a file with the size and hash that it must have.
func (r *Repo) verifyFile(rel string, size int64, sha256 string) error {
	fi, err := os.Lstat(r.path(rel))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("missing")
	case err != nil:
		return err
	case !fi.Mode().IsRegular():
		return errors.New("not a regular file")
	case fi.Size() != size:
		return fmt.Errorf("size %d, expected %d", fi.Size(), size)
	}
	sum, err := fileHash(r.path(rel))
	if err == nil && !strings.EqualFold(sum, sha256) {
		err = fmt.Errorf("SHA-256 %s, expected %s", sum, sha256)
	}
	return err
}
