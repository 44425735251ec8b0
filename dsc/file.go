package dsc

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"dbuild/internal/fault"
)

// File is one file of a source package.
type File struct {
	Name   string // safe base name
	Path   string // where it is; its last part may be another name
	Size   int64  // bytes
	SHA256 string // lower-case hex

	md5, sha1 string // "" where the .dsc does not list them
}

// Open opens the file for reading. The reader gives a [fault.Trust] error in
// place of io.EOF if the bytes are not those that were verified, so what is
// copied from it to the end is what the .dsc lists, whatever happened to the
// path meanwhile. The caller closes it.
func (f File) Open() (io.ReadCloser, error) {
	file, size, err := openRegular(f.Path)
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", f.Name, err)
	}
	if size != f.Size {
		return nil, errors.Join(f.mismatch("size"), file.Close())
	}
	sums := []checksum{{"SHA-256", f.SHA256, sha256.New()}}
	if f.sha1 != "" {
		sums = append(sums, checksum{"SHA-1", f.sha1, sha1.New()})
	}
	if f.md5 != "" {
		sums = append(sums, checksum{"MD5", f.md5, md5.New()})
	}
	return &verifier{in: io.LimitReader(file, f.Size+1), file: file, want: f, sums: sums}, nil
}

func (f File) mismatch(what string) error {
	return fault.New(fault.Trust, "verify %q: its %s is not the listed one", f.Name, what)
}

// checksum is one hash that a file must have.
type checksum struct {
	name, want string
	hash       hash.Hash
}

// verifier hashes what it reads.
type verifier struct {
	in   io.Reader
	file *os.File
	want File
	n    int64
	sums []checksum
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.in.Read(p)
	v.n += int64(n)
	for _, s := range v.sums {
		s.hash.Write(p[:n])
	}
	if errors.Is(err, io.EOF) {
		if v.n != v.want.Size {
			return n, v.want.mismatch("size")
		}
		for _, s := range v.sums {
			if hex.EncodeToString(s.hash.Sum(nil)) != s.want {
				return n, v.want.mismatch(s.name)
			}
		}
	}
	return n, err
}

func (v *verifier) Close() error { return v.file.Close() }

// openRegular opens a file that is regular and no symbolic link. It never
// blocks, whatever lies at path.
func openRegular(path string) (*os.File, int64, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	switch {
	case errors.Is(err, unix.ELOOP):
		return nil, 0, fault.New(fault.Input, "it is a symbolic link")
	case errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		return nil, 0, fault.New(fault.Input, "it is not a regular file")
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission), errors.Is(err, unix.ENAMETOOLONG), errors.Is(err, unix.ENOTDIR):
		return nil, 0, fault.Wrap(fault.Input, err)
	case err != nil:
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fault.New(fault.Input, "it is not a regular file")
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// ReadFile reads a document of at most limit bytes, as an incoming queue must:
// a symbolic link, FIFO, socket, device or directory, an empty file and one
// that is too large are refused with [fault.Input], without waiting.
func ReadFile(path string, limit int64) ([]byte, error) {
	f, size, err := openRegular(path)
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", path, err)
	}
	defer f.Close()
	if size == 0 || size > limit {
		return nil, fault.New(fault.Input, "read %q: %d bytes, must be 1 to %d", path, size, limit)
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fault.New(fault.Input, "it grew past %d bytes", limit)
	}
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", path, err)
	}
	return b, nil
}

// checkFiles finds all files that are missing or of the wrong kind or size,
// which is quick, before it reads any to the end, several at a time.
func checkFiles(ctx context.Context, files []File) error {
	for _, f := range files {
		if err := f.checkHead(); err != nil {
			return err
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, f := range files {
		g.Go(func() error { return f.verify(ctx) })
	}
	return g.Wait()
}

// verify reads the whole file.
func (f File) verify(ctx context.Context) error {
	in, err := f.Open()
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, ctxReader{ctx, in})
	return errors.Join(err, in.Close())
}

// ctxReader ends a long copy when the context ends.
type ctxReader struct {
	ctx context.Context //nolint:containedctx // a Reader has no other way to know it
	io.Reader
}

func (r ctxReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

// checkHead compares kind, size and first bytes with what the name promises.
func (f File) checkHead() error {
	file, size, err := openRegular(f.Path)
	if err != nil {
		err = fmt.Errorf("open %q: %w", f.Name, err)
		if errors.Is(err, fs.ErrNotExist) {
			return fault.WithHint(err, "the files that a .dsc lists must lie beside it; dget fetches them")
		}
		return err
	}
	defer file.Close()
	if size != f.Size {
		return f.mismatch("size")
	}
	head := make([]byte, 6)
	n, err := io.ReadFull(file, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("read %q: %w", f.Name, err)
	}
	for suffix, magic := range compressions {
		if strings.HasSuffix(f.Name, suffix) && !bytes.HasPrefix(head[:n], []byte(magic)) {
			return fault.New(fault.Input, "read %q: it does not begin as a %s file does", f.Name, suffix)
		}
	}
	return nil
}

// compressions has the suffixes that dpkg-source knows with the bytes that
// such files begin with.
var compressions = map[string]string{
	".gz": "\x1f\x8b", ".xz": "\xfd7zXZ\x00", ".bz2": "BZh", ".lzma": "\x5d\x00\x00",
}

// sha256Of reads r to its end.
func sha256Of(r io.Reader) (sum string, n int64, err error) {
	h := sha256.New()
	n, err = io.Copy(h, r)
	return hex.EncodeToString(h.Sum(nil)), n, err
}
