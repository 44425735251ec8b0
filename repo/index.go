package repo

import (
	"bytes"
	"context"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// allForms are the suffixes under which an index may be listed. apt needs the
// row of the uncompressed index, without which it silently shows no packages,
// but not the file. zstd is what apt likes best, gzip is what every tool reads,
// and xz what old mirror tools ask for.
var allForms = [...]string{"", ".gz", ".zst", ".xz"}

// xzForm is the number of the form that not every suite has.
const xzForm = 3

// forms are those of a suite's indexes.
func (r Rules) forms() []string {
	if r.XZ {
		return allForms[:]
	}
	return allForms[:xzForm]
}

// stored tells whether the file of a row exists, and is not only listed.
func stored(path string) bool {
	return strings.HasSuffix(path, ".gz") || strings.HasSuffix(path, ".zst") || strings.HasSuffix(path, ".xz")
}

// compressor makes the stored forms; the same text always gives the same
// bytes. It is safe for concurrent use.
type compressor struct{ zstd *zstd.Encoder }

func newCompressor() (*compressor, error) {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithZeroFrames(true), zstd.WithEncoderLevel(zstd.SpeedBetterCompression))
	return &compressor{e}, err
}

func (c *compressor) compress(ctx context.Context, form string, text []byte) ([]byte, error) {
	switch form {
	case ".zst":
		return c.zstd.EncodeAll(text, nil), nil
	case ".gz":
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		if _, err := w.Write(text); err != nil {
			return nil, err
		}
		err := w.Close()
		return b.Bytes(), err
	case ".xz":
		return compressXZ(ctx, text)
	default:
		return text, nil
	}
}

// union returns the strings of all lists, sorted, each once.
func union(lists ...[]string) []string {
	all := slices.Concat(lists...)
	slices.Sort(all)
	return slices.Compact(all)
}
