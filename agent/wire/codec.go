package wire

import (
	"encoding/binary"
	"fmt"
)

// Message is a request or result that can be sent.
type Message interface{ code(c *coder) }

// coder writes a message, or reads it when reading is set. Having one function
// for both directions keeps them from drifting apart, and without reflection
// the agent stays small.
type coder struct {
	buf     []byte
	reading bool
	err     error
}

// Marshal encodes m.
func Marshal(m Message) []byte { return Append(nil, m) }

// Append encodes m behind b.
func Append(b []byte, m Message) []byte {
	c := coder{buf: b}
	m.code(&c)
	return c.buf
}

// Unmarshal decodes b, which must hold exactly one message, into m.
func Unmarshal(b []byte, m Message) error {
	c := coder{buf: b, reading: true}
	m.code(&c)
	if c.err == nil && len(c.buf) != 0 {
		c.err = fmt.Errorf("%w: %d bytes after a message", ErrProtocol, len(c.buf))
	}
	return c.err
}

func (c *coder) fail() {
	if c.err == nil {
		c.err = fmt.Errorf("%w: message cut short", ErrProtocol)
	}
	c.buf = nil
}

// take returns the next n bytes, or nil after an error.
func (c *coder) take(n uint64) []byte {
	if c.err != nil || n > uint64(len(c.buf)) {
		c.fail()
		return nil
	}
	b := c.buf[:n]
	c.buf = c.buf[n:]
	return b
}

func (c *coder) uint(v *uint64) {
	if !c.reading {
		c.buf = binary.AppendUvarint(c.buf, *v)
		return
	}
	n, size := binary.Uvarint(c.buf)
	if size <= 0 {
		c.fail()
		return
	}
	c.buf = c.buf[size:]
	*v = n
}

func (c *coder) int64(v *int64) {
	if !c.reading {
		c.buf = binary.AppendVarint(c.buf, *v)
		return
	}
	n, size := binary.Varint(c.buf)
	if size <= 0 {
		c.fail()
		return
	}
	c.buf = c.buf[size:]
	*v = n
}

func (c *coder) int(v *int) {
	n := int64(*v)
	c.int64(&n)
	*v = int(n)
}

func (c *coder) byte(v *byte) {
	if !c.reading {
		c.buf = append(c.buf, *v)
		return
	}
	if b := c.take(1); b != nil {
		*v = b[0]
	}
}

func (c *coder) bool(v *bool) {
	var b byte
	if *v {
		b = 1
	}
	c.byte(&b)
	*v = b != 0
}

func (c *coder) string(v *string) {
	n := uint64(len(*v))
	c.uint(&n)
	if !c.reading {
		c.buf = append(c.buf, *v...)
		return
	}
	*v = string(c.take(n))
}

func (c *coder) strings(v *[]string) {
	for i := range list(c, v) {
		c.string(&(*v)[i])
	}
}

// list codes the length of *v and makes room for it when reading; the caller
// codes the elements. Every element takes at least one byte, which bounds the
// room by the length of the message.
func list[T any](c *coder, v *[]T) []T {
	n := uint64(len(*v))
	c.uint(&n)
	if !c.reading {
		return *v
	}
	if n > uint64(len(c.buf)) {
		c.fail()
		n = 0
	}
	*v = nil
	if n > 0 {
		*v = make([]T, n)
	}
	return *v
}
