package cache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// KeptDir is a small directory that was made from verified input and is worth
// keeping: symbolic links and large files. What it says of itself is
// authenticated with the memo.
type KeptDir struct {
	Links map[string]string `json:"links"` // path → target
	Files map[string]string `json:"files"` // path → SHA-256 of the content
}

// maxKept is how many directories are kept; those that were made longest ago go.
const maxKept = 4

func keptKey(input string) string { return "kept " + input }

// Kept returns what [Store.Keep] kept under an equal input, a SHA-256 in hex over
// all that it depends on. Its files were hashed and are at [Store.KeptPath].
func (s *Store) Kept(ctx context.Context, input string) (d KeptDir, ok bool) {
	text, ok := s.memo.get(ctx, keptKey(input))
	if !ok {
		return d, false
	}
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		return d, false
	}
	var g errgroup.Group
	for _, sum := range d.Files {
		g.Go(func() error { return s.checkKept(sum) })
	}
	if err := g.Wait(); err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			s.report.Note("what was kept is made again: %v", err)
		}
		return d, false
	}
	return d, true
}

// KeptPath is where the file with this content is kept.
func (s *Store) KeptPath(sum string) string { return filepath.Join(s.dir, "kept", sum) }

// checkKept hashes a kept file.
func (s *Store) checkKept(sum string) (err error) {
	if !isHash(sum) {
		return fmt.Errorf("%q is no SHA-256", sum)
	}
	path := s.KeptPath(sum)
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != sum {
		return fmt.Errorf("%q has SHA-256 %s", path, got)
	}
	return nil
}

// KeepFile keeps what r reads as a file of that time and returns its SHA-256.
func (s *Store) KeepFile(r io.Reader, modified time.Time) (sum string, err error) {
	dir := filepath.Join(s.dir, "kept")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(dir, ".tmp-")
	if err != nil {
		return "", err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(f, h), r); err != nil {
		return "", err
	}
	// Containers read it as another user; nobody else gets past the directory.
	if err := errors.Join(f.Chmod(0o644), os.Chtimes(f.Name(), modified, modified)); err != nil {
		return "", err
	}
	sum = hex.EncodeToString(h.Sum(nil))
	return sum, os.Rename(f.Name(), s.KeptPath(sum))
}

// Keep remembers a directory whose files were kept. A crash may lose it.
func (s *Store) Keep(ctx context.Context, input string, d KeptDir) error {
	text, err := canonical(d)
	if err != nil {
		return err
	}
	if err := s.memo.put(ctx, keptKey(input), string(text), false); err != nil || s.memo.db == nil {
		return err
	}
	_, err = s.memo.db.ExecContext(ctx, `DELETE FROM memo WHERE rowid IN
		(SELECT rowid FROM memo WHERE key >= 'kept ' AND key < 'kept!' ORDER BY rowid DESC LIMIT -1 OFFSET ?)`, maxKept)
	if err != nil {
		return fmt.Errorf("prune memo: %w", err)
	}
	return s.pruneKept(ctx)
}

// unusedKept is how old a file must be that no directory has: a younger one may
// be on its way into one.
const unusedKept = 10 * time.Minute

// pruneKept removes the files of directories that are no longer kept, and what a
// killed process left.
func (s *Store) pruneKept(ctx context.Context) error {
	used, err := s.keptFiles(ctx)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Join(s.dir, "kept"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := s.KeptPath(e.Name())
		var st unix.Stat_t
		if used[e.Name()] || unix.Lstat(path, &st) != nil || time.Since(time.Unix(st.Ctim.Unix())) < unusedKept {
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// keptFiles are the files of all directories.
func (s *Store) keptFiles(ctx context.Context) (used map[string]bool, err error) {
	rows, err := s.memo.db.QueryContext(ctx, "SELECT value FROM memo WHERE key >= 'kept ' AND key < 'kept!'")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	used = map[string]bool{}
	for rows.Next() {
		var text string
		var d KeptDir
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		if json.Unmarshal([]byte(text), &d) != nil {
			continue // it is dropped when it is asked for
		}
		for _, sum := range d.Files {
			used[sum] = true
		}
	}
	return used, rows.Err()
}
