package tree

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	dirFlags  = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fileFlags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
)

// openRoot opens the directory that holds a tree. The path itself is the
// caller's and may lead through symbolic links, except in its last name.
func openRoot(dir string) (int, error) {
	fd, err := retry(func() (int, error) { return unix.Open(dir, dirFlags, 0) })
	if err != nil {
		return -1, fmt.Errorf("open tree: %w", &os.PathError{Op: "open", Path: dir, Err: err})
	}
	return fd, nil
}

// openDirAt opens the directory path below root without following any
// symbolic link or leaving root. "." is root itself, opened anew.
func openDirAt(root int, path string) (int, error) {
	how := unix.OpenHow{Flags: dirFlags, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
	fd, err := retry(func() (int, error) { return unix.Openat2(root, path, &how) })
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		// Old kernels, and sandboxes that do not know the call.
		fd, err = openDirSteps(root, path)
	}
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// openDirSteps is openDirAt name by name.
func openDirSteps(root int, path string) (int, error) {
	fd := root
	for name := range strings.SplitSeq(path, "/") {
		next, err := openAt(fd, name, dirFlags)
		if fd != root {
			err = errors.Join(err, unix.Close(fd))
		}
		if err != nil {
			return -1, err
		}
		fd = next
	}
	return fd, nil
}

// openAt opens one name in a directory.
func openAt(dir int, name string, flags int) (int, error) {
	return retry(func() (int, error) { return unix.Openat(dir, name, flags, 0) })
}

// statAt is fstatat without following a symbolic link.
func statAt(dir int, name string, st *unix.Stat_t) error {
	for {
		if err := unix.Fstatat(dir, name, st, unix.AT_SYMLINK_NOFOLLOW); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// readlinkAt reads the target of a symbolic link of st.Size bytes.
func readlinkAt(dir int, name string, size int64) (string, error) {
	for n := int(size) + 1; ; n *= 2 {
		b := make([]byte, max(n, 64))
		n, err := retry(func() (int, error) { return unix.Readlinkat(dir, name, b) })
		if err != nil {
			return "", err
		}
		if n < len(b) {
			return string(b[:n]), nil
		}
	}
}

// retry calls fn again while a signal interrupts it, as file systems in user
// space let happen.
func retry(fn func() (int, error)) (int, error) {
	for {
		if n, err := fn(); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// readNames returns the names in a directory, unsorted, without "." and "..".
// buf is scratch space.
func readNames(dir int, buf []byte) ([]string, error) {
	var names []string
	for {
		n, err := retry(func() (int, error) { return unix.Getdents(dir, buf) })
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return names, nil
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

// baseName is the last component of a manifest path.
func baseName(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// join makes the path of name in dir, both as in manifests.
func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}
