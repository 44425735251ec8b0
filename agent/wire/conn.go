package wire

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
)

// Conn is one end of the connection. Its methods are safe for concurrent use.
type Conn struct {
	rw io.ReadWriteCloser

	writing sync.Mutex // one frame at a time

	mu   sync.Mutex
	ops  map[uint32]*Op
	last uint32 // highest operation so far
	err  error  // why the connection ended
	done chan struct{}
}

// NewConn returns a connection over rw; [Conn.Serve] must be called.
func NewConn(rw io.ReadWriteCloser) *Conn {
	return &Conn{rw: rw, ops: map[uint32]*Op{}, done: make(chan struct{})}
}

// Serve reads frames until the connection ends and returns why. On the agent's
// side accept is called in a goroutine of its own for each new operation; on
// the host's side it is nil.
func (c *Conn) Serve(accept func(op *Op, typ OpType, request []byte)) error {
	r := bufio.NewReaderSize(c.rw, 64<<10)
	var err error
	for err == nil {
		err = c.readFrame(r, accept)
	}
	if err == io.EOF { //nolint:errorlint // a wrapped one means that a frame was cut short
		err = ErrClosed
	}
	c.abort(err)
	return err
}

// Close ends the connection and with it every operation.
func (c *Conn) Close() error {
	c.abort(ErrClosed)
	return c.rw.Close()
}

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

func (c *Conn) abort(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	ops := c.ops
	c.ops = nil
	c.mu.Unlock()
	close(c.done)
	for _, op := range ops {
		op.abort(err)
	}
}

func (c *Conn) readFrame(r *bufio.Reader, accept func(*Op, OpType, []byte)) error {
	var raw [headSize]byte
	if _, err := io.ReadFull(r, raw[:]); err != nil {
		return err
	}
	h, err := parseHead(raw[:])
	if err != nil {
		return err
	}
	buf := getBuffer()
	payload := *buf
	if h.size > len(payload) {
		payload = make([]byte, h.size)
	}
	payload = payload[:h.size]
	if _, err := io.ReadFull(r, payload); err != nil {
		return fmt.Errorf("%w: frame cut short: %w", ErrProtocol, err)
	}
	kept, err := c.dispatch(h, buf, payload, accept)
	if !kept {
		putBuffer(buf)
	}
	return err
}

// dispatch hands one frame on. It never blocks. It reports whether it kept buf.
func (c *Conn) dispatch(h head, buf *[]byte, payload []byte, accept func(*Op, OpType, []byte)) (kept bool, err error) {
	if h.kind == kindOpen {
		return false, c.open(h, payload, accept)
	}
	c.mu.Lock()
	op, last := c.ops[h.op], c.last
	c.mu.Unlock()
	if op == nil {
		// The host may speak of an operation whose End is on its way.
		if accept != nil && h.op <= last {
			return false, nil
		}
		return false, fmt.Errorf("%w: frame %#x for unknown operation %d", ErrProtocol, byte(h.kind), h.op)
	}
	stream := int(h.kind & 0x0f)
	switch {
	case h.kind == kindEnd && accept == nil:
		c.forget(h.op)
		op.finish(append([]byte(nil), payload...))
		return false, nil
	case h.kind == kindCancel && accept != nil:
		op.cancel()
		return false, nil
	case h.kind == kindResize && accept != nil && len(payload) == 4:
		op.resize(binary.BigEndian.Uint16(payload), binary.BigEndian.Uint16(payload[2:]))
		return false, nil
	case stream >= streams:
	case h.kind&0xf0 == kindData:
		return op.r[stream].push(buf, payload)
	case h.kind&0xf0 == kindEOF:
		op.r[stream].close(io.EOF)
		return false, nil
	case h.kind&0xf0 == kindCredit && len(payload) == 4:
		return false, op.w[stream].grant(int(binary.BigEndian.Uint32(payload)))
	}
	return false, fmt.Errorf("%w: frame %#x of %d bytes", ErrProtocol, byte(h.kind), h.size)
}

func (c *Conn) open(h head, payload []byte, accept func(*Op, OpType, []byte)) error {
	c.mu.Lock()
	if accept == nil || h.op <= c.last || len(payload) == 0 || c.err != nil {
		c.mu.Unlock()
		return fmt.Errorf("%w: open of operation %d", ErrProtocol, h.op)
	}
	c.last = h.op
	op := newOp(c, h.op)
	c.ops[h.op] = op
	c.mu.Unlock()
	go accept(op, OpType(payload[0]), append([]byte(nil), payload[1:]...))
	return nil
}

// Open starts an operation; for the host. The caller reads to the end what the
// operation sends and calls [Op.Wait].
func (c *Conn) Open(typ OpType, request Message) (*Op, error) {
	buf := Append(append(make([]byte, headSize), byte(typ)), request)
	if n := len(buf) - headSize; n > MaxRequest {
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, n)
	}
	// Operations must reach the agent in the order of their numbers.
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return nil, c.err
	}
	c.last++
	op := newOp(c, c.last)
	c.ops[op.id] = op
	c.mu.Unlock()
	if err := c.writeFrame(op.id, kindOpen, buf); err != nil {
		c.forget(op.id)
		return nil, err
	}
	return op, nil
}

func (c *Conn) forget(id uint32) {
	c.mu.Lock()
	delete(c.ops, id)
	c.mu.Unlock()
}

func (c *Conn) send(op uint32, k kind, payload []byte) error {
	if len(payload) > MaxPayload {
		return fmt.Errorf("%w: %d bytes", ErrTooLarge, len(payload))
	}
	buf := make([]byte, headSize+len(payload))
	copy(buf[headSize:], payload)
	return c.sendBuffer(op, k, buf)
}

// sendBuffer sends buf, whose first headSize bytes are room for the head.
func (c *Conn) sendBuffer(op uint32, k kind, buf []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.writeFrame(op, k, buf)
}

// writeFrame is sendBuffer for a caller that holds writing.
func (c *Conn) writeFrame(op uint32, k kind, buf []byte) error {
	head{size: len(buf) - headSize, op: op, kind: k}.put(buf)
	if _, err := c.rw.Write(buf); err != nil {
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return nil
}

var buffers = sync.Pool{New: func() any { b := make([]byte, headSize+MaxPayload); return &b }}

func getBuffer() *[]byte  { return buffers.Get().(*[]byte) }
func putBuffer(b *[]byte) { buffers.Put(b) }
