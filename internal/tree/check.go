package tree

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Check compares the layer in dir with its seal, by one stat of each entry.
// An entry whose time of last change alone differs is looked at closely: a
// file is hashed again, a directory listed, a link read. A name that was added
// or removed shows in its directory. Attributes count, the host's security
// labels aside.
//
// The error is a [*DamagedError] if anything differs, one of the first
// differences if there are more, and any other error if the comparison could
// not be made. rehashed is the number of entries that had to be looked at
// closely; they were found unchanged when err is nil.
func (s *Seal) Check(ctx context.Context, dir string, m IDMap, workers int) (rehashed int, err error) {
	root, err := openRoot(dir)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, unix.Close(root)) }()
	c, err := newChecker(s, root, m)
	if err != nil {
		return 0, err
	}
	if len(s.m) == 0 {
		return 0, &DamagedError{".", "is not in the seal"}
	}
	g, ctx := errgroup.WithContext(ctx)
	for i := range max(workers, 1) {
		g.Go(func() error { return c.work(ctx, i == 0) })
	}
	if err := g.Wait(); err != nil && c.found == nil {
		return int(c.rehashed.Load()), fmt.Errorf("check tree: %w", err)
	}
	if c.found != nil {
		return int(c.rehashed.Load()), c.found
	}
	return int(c.rehashed.Load()), nil
}

// checker holds what the workers of one Check share.
type checker struct {
	*Seal
	root     int
	dev      uint64
	ids      IDMap
	dirs     []int32 // indexes of the directories that have content
	starts   []int32 // where their content starts in byDir
	byDir    []int32 // indexes of all entries but the root, directory after directory
	next     atomic.Int64
	rehashed atomic.Int64

	mu    sync.Mutex
	found *DamagedError
}

func newChecker(s *Seal, root int, ids IDMap) (*checker, error) {
	var st unix.Stat_t
	if err := unix.Fstat(root, &st); err != nil {
		return nil, fmt.Errorf("check tree: %w", err)
	}
	c := &checker{Seal: s, root: root, dev: st.Dev, ids: ids}
	// A counting sort by directory keeps the order of names.
	count := make([]int32, len(s.m)+1)
	for i := 1; i < len(s.m); i++ {
		count[s.parents[i]+1]++
	}
	for i := range s.m {
		if s.m[i].Type == TypeDir {
			c.dirs = append(c.dirs, int32(i))
			c.starts = append(c.starts, count[i])
		}
		count[i+1] += count[i]
	}
	c.byDir = make([]int32, max(len(s.m)-1, 0))
	for i := 1; i < len(s.m); i++ {
		p := s.parents[i]
		c.byDir[count[p]] = int32(i)
		count[p]++
	}
	return c, nil
}

// content returns the indexes of the entries in the n-th directory.
func (c *checker) content(n int) []int32 {
	end := len(c.byDir)
	if n+1 < len(c.starts) {
		end = int(c.starts[n+1])
	}
	return c.byDir[c.starts[n]:end]
}

// work checks directories until none is left or a difference was found.
func (c *checker) work(ctx context.Context, withRoot bool) (err error) {
	files := newFileReader(c.root, c.ids, true)
	defer func() { err = errors.Join(err, files.close()) }()
	if withRoot {
		var st unix.Stat_t
		if err := unix.Fstat(c.root, &st); err != nil {
			return err
		}
		if err := c.report(c.entry(ctx, files, 0, &st)); err != nil {
			return err
		}
	}
	const batch = 16
	for {
		end := int(c.next.Add(batch))
		for n := end - batch; n < end; n++ {
			if n >= len(c.dirs) {
				return nil
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := c.report(c.directory(ctx, files, n)); err != nil {
				return err
			}
		}
	}
}

// report keeps the difference whose path comes first, and passes on err.
func (c *checker) report(err error) error {
	var d *DamagedError
	if errors.As(err, &d) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.found == nil || Compare(d.Path, c.found.Path) < 0 {
			c.found = d
		}
	}
	return err
}

// directory checks the entries in the n-th directory.
func (c *checker) directory(ctx context.Context, files *fileReader, n int) (err error) {
	content := c.content(n)
	if len(content) == 0 {
		return nil
	}
	path := c.m[c.dirs[n]].Path
	fd, err := openDirAt(c.root, path)
	if err != nil {
		if gone(err) || errors.Is(err, unix.ELOOP) {
			return &DamagedError{path, "is no directory any more"}
		}
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	for _, i := range content {
		var st unix.Stat_t
		path := c.m[i].Path
		if err := statAt(fd, baseName(path), &st); err != nil {
			if gone(err) {
				return &DamagedError{path, "is missing"}
			}
			return pathError("stat", path, err)
		}
		if err := c.entry(ctx, files, int(i), &st); err != nil {
			return err
		}
	}
	return nil
}

func gone(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) }

