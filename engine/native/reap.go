package native

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"dbuild/engine"
)

// Reap removes containers whose process is dead and layers that never got
// their record. Both are locked by their owners while these live.
func (e *Engine) Reap(ctx context.Context) (int, error) {
	containers, err := e.reapIn(ctx, "containers", func(string) bool { return true })
	if err != nil {
		return containers, fmt.Errorf("reap containers: %w", err)
	}
	layers, err := e.reapIn(ctx, "layers", func(name string) bool {
		_, err := e.readRecord(engine.ImageID(name))
		return errors.Is(err, engine.ErrNotFound)
	})
	if err != nil {
		return containers + layers, fmt.Errorf("reap layers: %w", err)
	}
	return containers + layers, nil
}

// reapIn removes the unlocked directories below dir for which orphan says so.
func (e *Engine) reapIn(ctx context.Context, dir string, orphan func(name string) bool) (int, error) {
	entries, err := os.ReadDir(filepath.Join(e.dir, dir))
	if err != nil {
		return 0, err
	}
	count := 0
	for _, entry := range entries {
		if err := ctx.Err(); err != nil {
			return count, err
		}
		name := entry.Name()
		if !validID(name) && !strings.HasPrefix(name, ".deep-") {
			continue
		}
		done, err := e.reapOne(filepath.Join(e.dir, dir, name), func() bool { return orphan(name) })
		if err != nil {
			return count, err
		}
		if done {
			count++
		}
	}
	return count, nil
}

func (e *Engine) reapOne(path string, orphan func() bool) (bool, error) {
	if !orphan() {
		return false, nil
	}
	lock, err := lockDir(path, unix.LOCK_EX)
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer lock.Close()
	if !orphan() { // it was becoming an image
		return false, nil
	}
	if err := reapCgroups(path); err != nil {
		return false, err
	}
	return true, removeTree(path)
}

// diskFull reports whether the file system has nothing left worth speaking of.
func diskFull(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && (st.Bavail*uint64(st.Bsize) < 1<<20 || st.Files > 0 && st.Ffree < 16)
}
