package pid1

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"dbuild/agent/wire"
)

const bufferSize = 256 << 10

// idCount is how many user and group ids a container has, on every engine:
// where the kernel does not map them, nothing else would refuse higher ones.
const idCount = 65536

// unpacker writes the entries of one tar.
type unpacker struct {
	dirs  *dirCache
	keep  bool // KeepDirs
	skip  bool // the kernel's directories are mounted
	bare  int  // view below the mounts, or -1
	times []dirTime
	buf   []byte

	sent    io.Writer
	pending []byte // encoded entries not sent yet
}

type dirTime struct {
	name  string
	mtime unix.Timespec
}

func newUnpacker(a *agent, m *wire.Put, sent io.Writer) (*unpacker, error) {
	root, err := unix.Open(orRoot(m.Dir), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", orRoot(m.Dir), err)
	}
	u := &unpacker{dirs: newDirCache(root), keep: m.KeepDirs, bare: -1, buf: make([]byte, bufferSize), sent: sent}
	if orRoot(m.Dir) == "/" {
		u.skip, u.bare = a.root != wire.RootBare, a.bare
	}
	return u, nil
}

func (u *unpacker) close() error {
	u.dirs.forget()
	return unix.Close(u.dirs.root)
}

func (u *unpacker) unpack(stream io.Reader) error {
	t := tar.NewReader(bufio.NewReaderSize(stream, bufferSize))
	for {
		h, err := t.Next()
		if err == io.EOF { //nolint:errorlint // a wrapped one means that the tar was cut short
			break
		}
		if err != nil {
			if errors.Is(err, wire.ErrClosed) {
				return err
			}
			return refuse("read tar: %v", err)
		}
		name, err := cleanName(h.Name)
		if err != nil {
			return err
		}
		if u.skipped(name, h.Typeflag) {
			continue
		}
		if err := u.entry(name, h, t); err != nil {
			return fmt.Errorf("unpack %q: %w", name, err)
		}
		if err := u.report(name, h); err != nil {
			return err
		}
	}
	return errors.Join(u.setDirTimes(), u.flush())
}

// cleanName makes a name relative and refuses what would leave the root.
func cleanName(name string) (string, error) {
	n := name
	for strings.HasPrefix(n, "/") || strings.HasPrefix(n, "./") {
		n = n[1:]
	}
	n = strings.TrimRight(n, "/")
	if n == "" || n == "." {
		return ".", nil
	}
	if strings.IndexByte(n, 0) >= 0 {
		return "", refuse("tar entry %q has a bad name", name)
	}
	if strings.Contains(n, "..") {
		for part := range strings.SplitSeq(n, "/") {
			if part == ".." {
				return "", refuse("tar entry %q leaves the root", name)
			}
		}
	}
	if strings.Contains(n, "//") || strings.Contains(n+"/", "/./") {
		n = path.Clean(n)
	}
	return n, nil
}

// skipped tells entries that are left out: what lies in directories that the
// engine provides, and the device nodes of a root file system.
func (u *unpacker) skipped(name string, typ byte) bool {
	if strings.HasPrefix(name, "dev/") && (u.skip || typ == tar.TypeChar || typ == tar.TypeBlock) {
		return true
	}
	return u.skip && (strings.HasPrefix(name, "proc/") || strings.HasPrefix(name, "sys/"))
}

func (u *unpacker) entry(name string, h *tar.Header, content io.Reader) error {
	if h.Uid < 0 || h.Gid < 0 || h.Size < 0 {
		return refuse("negative owner or size")
	}
	if h.Uid >= idCount || h.Gid >= idCount {
		return refuse("owner %d:%d outside the container's ids", h.Uid, h.Gid)
	}
	if name == "." {
		if h.Typeflag != tar.TypeDir {
			return refuse("the root is not a directory")
		}
		return u.rootDir(h)
	}
	dirName, base := split(name)
	dir, err := u.dirs.get(dirName, true)
	if err != nil {
		return err
	}
	return u.typed(dir, name, base, h, content)
}

func (u *unpacker) typed(dir dirHandle, name, base string, h *tar.Header, content io.Reader) error {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		return u.file(dir, base, h, content)
	case tar.TypeDir:
		return u.directory(dir, name, base, h)
	case tar.TypeSymlink:
		return u.symlink(dir, base, h)
	case tar.TypeLink:
		return u.hardLink(dir, base, h)
	case tar.TypeFifo:
		return u.fifo(dir, base, h)
	case tar.TypeChar, tar.TypeBlock:
		return refuse("device node")
	}
	return refuse("unknown type %q", h.Typeflag)
}