// entry compares entry i with st.
func (c *checker) entry(ctx context.Context, files *fileReader, i int, st *unix.Stat_t) error {
	e, was := &c.m[i], &c.stamps[i]
	if what := c.differs(e, was, st); what != "" {
		return &DamagedError{e.Path, what}
	}
	if st.Ctim.Nano() == was.ctime {
		return nil
	}
	c.rehashed.Add(1)
	what, err := c.lookClosely(ctx, files, i, st)
	if err != nil {
		return pathError("read", e.Path, err)
	}
	if what != "" {
		return &DamagedError{e.Path, what}
	}
	return nil
}

// differs compares all that a stat tells but the time of last change.
func (c *checker) differs(e *Entry, was *stamp, st *unix.Stat_t) string {
	typ := typeOf(st)
	if e.Type == TypeWhiteout && typ == TypeFile && st.Size == 0 {
		typ = TypeWhiteout // the form with an attribute
	}
	switch {
	case typ != e.Type:
		return "has another type"
	case st.Ino != was.ino:
		return "was replaced"
	case typ == TypeWhiteout:
		return ""
	case st.Mode&0o7777 != e.Mode:
		return fmt.Sprintf("has mode %04o in place of %04o", st.Mode&0o7777, e.Mode)
	}
	uid, gid, ok := c.ids.Container(st.Uid, st.Gid)
	switch {
	case !ok || uid != e.UID || gid != e.GID:
		return fmt.Sprintf("has another owner, %d:%d on the host", st.Uid, st.Gid)
	case typ == TypeDir && st.Dev != c.dev:
		return "has another file system mounted on it"
	case typ == TypeDir:
		return ""
	case int64(st.Mtim.Sec) != e.MTime: //nolint:unconvert // 32 bits on arm
		return "was written to: its time differs"
	case uint64(st.Nlink) != was.nlink: //nolint:unconvert // 32 bits on arm64
		return "has more or fewer names than before"
	case typ == TypeFile && st.Size != e.Size:
		return fmt.Sprintf("has %d bytes in place of %d", st.Size, e.Size)
	case (typ == TypeChar || typ == TypeBlock) && st.Rdev != e.Dev:
		return "is another device"
	}
	return ""
}

// lookClosely compares what a stat does not tell of entry i.
func (c *checker) lookClosely(ctx context.Context, files *fileReader, i int, st *unix.Stat_t) (what string, err error) {
	e, was := &c.m[i], &c.stamps[i]
	switch e.Type {
	case TypeWhiteout:
		return "was changed", nil
	case TypeFile:
		now := &record{Entry: Entry{Path: e.Path, Type: TypeFile, Size: e.Size}}
		now.stamp = stamp{ino: st.Ino, ctime: st.Ctim.Nano()}
		switch err := files.read(ctx, now); {
		case errors.Is(err, ErrOutside), errors.Is(err, errors.ErrUnsupported):
			return "has foreign attributes", nil
		case err != nil:
			return "", err
		case now.Type != TypeFile || now.Caps != e.Caps || now.attrs != was.attrs:
			return "has other attributes", nil
		case now.SHA256 != e.SHA256:
			return "has other content", nil
		}
	case TypeSymlink:
		dir, err := files.dirs.open(dirName(e.Path))
		if err != nil {
			return "", err
		}
		if link, err := readlinkAt(dir, baseName(e.Path), st.Size); err != nil || link != e.Link {
			return "has another target", err
		}
	case TypeDir:
		return c.relist(files, i)
	}
	return "", nil
}

// relist compares a directory's names and attributes with the seal.
func (c *checker) relist(files *fileReader, i int) (what string, err error) {
	e := &c.m[i]
	fd, err := files.dirs.open(e.Path)
	if err != nil {
		return "", err
	}
	a, err := readAttrs(fd, c.ids)
	if err != nil {
		return "", err
	}
	if a.opaque != e.Opaque || a.rest != c.stamps[i].attrs {
		return "has other attributes", nil
	}
	names, err := readNames(fd, files.buf)
	if err != nil {
		return "", err
	}
	// The descriptor may be asked for again; it must not be at its end then.
	if err := files.dirs.close(); err != nil {
		return "", err
	}
	slices.Sort(names)
	n, _ := slices.BinarySearch(c.dirs, int32(i))
	had := make([]string, 0, len(names))
	for _, j := range c.content(n) {
		had = append(had, baseName(c.m[j].Path))
	}
	for k, name := range names {
		if k >= len(had) || name < had[k] {
			return "holds the new name \"" + strings.ToValidUTF8(name, "?") + "\"", nil
		}
		if name > had[k] {
			return "lacks the name \"" + had[k] + "\"", nil
		}
	}
	if len(had) > len(names) {
		return "lacks the name \"" + had[len(names)] + "\"", nil
	}
	return "", nil
}
