package archive

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// minKeep is how long a file stays after its use at least; uses are recorded
// to a day.
const minKeep = 48 * time.Hour

// Expire removes the package files, indexes and unfinished downloads that were
// not used for the time keep, at least two days, so that nothing goes which a
// running build was promised. Release files stay: what was published leads
// back to them.
func (c *Copy) Expire(ctx context.Context, keep time.Duration) (removed int, bytes int64, err error) {
	before := time.Now().Add(-max(keep, minKeep))
	for _, dir := range []string{"pool", "by-hash"} {
		werr := filepath.WalkDir(filepath.Join(c.cache, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return errors.Join(err, ctx.Err())
			}
			info, err := d.Info()
			if errors.Is(err, os.ErrNotExist) || err == nil && !info.ModTime().Before(before) {
				return nil
			}
			if err == nil {
				err = expireFile(path)
			}
			if err == nil {
				removed++
				bytes += info.Size()
			}
			return err
		})
		err = errors.Join(err, werr)
	}
	return removed, bytes, err
}

// expireFile removes a file; an unfinished one only if nobody writes it.
func expireFile(path string) error {
	if !strings.HasSuffix(path, ".part") {
		return os.Remove(path)
	}
	f, ok, err := tryClaim(path)
	if err != nil || !ok {
		return err
	}
	return errors.Join(os.Remove(path), f.Close())
}
