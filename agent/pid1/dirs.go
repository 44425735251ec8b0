package pid1

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// dirCache keeps the directories that an unpacker works in open. Paths are
// resolved by the kernel inside the root, symlinks included, but never through
// the magic links of /proc.
type dirCache struct {
	root int
	open map[string]dirHandle

	lastPath string // the one that get returned last
	last     dirHandle
	lastOK   bool
	stale    bool // a symlink was replaced: start afresh
}

type dirHandle struct {
	fd     int
	setGID bool // new files get the directory's group
}

// maxOpenDirs bounds the descriptors; a tar mostly works in few directories at
// a time.
const maxOpenDirs = 200

func newDirCache(root int) *dirCache {
	return &dirCache{root: root, open: map[string]dirHandle{}}
}

// get opens a directory, "" being the root; with create missing ones are made.
// The handle stays open over one more call of get without create.
func (c *dirCache) get(path string, create bool) (dirHandle, error) {
	if c.stale {
		c.forget()
	}
	if c.lastOK && c.lastPath == path {
		return c.last, nil
	}
	h, ok := c.open[path]
	if !ok {
		var err error
		if h, err = c.openDir(path, create); err != nil {
			return dirHandle{}, fmt.Errorf("open directory %q: %w", path, err)
		}
		if len(c.open) >= maxOpenDirs {
			c.evict()
		}
		c.open[path] = h
	}
	c.lastPath, c.last, c.lastOK = path, h, true
	return h, nil
}

func (c *dirCache) openDir(path string, create bool) (dirHandle, error) {
	fd, err := resolve(c.root, path, unix.O_PATH|unix.O_DIRECTORY)
	if create && errors.Is(err, unix.ENOENT) {
		if err := c.makeDir(path); err != nil {
			return dirHandle{}, err
		}
		fd, err = resolve(c.root, path, unix.O_PATH|unix.O_DIRECTORY)
	}
	if err != nil {
		return dirHandle{}, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return dirHandle{}, errors.Join(err, unix.Close(fd))
	}
	return dirHandle{fd, st.Mode&unix.S_ISGID != 0}, nil
}

func (c *dirCache) makeDir(path string) error {
	dir, base := split(path)
	parent, err := c.get(dir, true)
	if err != nil {
		return err
	}
	err = unix.Mkdirat(parent.fd, base, 0o755)
	if errors.Is(err, unix.EEXIST) { // by another unpacker
		return nil
	}
	return err
}

// evict closes all but the handle that was returned last.
func (c *dirCache) evict() {
	for path, h := range c.open {
		if !c.lastOK || path != c.lastPath {
			_ = unix.Close(h.fd)
			delete(c.open, path)
		}
	}
}

// forget closes everything.
func (c *dirCache) forget() {
	c.lastOK = false
	c.evict()
	c.stale = false
}

// resolve opens path below root as if root were "/".
func resolve(root int, path string, flags uint64) (int, error) {
	if path == "" {
		path = "."
	}
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for range 100 {
		fd, err := unix.Openat2(root, path, &how)
		// EAGAIN: something was renamed meanwhile and the kernel could not be
		// sure to stay inside.
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
	return -1, unix.EAGAIN
}

// split cuts the last name off a clean path.
func split(path string) (dir, base string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}
