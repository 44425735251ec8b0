package native

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxDepth bounds the open directories of removeTree. A build may nest far
// more deeply than there are file descriptors.
const maxDepth = 200

// removeTree removes a directory and all below it. A missing one is fine. No
// symlink is followed, whatever the tree holds.
func removeTree(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	r := &remover{top: int(dir.Fd())}
	if err := r.remove(r.top, filepath.Base(path), 0); err != nil {
		return fmt.Errorf("remove %q: %w", path, err)
	}
	return r.removeMoved()
}

// remover removes a tree; what lies too deep is moved up beside the tree
// first.
type remover struct {
	top   int
	moved []string
}

func (r *remover) remove(parent int, name string, depth int) error {
	err := unix.Unlinkat(parent, name, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return err
	}
	if depth >= maxDepth {
		return r.moveUp(parent, name)
	}
	// Whatever its mode was: its owner may have closed it.
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(fd), name)
	err = r.empty(dir, depth)
	if err := errors.Join(err, dir.Close()); err != nil {
		return err
	}
	err = unix.Unlinkat(parent, name, unix.AT_REMOVEDIR)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// empty removes the entries of a directory.
func (r *remover) empty(dir *os.File, depth int) error {
	for {
		// Reading goes on behind what was read, so start over until it is empty.
		if _, err := dir.Seek(0, 0); err != nil {
			return err
		}
		names, err := dir.Readdirnames(4096)
		if len(names) == 0 {
			if errors.Is(err, io.EOF) || errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		for _, name := range names {
			if err := r.remove(int(dir.Fd()), name, depth+1); err != nil {
				return err
			}
		}
	}
}

func (r *remover) moveUp(parent int, name string) error {
	to := ".deep-" + newID() + strconv.Itoa(len(r.moved))
	if err := unix.Renameat(parent, name, r.top, to); err != nil {
		return err
	}
	r.moved = append(r.moved, to)
	return nil
}

func (r *remover) removeMoved() error {
	for len(r.moved) > 0 {
		name := r.moved[len(r.moved)-1]
		r.moved = r.moved[:len(r.moved)-1]
		if err := r.remove(r.top, name, 0); err != nil {
			return err
		}
	}
	return nil
}
