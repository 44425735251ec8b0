package cache

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"dbuild/internal/fault"
	"dbuild/internal/tree"
)

// An exported image is one file: a tar whose first member is the bundle, named
// bundleName, and whose others are the trees in the order of [Bundle.Trees], each
// named by its digest.
const bundleName = "dbuild-image.json"

// maxTree bounds what a compressed tree may unfold to.
const maxTree = 64 << 30

// TreeName names a tree among others.
func TreeName(d tree.Digest) string {
	return "trees/" + strings.TrimPrefix(string(d), "sha256:") + ".tar.zst"
}

// PackTree writes the tree with this digest as [Store.WriteTree] does, zstd
// compressed, to an unnamed file in dir. The caller closes it.
func (s *Store) PackTree(ctx context.Context, e *Entry, digest tree.Digest, dir string) (f *os.File, err error) {
	if f, err = os.CreateTemp(dir, ".export-*.tmp"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if err := os.Remove(f.Name()); err != nil {
		return f, err
	}
	// The same tree gives the same bytes, whatever the number of processors.
	z, err := zstd.NewWriter(f, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return f, err
	}
	if err := s.WriteTree(ctx, e, digest, z); err != nil {
		return f, errors.Join(err, z.Close())
	}
	if err := z.Close(); err != nil {
		return f, err
	}
	_, err = f.Seek(0, io.SeekStart)
	return f, err
}

// Unpack is the reverse of the compression of [Store.PackTree], for untrusted
// bytes.
func Unpack(r io.ReadCloser) (io.ReadCloser, error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxWindow(64<<20))
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return &unpacked{Reader: io.LimitReader(z, maxTree), z: z, r: r}, nil
}

type unpacked struct {
	io.Reader
	z *zstd.Decoder
	r io.Closer
}

func (u *unpacked) Close() error {
	u.z.Close()
	return u.r.Close()
}

// Export writes an open image with its statements to w; dir is for copies of
// its trees.
func (s *Store) Export(ctx context.Context, e *Entry, dir string, w io.Writer) error {
	if err := s.writeBundle(ctx, e, dir, w); err != nil {
		return fmt.Errorf("export %s image %.12s: %w", e.Statement.Kind, e.Hash, err)
	}
	return nil
}

func (s *Store) writeBundle(ctx context.Context, e *Entry, dir string, w io.Writer) error {
	b, err := s.Bundle(e)
	if err != nil {
		return err
	}
	data, err := b.Marshal()
	if err != nil {
		return err
	}
	digests, err := b.Trees()
	if err != nil {
		return err
	}
	t := tar.NewWriter(w)
	if err := t.WriteHeader(member(bundleName, int64(len(data)), e)); err != nil {
		return err
	}
	if _, err := t.Write(data); err != nil {
		return err
	}
	for _, d := range digests {
		if err := s.exportTree(ctx, e, d, dir, t); err != nil {
			return err
		}
	}
	return t.Close()
}

func (s *Store) exportTree(ctx context.Context, e *Entry, d tree.Digest, dir string, t *tar.Writer) (err error) {
	f, err := s.PackTree(ctx, e, d, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if err := t.WriteHeader(member(TreeName(d), st.Size(), e)); err != nil {
		return err
	}
	_, err = io.Copy(t, f)
	return err
}

func member(name string, size int64, e *Entry) *tar.Header {
	return &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: size, ModTime: e.Statement.Created.Truncate(time.Second), Format: tar.FormatPAX}
}

// BundleFile is an exported image.
type BundleFile struct {
	Bundle *Bundle
	f      *os.File
	trees  map[string]*io.SectionReader
}

// OpenBundle reads the head of an exported image. Nothing in it is verified. The
// caller closes it.
func OpenBundle(path string) (_ *BundleFile, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.Wrap(fault.Usage, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fault.New(fault.Usage, "%q is no regular file", path)
	}
	b := &BundleFile{f: f, trees: map[string]*io.SectionReader{}}
	if err := b.read(st.Size()); err != nil {
		return nil, fault.Wrap(fault.Input, fmt.Errorf("read exported image %q: %w", path, err))
	}
	return b, nil
}

// read finds the members: the bundle, its trees, and nothing else.
func (b *BundleFile) read(size int64) error {
	all := io.NewSectionReader(b.f, 0, size)
	t := tar.NewReader(all)
	h, err := t.Next()
	if err != nil || h.Name != bundleName || h.Size > maxBundle {
		return errors.Join(errors.New("it is none that dbuild images export wrote"), err)
	}
	data, err := io.ReadAll(t)
	if err != nil {
		return err
	}
	if b.Bundle, err = ParseBundle(data); err != nil {
		return err
	}
	digests, err := b.Bundle.Trees()
	if err != nil {
		return err
	}
	for _, d := range digests {
		h, err := t.Next()
		if err != nil || h.Name != TreeName(d) || h.Typeflag != tar.TypeReg {
			return errors.Join(fmt.Errorf("tree %s is missing", d), err)
		}
		at, err := all.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		if at+h.Size > size {
			return fmt.Errorf("tree %s is cut off: %w", d, io.ErrUnexpectedEOF)
		}
		b.trees[TreeName(d)] = io.NewSectionReader(b.f, at, h.Size)
	}
	if _, err := t.Next(); !errors.Is(err, io.EOF) {
		return errors.Join(errors.New("something follows its last tree"), err)
	}
	return nil
}

// Open gives the tar of a tree; see [Incoming].
func (b *BundleFile) Open(_ context.Context, d tree.Digest) (io.ReadCloser, error) {
	section, ok := b.trees[TreeName(d)]
	if !ok {
		return nil, fault.New(fault.Input, "tree %s is missing", d)
	}
	return Unpack(io.NopCloser(io.NewSectionReader(section, 0, section.Size())))
}

// Close closes the file.
func (b *BundleFile) Close() error { return b.f.Close() }
