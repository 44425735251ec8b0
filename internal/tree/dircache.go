package tree

import (
	"strings"

	"golang.org/x/sys/unix"
)

// dirCache keeps one directory below a root open: entries come in manifest
// order, so the next one mostly lies in the same place.
type dirCache struct {
	root int
	path string
	fd   int // -1: none
}

func newDirCache(root int) dirCache { return dirCache{root: root, fd: -1} }

// open returns a descriptor of the directory path, valid until the next call.
func (c *dirCache) open(path string) (int, error) {
	if c.fd >= 0 && c.path == path {
		return c.fd, nil
	}
	if err := c.close(); err != nil {
		return -1, err
	}
	fd, err := openDirAt(c.root, path)
	if err != nil {
		return -1, err
	}
	c.path, c.fd = path, fd
	return fd, nil
}

func (c *dirCache) close() error {
	if c.fd < 0 {
		return nil
	}
	fd := c.fd
	c.fd = -1
	return unix.Close(fd)
}

// dirName is the directory of a manifest path.
func dirName(path string) string {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i]
	}
	return "."
}
