package tree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrOutside is wrapped when an owner is outside the id map. No image has such a
// file: it is never put in, and found in one it is damage.
var ErrOutside = errors.New("id outside the container's map")

// stamp is what a seal knows of an entry beside the manifest.
type stamp struct {
	ino   uint64
	ctime int64 // nanoseconds since 1970
	nlink uint64
	// attrs is the hash of attributes that are no part of the digest.
	attrs [32]byte
}

// record is an entry while a layer is read.
type record struct {
	Entry
	stamp
	dir *dirNode // of a directory: its content
}

// dirNode is a directory while a layer is read.
type dirNode struct {
	path    string
	content []record // sorted by name
}

// lister reads the names and metadata of a layer. Its workers take directories
// from a common stack.
type lister struct {
	root    int
	dev     uint64 // of root; other file systems are not entered
	ids     IDMap
	mu      sync.Mutex
	wake    *sync.Cond
	todo    []*record // directories to be read
	pending int       // in todo or with a worker
	err     error
}

// listLayer reads all metadata below root, and the root's, but no contents and
// no attributes of files.
func listLayer(ctx context.Context, root int, ids IDMap, workers int) (*record, error) {
	var st unix.Stat_t
	if err := unix.Fstat(root, &st); err != nil {
		return nil, fmt.Errorf("read tree: %w", err)
	}
	l := &lister{root: root, dev: st.Dev, ids: ids, pending: 1}
	l.wake = sync.NewCond(&l.mu)
	top := &record{}
	if err := l.fill(top, ".", &st, -1, ""); err != nil {
		return nil, fmt.Errorf("read tree: %w", err)
	}
	l.todo = append(l.todo, top)
	stop := context.AfterFunc(ctx, func() { l.finish(nil, ctx.Err()) })
	defer stop()
	var wg sync.WaitGroup
	for range workers {
		wg.Go(l.work)
	}
	wg.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return nil, fmt.Errorf("read tree: %w", l.err)
	}
	return top, nil
}

func (l *lister) work() {
	buf := make([]byte, 64<<10)
	for {
		l.mu.Lock()
		for len(l.todo) == 0 && l.pending > 0 && l.err == nil {
			l.wake.Wait()
		}
		if l.pending == 0 || l.err != nil {
			l.mu.Unlock()
			return
		}
		r := l.todo[len(l.todo)-1]
		l.todo = l.todo[:len(l.todo)-1]
		l.mu.Unlock()
		err := l.readDir(r, buf)
		l.finish(r.dir, err)
	}
}

// finish ends the work on one directory and queues those in it. The first
// error wins.
func (l *lister) finish(d *dirNode, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
	if d != nil {
		l.pending--
		for i := range d.content {
			if d.content[i].Type == TypeDir {
				l.todo = append(l.todo, &d.content[i])
				l.pending++
			}
		}
	}
	l.wake.Broadcast()
}

// readDir reads the content of directory r, and r's own attributes.
func (l *lister) readDir(r *record, buf []byte) (err error) {
	d := &dirNode{path: r.Path}
	r.dir = d
	fd, err := openDirAt(l.root, r.Path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	mounted, err := l.checkDir(fd, r)
	if err != nil {
		return pathError("read", r.Path, err)
	}
	if mounted {
		return nil
	}
	a, err := readAttrs(fd, l.ids)
	if err != nil {
		return pathError("read", r.Path, err)
	}
	r.Opaque, r.attrs = a.opaque, a.rest
	names, err := readNames(fd, buf)
	if err != nil {
		return pathError("read", r.Path, err)
	}
	slices.Sort(names)
	d.content = make([]record, len(names))
	for i, name := range names {
		var st unix.Stat_t
		path := join(d.path, name)
		err := statAt(fd, name, &st)
		if err == nil {
			err = l.fill(&d.content[i], path, &st, fd, name)
		}
		if err != nil {
			return pathError("read", path, err)
		}
	}
	return nil
}

// checkDir refuses a directory that was swapped since it was listed, or that
// another file system is mounted on. Where every engine mounts one it is only
// told: what lies there is not part of the tree.
func (l *lister) checkDir(fd int, r *record) (mounted bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, err
	}
	switch {
	case st.Dev == l.dev && st.Ino == r.ino:
		return false, nil
	case st.Dev == l.dev:
		return false, errChanged
	case Replaced(r.Path + "/."):
		return true, nil
	}
	return false, errors.New("another file system is mounted here")
}

// fill turns a stat result into a record.
func (l *lister) fill(r *record, path string, st *unix.Stat_t, dir int, name string) (err error) {
	r.Path = path
	r.stamp = stamp{ino: st.Ino, ctime: st.Ctim.Nano(), nlink: uint64(st.Nlink)} //nolint:unconvert // 32 bits on arm64
	r.Type = typeOf(st)
	if r.Type == TypeWhiteout {
		return nil
	}
	var ok bool
	if r.UID, r.GID, ok = l.ids.Container(st.Uid, st.Gid); !ok {
		return fmt.Errorf("owner %d:%d: %w", st.Uid, st.Gid, ErrOutside)
	}
	r.Mode = st.Mode & 0o7777
	switch r.Type {
	case TypeDir:
		return nil
	case TypeFile:
		r.Size = st.Size
	case TypeSymlink:
		r.Link, err = readlinkAt(dir, name, st.Size)
	case TypeChar, TypeBlock:
		r.Dev = st.Rdev
	case TypeFIFO, TypeSocket:
	default:
		return fmt.Errorf("file type %#o: %w", st.Mode&unix.S_IFMT, errors.ErrUnsupported)
	}
	r.MTime = int64(st.Mtim.Sec) //nolint:unconvert // 32 bits on arm
	return err
}

func typeOf(st *unix.Stat_t) Type {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return TypeFile
	case unix.S_IFDIR:
		return TypeDir
	case unix.S_IFLNK:
		return TypeSymlink
	case unix.S_IFCHR:
		if st.Rdev == 0 {
			return TypeWhiteout
		}
		return TypeChar
	case unix.S_IFBLK:
		return TypeBlock
	case unix.S_IFIFO:
		return TypeFIFO
	case unix.S_IFSOCK:
		return TypeSocket
	}
	return 0
}

// flatten returns the records in manifest order with the index of each one's
// directory.
func flatten(top *record) (all []*record, parents []int32) {
	var walk func(r *record, parent int32)
	walk = func(r *record, parent int32) {
		index := int32(len(all))
		all, parents = append(all, r), append(parents, parent)
		if r.dir == nil {
			return
		}
		for i := range r.dir.content {
			walk(&r.dir.content[i], index)
		}
	}
	walk(top, -1)
	return all, parents
}

// groupLinks finds the hard links of one layer: regular files with the same
// inode. Other types are not grouped, as no engine promises to keep that.
func groupLinks(all []*record) {
	first := make(map[uint64]*record)
	for _, r := range all {
		if r.Type != TypeFile || r.nlink < 2 {
			continue
		}
		if f := first[r.ino]; f != nil {
			r.HardLink = f.Path
		} else {
			first[r.ino] = r
		}
	}
}

func pathError(op, path string, err error) error {
	return &fs.PathError{Op: op, Path: path, Err: err}
}
