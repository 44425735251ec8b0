package tree

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	packWorkers = 2       // reading and hashing; a third goroutine writes
	packQueue   = 4       // parcels ahead of the writer
	chunkSize   = 1 << 20 // bytes; at most packWorkers*(packAhead+1)+packQueue*packAhead chunks are in use
	packAhead   = 3       // finished chunks of one parcel
)

// packer turns entries into tar bytes. The entries are cut into parcels;
// workers make the bytes of parcels side by side, and the writer takes them in
// order. A tar is only its members one after another, so each parcel has a
// tar.Writer of its own.
type packer struct {
	m       Manifest
	layers  Layers
	options TarOptions
	dirTime int64
	chunks  sync.Pool
}

// parcel is a run of entries and the bytes made of them.
type parcel struct {
	entries []Entry
	out     chan []byte
}

func (p *packer) run(ctx context.Context, w io.Writer) (err error) {
	roots, err := p.openLayers()
	defer func() { err = errors.Join(err, closeAll(roots)) }()
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	todo := make(chan *parcel)
	order := make(chan *parcel, packQueue)
	g.Go(func() error {
		defer close(todo)
		defer close(order)
		return p.cut(ctx, todo, order)
	})
	for range packWorkers {
		g.Go(func() error { return p.work(ctx, roots, todo) })
	}
	g.Go(func() error { return p.write(ctx, w, order) })
	return g.Wait()
}

func (p *packer) openLayers() (roots []int, err error) {
	for _, dir := range p.layers.Dirs {
		fd, err := openRoot(dir)
		if err != nil {
			return roots, err
		}
		roots = append(roots, fd)
	}
	return roots, nil
}

func closeAll(fds []int) (err error) {
	for _, fd := range fds {
		err = errors.Join(err, unix.Close(fd))
	}
	return err
}

// cut makes parcels of about one chunk; a bigger file has its own.
func (p *packer) cut(ctx context.Context, todo, order chan<- *parcel) error {
	send := func(entries []Entry) error {
		if len(entries) == 0 {
			return nil
		}
		c := &parcel{entries, make(chan []byte, packAhead)}
		for _, to := range []chan<- *parcel{order, todo} {
			select {
			case to <- c:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	}
	start, size := 0, int64(0)
	for i := range p.m {
		e := &p.m[i]
		cost := int64(512)
		if e.HardLink == "" {
			cost += e.Size
		}
		if size+cost > chunkSize {
			if err := send(p.m[start:i]); err != nil {
				return err
			}
			start, size = i, 0
		}
		size += cost
		if e.Path == "dev" && e.Type == TypeDir {
			if err := send(p.m[start : i+1]); err != nil {
				return err
			}
			if err := send(devSkeleton(p.dirTime, !p.options.OmitDevices)); err != nil {
				return err
			}
			start, size = i+1, 0
		}
	}
	return send(p.m[start:])
}

// write writes the parcels in order, and the end of the tar.
func (p *packer) write(ctx context.Context, w io.Writer, order <-chan *parcel) error {
	for c := range order {
		for {
			var b []byte
			var ok bool
			select {
			case b, ok = <-c.out:
			case <-ctx.Done():
				return ctx.Err()
			}
			if !ok {
				break
			}
			if _, err := w.Write(b); err != nil {
				return err
			}
			p.chunks.Put(&b)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err := w.Write(make([]byte, 1024))
	return err
}

func (p *packer) work(ctx context.Context, roots []int, todo <-chan *parcel) (err error) {
	k := &packWorker{packer: p, buf: make([]byte, readBuffer), hash: sha256.New()}
	for _, fd := range roots {
		k.dirs = append(k.dirs, newDirCache(fd))
	}
	defer func() {
		for i := range k.dirs {
			err = errors.Join(err, k.dirs[i].close())
		}
	}()
	for c := range todo {
		out := &chunker{pool: &p.chunks, send: func(b []byte) error {
			select {
			case c.out <- b:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}
		tw := tar.NewWriter(out)
		for i := range c.entries {
			if err := k.entry(tw, &c.entries[i]); err != nil {
				return err
			}
		}
		if err := errors.Join(tw.Flush(), out.flush()); err != nil {
			return err
		}
		close(c.out)
	}
	return nil
}

// packWorker is what one worker keeps from file to file.
type packWorker struct {
	*packer
	dirs []dirCache // one for each layer
	buf  []byte
	hash hash.Hash
}

// entry writes one member.
func (k *packWorker) entry(tw *tar.Writer, e *Entry) error {
	h, err := header(e, k.dirTime)
	if err != nil {
		return err
	}
	if err := tw.WriteHeader(h); err != nil {
		return fmt.Errorf("%q: %w", e.Path, err)
	}
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	return k.content(tw, e)
}

// content copies a file's bytes, checking the file against e and filling in or
// checking its hash.
func (k *packWorker) content(tw *tar.Writer, e *Entry) (err error) {
	if e.Layer >= len(k.dirs) {
		return fmt.Errorf("%q: no layer %d", e.Path, e.Layer)
	}
	dir, err := k.dirs[e.Layer].open(dirName(e.Path))
	if err != nil {
		return err
	}
	fd, err := openAt(dir, baseName(e.Path), fileFlags)
	if err != nil {
		return pathError("open", e.Path, err)
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	if err := k.checkFile(fd, e); err != nil {
		return err
	}
	known := e.SHA256 != [32]byte{}
	sum := !known || !k.options.Trust
	k.hash.Reset()
	for left := e.Size; left > 0; {
		n, err := retry(func() (int, error) { return unix.Read(fd, k.buf[:min(left, readBuffer)]) })
		if err != nil {
			return pathError("read", e.Path, err)
		}
		if n == 0 {
			return &DamagedError{e.Path, "is shorter than it was"}
		}
		if sum {
			_, _ = k.hash.Write(k.buf[:n])
		}
		if _, err := tw.Write(k.buf[:n]); err != nil {
			return err
		}
		left -= int64(n)
	}
	if !sum {
		return nil
	}
	var got [32]byte
	k.hash.Sum(got[:0])
	if known && got != e.SHA256 {
		return &DamagedError{e.Path, "has other content"}
	}
	e.SHA256 = got
	return nil
}

// checkFile compares what a stat tells, except the time: it may be clamped.
func (k *packWorker) checkFile(fd int, e *Entry) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return pathError("stat", e.Path, err)
	}
	uid, gid, ok := k.layers.Map.Container(st.Uid, st.Gid)
	switch {
	case typeOf(&st) != TypeFile || st.Size != e.Size:
		return &DamagedError{e.Path, "has another type or size"}
	case !ok || uid != e.UID || gid != e.GID || st.Mode&0o7777 != e.Mode:
		return &DamagedError{e.Path, "has another owner or mode"}
	}
	return nil
}

// chunker collects bytes in chunks and sends the full ones on.
type chunker struct {
	pool *sync.Pool
	send func([]byte) error
	b    []byte
}

func (c *chunker) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		if c.b == nil {
			if b, ok := c.pool.Get().(*[]byte); ok {
				c.b = (*b)[:0]
			} else {
				c.b = make([]byte, 0, chunkSize)
			}
		}
		n := copy(c.b[len(c.b):cap(c.b)], p)
		c.b, p = c.b[:len(c.b)+n], p[n:]
		if len(c.b) == cap(c.b) {
			if err := c.flush(); err != nil {
				return total - len(p), err
			}
		}
	}
	return total, nil
}

// flush sends what is there.
func (c *chunker) flush() error {
	if len(c.b) == 0 {
		return nil
	}
	b := c.b
	c.b = nil
	return c.send(b)
}
