package deb

import (
	"cmp"
	"fmt"
	"io"
)

// Limits bounds what a reader of untrusted text accepts. A zero member means
// the value of [DefaultLimits].
type Limits struct {
	Document int64 // bytes of the whole document
	Field    int64 // bytes of one field, its continuation lines included
	Fields   int   // fields of one paragraph
}

// DefaultLimits fits everything that the Debian archive publishes, indexes
// included, with room to grow.
var DefaultLimits = Limits{Document: 256 << 20, Field: 16 << 20, Fields: 1000}

func (l Limits) orDefault() Limits {
	return Limits{
		Document: cmp.Or(l.Document, DefaultLimits.Document),
		Field:    cmp.Or(l.Field, DefaultLimits.Field),
		Fields:   cmp.Or(l.Fields, DefaultLimits.Fields),
	}
}

// LimitError reports that an input is larger than this package reads. It is
// a type of its own because a caller may class it as a question of resources
// rather than of syntax.
type LimitError struct {
	What  string // what is too large, such as "document" or "control archive"
	Limit int64  // bytes, or a count where What is plural
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%s over the limit of %d", e.What, e.Limit)
}

// boundedReader returns LimitError instead of the first byte past the limit.
type boundedReader struct {
	r    io.Reader
	left int64
	err  *LimitError
}

func newBoundedReader(r io.Reader, limit int64, what string) *boundedReader {
	return &boundedReader{r: r, left: limit, err: &LimitError{What: what, Limit: limit}}
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	// One byte more than allowed is asked for, so that an input of exactly
	// the limit still ends in io.EOF.
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.r.Read(p)
	if int64(n) > b.left {
		n = int(b.left)
		b.left = 0
		return n, b.err
	}
	b.left -= int64(n)
	return n, err
}
