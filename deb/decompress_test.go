package deb

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

func gzipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zstded(t testing.TB, b []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(b, nil)
}

// xzText is what testdata/text.xz holds; nothing here can write xz.
var xzText = strings.Repeat("one line of text\n", 100)

func xzed(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/text.xz")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func decompressAll(name string, b []byte, limit int64) ([]byte, error) {
	r, err := Decompress(name, bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, limit))
}

// samples holds the same text in every compression that is supported.
func samples(t testing.TB) map[string][]byte {
	t.Helper()
	return map[string][]byte{
		"a/b/Packages.gz": gzipped(t, []byte(xzText)),
		"data.tar.xz":     xzed(t),
		"Sources.zst":     zstded(t, []byte(xzText)),
		"Packages":        []byte(xzText),
		"data.tar":        []byte(xzText),
	}
}

func TestDecompress(t *testing.T) {
	for name, b := range samples(t) {
		t.Run(name, func(t *testing.T) {
			got, err := decompressAll(name, b, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != xzText {
				t.Errorf("%d bytes, want %d", len(got), len(xzText))
			}
			r, err := Decompress(name, iotest.OneByteReader(bytes.NewReader(b)))
			if err != nil {
				t.Fatal(err)
			}
			if got, err = io.ReadAll(r); err != nil || string(got) != xzText {
				t.Errorf("byte by byte: %d bytes, %v", len(got), err)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDecompressDamaged(t *testing.T) {
	for name, b := range samples(t) {
		if name == "Packages" || name == "data.tar" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			for n := range b { // n = 0 is the empty zstd stream of CVE-2026-2219
				if _, err := decompressAll(name, b[:n], 1<<20); err == nil {
					t.Errorf("%d of %d bytes are accepted", n, len(b))
				}
			}
			if _, err := decompressAll(name, append(bytes.Clone(b), "junk"...), 1<<20); err == nil {
				t.Error("junk at the end is accepted")
			}
			flipped := bytes.Clone(b)
			flipped[len(b)/2] ^= 0x10
			if got, err := decompressAll(name, flipped, 1<<20); err == nil && string(got) != xzText {
				t.Error("a flipped bit changes the text unnoticed")
			}
		})
	}
}

func TestDecompressRefuses(t *testing.T) {
	text := []byte("BZh91AY&SY")
	for _, name := range []string{"a.bz2", "a.lzma", "a.lz4", "a.lz", "a.Z", "a.zip", "a.tar.unknown", "a.GZ", "a.", "a.xz", "a.gz", "a.zst"} {
		_, err := Decompress(name, bytes.NewReader(text))
		var typed *CompressionError
		if !errors.As(err, &typed) {
			t.Errorf("%s: error %v, want a CompressionError", name, err)
		}
	}
	broken := errors.New("broken")
	if _, err := Decompress("a.gz", iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("error %v, want the reader's", err)
	}
	// A reader that fails late.
	r, err := Decompress("a.gz", io.MultiReader(bytes.NewReader(gzipped(t, []byte(xzText))[:30]), iotest.ErrReader(broken)))
	if err == nil {
		_, err = io.ReadAll(r)
	}
	if !errors.Is(err, broken) {
		t.Errorf("error %v, want the reader's", err)
	}
}

// TestDecompressLargeWindow holds that a header cannot ask for any amount of
// memory: this zstd frame announces a window of 3.75 TiB.
func TestDecompressLargeWindow(t *testing.T) {
	frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff, 0x01, 0x00, 0x00}
	if _, err := decompressAll("a.zst", frame, 1<<20); err == nil {
		t.Error("the frame is accepted")
	}
}
