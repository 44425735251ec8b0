package deb

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
)

// maxWindow bounds the dictionary that a compressed file may ask for, in
// bytes: that of xz -9. dpkg-deb's own default is 8 MiB for both xz and zstd.
const maxWindow = 64 << 20

// CompressionError reports a compression that is not supported, or data that
// is not compressed in the way its name says.
type CompressionError struct {
	Name   string
	Reason string
}

func (e *CompressionError) Error() string {
	return fmt.Sprintf("decompress %q: %s", e.Name, e.Reason)
}

// codec is one compression: how its data begins, and how to read it.
type codec struct {
	magic []byte
	open  func(io.Reader) (io.ReadCloser, error)
}

func codecFor(name string) (codec, bool) {
	switch path.Ext(path.Base(name)) {
	case ".gz":
		return codec{[]byte{0x1f, 0x8b}, openGzip}, true
	case ".xz":
		return codec{[]byte("\xfd7zXZ\x00"), openXz}, true
	case ".zst":
		return codec{[]byte{0x28, 0xb5, 0x2f, 0xfd}, openZstd}, true
	case "", ".tar":
		return codec{nil, openPlain}, true
	}
	return codec{}, false
}

// Decompress returns a reader of what r holds, compressed as the suffix of
// name says: .gz, .xz, .zst, or no suffix (or .tar) for none. Everything
// else is refused, and so is data that does not begin like its suffix
// demands, an empty file among them: a reader that waits for more of an
// empty zstd stream never ends.
//
// Memory is bounded; the length of the output is not, so the caller must
// stop reading at its own limit. Close frees the decoder and leaves r open.
func Decompress(name string, r io.Reader) (io.ReadCloser, error) {
	c, ok := codecFor(name)
	if !ok {
		return nil, &CompressionError{Name: name, Reason: "compression not supported"}
	}
	if c.magic == nil {
		return c.open(r)
	}
	in := bufio.NewReaderSize(r, 64<<10)
	head, err := in.Peek(len(c.magic))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("decompress %q: %w", name, err)
	}
	if !bytes.Equal(head, c.magic) {
		return nil, &CompressionError{Name: name, Reason: "data does not begin as its suffix demands"}
	}
	out, err := c.open(in)
	if err != nil {
		return nil, fmt.Errorf("decompress %q: %w", name, err)
	}
	return &namedReader{out, name}, nil
}

// namedReader adds the name to the errors of a decoder.
type namedReader struct {
	io.ReadCloser
	name string
}

func (n *namedReader) Read(p []byte) (int, error) {
	k, err := n.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("decompress %q: %w", n.name, err)
	}
	return k, err
}

func openPlain(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(r), nil }

func openGzip(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }

func openXz(r io.Reader) (io.ReadCloser, error) {
	x, err := xz.NewReader(r, maxWindow)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(x), nil
}

// openZstd decodes in the caller's goroutine: several files are often read
// at once, and the decoder's own goroutines gain nothing then.
func openZstd(r io.Reader) (io.ReadCloser, error) {
	z, err := zstd.NewReader(r,
		zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, err
	}
	return z.IOReadCloser(), nil
}