// file makes a regular file with four system calls if it is small.
func (u *unpacker) file(dir dirHandle, base string, h *tar.Header, content io.Reader) (err error) {
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	var fd int
	err = u.replacing(dir, base, func() (err error) {
		fd, err = unix.Openat(dir.fd, base, flags, uint32(h.Mode&0o777))
		return err
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	if err := u.copy(fd, h.Size, content); err != nil {
		return err
	}
	if h.Uid != 0 || h.Gid != 0 || dir.setGID {
		if err := unix.Fchown(fd, h.Uid, h.Gid); err != nil {
			return err
		}
	}
	if h.Mode&0o7000 != 0 { // writing and changing the owner clear these bits
		if err := unix.Fchmod(fd, uint32(h.Mode&0o7777)); err != nil {
			return err
		}
	}
	if caps, ok := h.PAXRecords["SCHILY.xattr.security.capability"]; ok {
		if err := unix.Fsetxattr(fd, "security.capability", []byte(caps), 0); err != nil {
			return fmt.Errorf("set file capabilities: %w", err)
		}
	}
	return setTime(fd, h)
}

// copy writes the content. Long runs of zeros become holes.
func (u *unpacker) copy(fd int, size int64, content io.Reader) error {
	holes := size > bufferSize
	for left := size; left > 0; {
		b := u.buf[:min(left, int64(len(u.buf)))]
		if _, err := io.ReadFull(content, b); err != nil {
			if errors.Is(err, wire.ErrClosed) {
				return err
			}
			return refuse("content cut short: %v", err)
		}
		left -= int64(len(b))
		if holes && zero(b) {
			if left == 0 {
				return unix.Ftruncate(fd, size)
			}
			if _, err := unix.Seek(fd, int64(len(b)), io.SeekCurrent); err != nil {
				return err
			}
			continue
		}
		if err := writeAll(fd, b); err != nil {
			return err
		}
	}
	return nil
}

// zero compares b with itself shifted by one, which is faster than a loop.
func zero(b []byte) bool {
	return len(b) == 0 || b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1])
}

func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		b = b[max(n, 0):]
	}
	return nil
}

