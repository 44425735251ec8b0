package pid1

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"dbuild/agent/wire"
)

// get sends regular files of one directory. The host has killed everything
// else, so nothing moves; names are checked all the same.
func (a *agent) get(op *wire.Op, m *wire.Get) (err error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	fd, err := unix.Openat2(unix.AT_FDCWD, orRoot(m.Dir), &how)
	if errors.Is(err, unix.ELOOP) {
		return refuse("directory %q lies behind a symlink", m.Dir)
	}
	if err != nil {
		return fmt.Errorf("open directory %q: %w", m.Dir, err)
	}
	dir := os.NewFile(uintptr(fd), m.Dir)
	defer func() { err = errors.Join(err, dir.Close()) }()
	names, err := wanted(dir, m.Names)
	if err != nil {
		return err
	}
	left := m.Bytes
	for i, name := range names {
		if i >= m.Files {
			return fmt.Errorf("%w: more than %d files", errTooMuch, m.Files)
		}
		n, err := sendFile(op, int(dir.Fd()), name, left)
		if err != nil {
			return fmt.Errorf("take %q: %w", name, err)
		}
		left -= n
	}
	return nil
}

// wanted replaces the name "*" by the regular files of dir.
func wanted(dir *os.File, names []string) ([]string, error) {
	var all []string
	for _, name := range names {
		if name != "*" {
			all = append(all, name)
			continue
		}
		entries, err := dir.ReadDir(-1)
		if err != nil {
			return nil, err
		}
		var found []string
		for _, e := range entries {
			if e.Type().IsRegular() {
				found = append(found, e.Name())
			}
		}
		slices.Sort(found)
		all = append(all, found...)
	}
	return all, nil
}

// sendFile sends the head and content of one file and returns its size.
func sendFile(op *wire.Op, dir int, name string, limit int64) (size int64, err error) {
	if name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
		return 0, refuse("not a base name")
	}
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ELOOP) {
		return 0, refuse("is a symlink")
	}
	if errors.Is(err, unix.ENXIO) {
		return 0, refuse("is not a regular file")
	}
	if err != nil {
		return 0, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer func() { err = errors.Join(err, f.Close()) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, err
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return 0, refuse("is not a regular file")
	case st.Nlink != 1:
		return 0, refuse("has %d links", st.Nlink)
	case st.Size > limit:
		return 0, fmt.Errorf("%w: %d bytes", errTooMuch, st.Size)
	}
	head := wire.FileHead{Name: name, Mode: int64(st.Mode & 0o7777), Size: st.Size, MTime: st.Mtim.Nano()}
	w := op.Writer(wire.StreamOut)
	if _, err := w.Write(wire.AppendItem(nil, &head)); err != nil {
		return 0, err
	}
	n, err := w.ReadFrom(io.LimitReader(f, st.Size))
	if err == nil && n != st.Size {
		err = io.ErrUnexpectedEOF
	}
	return st.Size, err
}
