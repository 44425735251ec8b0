package pid1

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dbuild/agent/wire"
)

// capabilityRecord carries file capabilities in a tar.
const capabilityRecord = "SCHILY.xattr.security.capability"

// packer writes a tar of a directory, directories before their content and names
// in the order of their bytes.
type packer struct {
	out    *tar.Writer
	mounts map[string]bool // what is mounted below: shown, not entered
	files  map[inode]string
	buf    []byte
}

// inode is one file under several names. The time is there because a file that
// an overlay has copied may keep its number.
type inode struct {
	dev, ino uint64
	ctime    int64
}

// pack sends a directory.
func (a *agent) pack(op *wire.Op, m *wire.Pack) error {
	top := orRoot(m.Dir)
	mounts, err := mountPoints(top)
	if err != nil {
		return fmt.Errorf("pack %q: %w", top, err)
	}
	fd, err := unix.Open(top, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("pack %q: %w", top, err)
	}
	w := bufio.NewWriterSize(op.Writer(wire.StreamOut), bufferSize)
	p := &packer{out: tar.NewWriter(w), mounts: mounts, files: map[inode]string{}, buf: make([]byte, bufferSize)}
	if err := p.dir("", os.NewFile(uintptr(fd), top)); err != nil {
		return fmt.Errorf("pack %q: %w", top, err)
	}
	return errors.Join(p.out.Close(), w.Flush())
}

// mountPoints lists what is mounted below top, relative to it.
func mountPoints(top string) (map[string]bool, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	points := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 5 {
			continue
		}
		path := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(f[4])
		if below, ok := strings.CutPrefix(path, strings.TrimSuffix(top, "/")+"/"); ok && below != "" {
			points[below] = true
		}
	}
	return points, nil
}

// dir writes a directory and what is in it, and closes it.
func (p *packer) dir(path string, f *os.File) (err error) {
	defer func() { err = errors.Join(err, f.Close()) }()
	fd := int(f.Fd())
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	h := heading(path+"/", tar.TypeDir, &st)
	if path == "" {
		h.Name = "./"
	}
	if err := p.out.WriteHeader(h); err != nil || p.mounts[path] {
		return err
	}
	names, err := f.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := p.entry(fd, strings.TrimPrefix(path+"/"+name, "/"), name); err != nil {
			return err
		}
	}
	return nil
}

// entry writes what a directory has under a name.
func (p *packer) entry(dir int, path, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	kind := st.Mode & unix.S_IFMT
	if kind == unix.S_IFDIR {
		fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open %q: %w", path, err)
		}
		return p.dir(path, os.NewFile(uintptr(fd), path))
	}
	if p.mounts[path] || kind == unix.S_IFSOCK {
		return nil
	}
	key := inode{st.Dev, st.Ino, st.Ctim.Nano()}
	if first, ok := p.files[key]; ok {
		h := heading(path, tar.TypeLink, &st)
		h.Linkname = first
		return p.out.WriteHeader(h)
	}
	p.files[key] = path
	switch kind {
	case unix.S_IFREG:
		return p.file(dir, path, name)
	case unix.S_IFLNK:
		n, err := unix.Readlinkat(dir, name, p.buf)
		if err != nil {
			return fmt.Errorf("read link %q: %w", path, err)
		}
		h := heading(path, tar.TypeSymlink, &st)
		h.Linkname = string(p.buf[:n])
		return p.out.WriteHeader(h)
	case unix.S_IFIFO:
		return p.out.WriteHeader(heading(path, tar.TypeFifo, &st))
	}
	h := heading(path, tar.TypeChar, &st)
	if kind == unix.S_IFBLK {
		h.Typeflag = tar.TypeBlock
	}
	h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	return p.out.WriteHeader(h)
}

// file writes a regular file.
func (p *packer) file(dir int, path, name string) (err error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %q: %w", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer func() { err = errors.Join(err, f.Close()) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("%q changed while it was read", path)
	}
	h := heading(path, tar.TypeReg, &st)
	h.Size = st.Size
	switch n, err := unix.Fgetxattr(fd, "security.capability", p.buf); {
	case err == nil:
		h.PAXRecords = map[string]string{capabilityRecord: string(p.buf[:n])}
	case !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP):
		return fmt.Errorf("read capabilities of %q: %w", path, err)
	}
	if err := p.out.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{p.out}, io.LimitReader(f, st.Size), p.buf)
	if err == nil && n != st.Size {
		err = fmt.Errorf("%q changed while it was read", path)
	}
	return err
}

func heading(name string, kind byte, st *unix.Stat_t) *tar.Header {
	seconds, _ := st.Mtim.Unix()
	return &tar.Header{
		Typeflag: kind, Name: name, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid),
		ModTime: time.Unix(seconds, 0), Format: tar.FormatPAX,
	}
}