func (u *unpacker) directory(dir dirHandle, name, base string, h *tar.Header) error {
	err := unix.Mkdirat(dir.fd, base, uint32(h.Mode&0o7777))
	if errors.Is(err, unix.EEXIST) {
		var st unix.Stat_t
		if err := unix.Fstatat(dir.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		kind := st.Mode & unix.S_IFMT
		switch {
		case kind == unix.S_IFDIR && u.keep:
			return nil
		case kind == unix.S_IFLNK && u.keep:
			// As dpkg does it, a link to a directory stands for the directory.
			fd, err := resolve(u.dirs.root, name, unix.O_PATH|unix.O_DIRECTORY)
			if err != nil {
				return err
			}
			return unix.Close(fd)
		case kind == unix.S_IFDIR:
			err = nil
		default:
			if err := u.remove(dir, base, st.Mode); err != nil {
				return err
			}
			err = unix.Mkdirat(dir.fd, base, uint32(h.Mode&0o7777))
		}
	}
	if err != nil {
		return err
	}
	if err := own(dir.fd, base, h); err != nil {
		return err
	}
	u.times = append(u.times, dirTime{name, mtime(h)})
	return u.underlying(name, h)
}

// own sets owner and mode of a directory; the mode last, since changing the
// owner clears bits and a set-group-ID parent adds one.
func own(dir int, base string, h *tar.Header) error {
	if err := unix.Fchownat(dir, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	// The entry is a real directory, made or just seen here.
	return unix.Fchmodat(dir, base, uint32(h.Mode&0o7777), 0)
}

// underlying gives a directory that a mount covers the same attributes below
// the mount, where an image will be made from.
func (u *unpacker) underlying(name string, h *tar.Header) error {
	switch name {
	case "dev", "proc", "sys", "run", "tmp":
		if u.bare >= 0 {
			return own(u.bare, name, h)
		}
	}
	return nil
}

func (u *unpacker) rootDir(h *tar.Header) error {
	if u.keep {
		return nil
	}
	fd, err := unix.Openat(u.dirs.root, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	err = unix.Fchown(fd, h.Uid, h.Gid)
	if err == nil {
		err = unix.Fchmod(fd, uint32(h.Mode&0o7777))
	}
	return errors.Join(err, unix.Close(fd))
}

// symlink makes a link. One that is there already with the same target gets
// owner and time all the same: a program that runs beside may have made it.
func (u *unpacker) symlink(dir dirHandle, base string, h *tar.Header) error {
	err := unix.Symlinkat(h.Linkname, dir.fd, base)
	if errors.Is(err, unix.EEXIST) {
		if u.keep && u.isDir(dir, base) {
			return nil // dpkg never replaces a directory by a link
		}
		if !u.sameLink(dir, base, h.Linkname) {
			err = u.replacing(dir, base, func() error { return unix.Symlinkat(h.Linkname, dir.fd, base) })
		} else {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	if err := unix.Fchownat(dir.fd, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return unix.UtimesNanoAt(dir.fd, base, times(mtime(h)), unix.AT_SYMLINK_NOFOLLOW)
}

func (u *unpacker) isDir(dir dirHandle, base string) bool {
	var st unix.Stat_t
	err := unix.Fstatat(dir.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

func (u *unpacker) sameLink(dir dirHandle, base, target string) bool {
	n, err := unix.Readlinkat(dir.fd, base, u.buf[:unix.PathMax])
	return err == nil && string(u.buf[:n]) == target
}

func (u *unpacker) hardLink(dir dirHandle, base string, h *tar.Header) error {
	target, err := cleanName(h.Linkname)
	if err != nil {
		return err
	}
	targetDir, targetBase := split(target)
	from, err := u.dirs.get(targetDir, false)
	if err != nil {
		return err
	}
	if sameFile(from.fd, targetBase, dir.fd, base) {
		return nil
	}
	return u.replacing(dir, base, func() error { return unix.Linkat(from.fd, targetBase, dir.fd, base, 0) })
}

func sameFile(dirA int, a string, dirB int, b string) bool {
	var stA, stB unix.Stat_t
	errA := unix.Fstatat(dirA, a, &stA, unix.AT_SYMLINK_NOFOLLOW)
	errB := unix.Fstatat(dirB, b, &stB, unix.AT_SYMLINK_NOFOLLOW)
	return errA == nil && errB == nil && stA.Dev == stB.Dev && stA.Ino == stB.Ino
}

func (u *unpacker) fifo(dir dirHandle, base string, h *tar.Header) error {
	err := u.replacing(dir, base, func() error {
		return unix.Mknodat(dir.fd, base, unix.S_IFIFO|uint32(h.Mode&0o777), 0)
	})
	if err != nil {
		return err
	}
	if err := own(dir.fd, base, h); err != nil {
		return err
	}
	return unix.UtimesNanoAt(dir.fd, base, times(mtime(h)), unix.AT_SYMLINK_NOFOLLOW)
}

// replacing calls make, and once more after removing what is in the way.
func (u *unpacker) replacing(dir dirHandle, base string, make func() error) error {
	err := make()
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(dir.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if err := u.remove(dir, base, st.Mode); err != nil {
		return err
	}
	return make()
}

// remove makes way for an entry; never by removing a directory.
func (u *unpacker) remove(dir dirHandle, base string, mode uint32) error {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return refuse("a directory is in the way")
	case unix.S_IFLNK:
		u.dirs.stale = true // open directories may have been reached through it
	}
	return unix.Unlinkat(dir.fd, base, 0)
}

func (u *unpacker) setDirTimes() error {
	for _, d := range u.times {
		dirName, base := split(d.name)
		dir, err := u.dirs.get(dirName, false)
		if err == nil {
			err = unix.UtimesNanoAt(dir.fd, base, times(d.mtime), unix.AT_SYMLINK_NOFOLLOW)
		}
		if err != nil {
			return fmt.Errorf("set time of %q: %w", d.name, err)
		}
	}
	return nil
}

// report tells the host about an entry, many at a time.
func (u *unpacker) report(name string, h *tar.Header) error {
	e := wire.Entry{Name: name, Type: h.Typeflag, Mode: h.Mode & 0o7777, UID: h.Uid, GID: h.Gid, Size: h.Size}
	if h.Typeflag == tar.TypeLink || h.Typeflag == tar.TypeSymlink {
		e.Link = h.Linkname
	}
	u.pending = wire.AppendItem(u.pending, &e)
	if len(u.pending) < 64<<10 {
		return nil
	}
	return u.flush()
}

func (u *unpacker) flush() error {
	_, err := u.sent.Write(u.pending)
	u.pending = u.pending[:0]
	return err
}

func mtime(h *tar.Header) unix.Timespec {
	return unix.NsecToTimespec(h.ModTime.UnixNano())
}

func times(mtime unix.Timespec) []unix.Timespec {
	return []unix.Timespec{{Nsec: unix.UTIME_OMIT}, mtime}
}

// setTime sets the modification time of an open file.
func setTime(fd int, h *tar.Header) error {
	ts := [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, mtime(h)}
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("set time: %w", errno)
	}
	return nil
}
