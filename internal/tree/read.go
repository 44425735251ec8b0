package tree

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// errChanged is wrapped when a tree is written to while it is read.
var errChanged = errors.New("changed while it was read")

const (
	readBuffer   = 256 << 10 // stays in a core's second-level cache
	bigFile      = 4 << 20   // hashed first, so that no worker ends late with one
	filesAtATime = 32
)

// Read reads one layer, contents included, by that many workers (0: one for
// each core is the caller's choice; at least one runs). The manifest holds
// whiteouts, opaque marks and sockets as they are; see [Merge]. Nobody may
// write to the layer meanwhile: a file that changes is an error.
//
// Symbolic links are never followed and other file systems never entered;
// finding one mounted inside is an error. An owner outside m is an error.
// Memory is bounded by the number of entries, not by their size.
func Read(ctx context.Context, dir string, m IDMap, workers int) (Manifest, *Seal, error) {
	s, err := read(ctx, dir, m, workers, true)
	if err != nil {
		return nil, nil, err
	}
	return s.m, s, nil
}

// List is [Read] without contents: the SHA256 of files stays zero, until
// [WriteTar] fills it in.
func List(ctx context.Context, dir string, m IDMap, workers int) (Manifest, error) {
	s, err := read(ctx, dir, m, workers, false)
	if err != nil {
		return nil, err
	}
	return s.m, nil
}

func read(ctx context.Context, dir string, ids IDMap, workers int, contents bool) (s *Seal, err error) {
	workers = max(workers, 1)
	root, err := openRoot(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unix.Close(root)) }()
	top, err := listLayer(ctx, root, ids, workers)
	if err != nil {
		return nil, err
	}
	all, parents := flatten(top)
	groupLinks(all)
	if err := readFiles(ctx, root, all, ids, workers, contents); err != nil {
		return nil, fmt.Errorf("read tree: %w", err)
	}
	copyToLinks(all)
	s = &Seal{m: make(Manifest, len(all)), stamps: make([]stamp, len(all)), parents: parents}
	for i, r := range all {
		s.m[i], s.stamps[i] = r.Entry, r.stamp
	}
	return s, nil
}

// readFiles reads the attributes of all regular files and, with contents set,
// hashes them. Of a group of hard links only the first is opened.
func readFiles(ctx context.Context, root int, all []*record, ids IDMap, workers int, contents bool) error {
	files := make([]*record, 0, len(all))
	for _, r := range all {
		if r.Type == TypeFile && r.HardLink == "" {
			files = append(files, r)
		}
	}
	if contents {
		slices.SortStableFunc(files, func(a, b *record) int {
			return cmp.Compare(b.Size/bigFile, a.Size/bigFile)
		})
	}
	q := &queue{files: files}
	g, ctx := errgroup.WithContext(ctx)
	for range workers {
		g.Go(func() (err error) {
			r := newFileReader(root, ids, contents)
			defer func() { err = errors.Join(err, r.close()) }()
			for batch := q.take(); len(batch) > 0; batch = q.take() {
				for _, f := range batch {
					if err := r.read(ctx, f); err != nil {
						return pathError("read", f.Path, err)
					}
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// queue hands out files in batches that are neither many nor big.
type queue struct {
	mu    sync.Mutex
	files []*record
}

func (q *queue) take() []*record {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, size := 0, int64(0)
	for n < len(q.files) && n < filesAtATime && size < bigFile {
		size += q.files[n].Size
		n++
	}
	batch := q.files[:n]
	q.files = q.files[n:]
	return batch
}

// copyToLinks gives hard links what was read from the first of their group.
func copyToLinks(all []*record) {
	byPath := make(map[string]*record)
	for _, r := range all {
		if r.HardLink == "" {
			if r.Type == TypeFile && r.nlink > 1 {
				byPath[r.Path] = r
			}
			continue
		}
		first := byPath[r.HardLink]
		r.SHA256, r.Caps, r.attrs = first.SHA256, first.Caps, first.attrs
	}
}

// fileReader opens one regular file after another, keeping the directory of
// the last one open. It is not safe for concurrent use.
type fileReader struct {
	dirs     dirCache
	ids      IDMap
	contents bool
	buf      []byte
	hash     hash.Hash
}

func newFileReader(root int, ids IDMap, contents bool) *fileReader {
	return &fileReader{dirs: newDirCache(root), ids: ids, contents: contents, buf: make([]byte, readBuffer), hash: sha256.New()}
}

func (r *fileReader) close() error { return r.dirs.close() }

// read fills in attributes and hash of f and checks that it is still the file
// that was listed.
func (r *fileReader) read(ctx context.Context, f *record) (err error) {
	dir, err := r.dirs.open(dirName(f.Path))
	if err != nil {
		return err
	}
	fd, err := openAt(dir, baseName(f.Path), fileFlags)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	a, err := readAttrs(fd, r.ids)
	if err != nil {
		return err
	}
	f.Caps, f.attrs = a.caps, a.rest
	if a.whiteout && f.Size == 0 {
		f.Entry = Entry{Path: f.Path, Type: TypeWhiteout}
	}
	if r.contents && f.Type == TypeFile {
		if err := r.sum(ctx, fd, f.Size); err != nil {
			return err
		}
		r.hash.Sum(f.SHA256[:0])
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Ino != f.ino || st.Ctim.Nano() != f.ctime || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return errChanged
	}
	return nil
}

// sum hashes exactly size bytes.
func (r *fileReader) sum(ctx context.Context, fd int, size int64) error {
	r.hash.Reset()
	for done := int64(0); done < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := retry(func() (int, error) { return unix.Read(fd, r.buf) })
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
		_, _ = r.hash.Write(r.buf[:n])
		done += int64(n)
	}
	return nil
}
