package wire

import (
	"encoding/binary"
	"fmt"
	"io"
)

// MaxItem bounds one message inside a stream, in bytes.
const MaxItem = 128 << 10

// AppendItem appends m with its length, for messages inside a stream.
func AppendItem(b []byte, m Message) []byte {
	at := len(b)
	b = Append(append(b, 0, 0, 0, 0), m)
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return b
}

// ReadItem reads one message from a stream into m; io.EOF at its end. Scratch
// is a buffer to reuse; the larger one is returned.
func ReadItem(r io.Reader, m Message, scratch []byte) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return scratch, err
	}
	n := int(binary.BigEndian.Uint32(size[:]))
	if n > MaxItem {
		return scratch, fmt.Errorf("%w: item of %d bytes", ErrProtocol, n)
	}
	if cap(scratch) < n {
		scratch = make([]byte, n, max(n, 4096))
	}
	b := scratch[:n]
	if _, err := io.ReadFull(r, b); err != nil {
		return scratch, fmt.Errorf("%w: item cut short: %w", ErrProtocol, err)
	}
	return scratch, Unmarshal(b, m)
}
