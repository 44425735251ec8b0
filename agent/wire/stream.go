package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// errEnd closes the host's readers at the End frame: the end of the stream.
var errEnd = errors.New("operation ended")

// Reader is the receiving end of a stream. It is for one goroutine.
type Reader struct {
	op     *Op
	stream int

	mu     sync.Mutex
	wake   sync.Cond
	queue  []chunk
	held   int // bytes received but not granted anew
	read   int // bytes consumed since the last grant
	closed error
}

type chunk struct {
	buf  *[]byte // returned to the pool after use; may be nil
	data []byte  // what is left of it
}

func newReader(op *Op, stream int) *Reader {
	r := &Reader{op: op, stream: stream}
	r.wake.L = &r.mu
	return r
}

// push queues a received payload. It reports whether it took over buf: small
// payloads are copied and joined, or a step that prints single bytes could
// make the other side hold a large buffer for each.
func (r *Reader) push(buf *[]byte, payload []byte) (kept bool, err error) {
	const small = 8 << 10
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed != nil || len(payload) == 0 { // cancelled meanwhile
		return false, nil
	}
	if r.held += len(payload); r.held > window {
		return false, fmt.Errorf("%w: stream %d beyond its window", ErrProtocol, r.stream)
	}
	last := len(r.queue) - 1
	switch {
	case len(payload) > small:
		r.queue = append(r.queue, chunk{buf, payload})
		kept = true
	case last >= 0 && r.queue[last].buf == nil && len(r.queue[last].data) < 4*small:
		r.queue[last].data = append(r.queue[last].data, payload...)
	default:
		r.queue = append(r.queue, chunk{nil, append([]byte(nil), payload...)})
	}
	r.wake.Signal()
	return kept, nil
}

func (r *Reader) close(err error) {
	r.mu.Lock()
	if r.closed == nil {
		r.closed = err
		if err == errEnd { //nolint:errorlint // only the end itself
			r.closed = io.EOF
		}
	}
	r.wake.Broadcast()
	r.mu.Unlock()
}

// next waits for data; the chunk stays first in the queue until used.
func (r *Reader) next() (chunk, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.queue) == 0 {
		if r.closed != nil {
			return chunk{}, r.closed
		}
		r.wake.Wait()
	}
	return r.queue[0], nil
}

// used takes n bytes from the head of the queue and grants them anew in
// portions.
func (r *Reader) used(n int) {
	r.mu.Lock()
	first := &r.queue[0]
	if first.data = first.data[n:]; len(first.data) == 0 {
		if first.buf != nil {
			putBuffer(first.buf)
		}
		r.queue = r.queue[1:]
	}
	grant := 0
	if r.read += n; r.read >= window/4 && r.closed == nil {
		grant, r.read = r.read, 0
		r.held -= grant
	}
	r.mu.Unlock()
	if grant > 0 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(grant))
		// A broken connection shows up at the reading side.
		_ = r.op.conn.send(r.op.id, kindCredit|kind(r.stream), b[:])
	}
}

// Read returns io.EOF at the end of the stream and [ErrClosed] or the
// connection's error when it was cut.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c, err := r.next()
	if err != nil {
		return 0, err
	}
	n := copy(p, c.data)
	r.used(n)
	return n, nil
}

// WriteTo writes the rest of the stream to w without copying it.
func (r *Reader) WriteTo(w io.Writer) (total int64, err error) {
	for {
		c, err := r.next()
		if err == io.EOF { //nolint:errorlint // only the end itself
			return total, nil
		}
		if err != nil {
			return total, err
		}
		n, err := w.Write(c.data)
		total += int64(n)
		r.used(len(c.data))
		if err != nil {
			return total, err
		}
	}
}

// Writer is the sending end of a stream.
type Writer struct {
	op     *Op
	stream int

	mu     sync.Mutex
	wake   sync.Cond
	credit int
	closed error
}

func newWriter(op *Op, stream int) *Writer {
	w := &Writer{op: op, stream: stream, credit: window}
	w.wake.L = &w.mu
	return w
}

func (w *Writer) grant(n int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.credit += n; w.credit > window {
		return fmt.Errorf("%w: credit beyond the window", ErrProtocol)
	}
	w.wake.Signal()
	return nil
}

func (w *Writer) close(err error) {
	w.mu.Lock()
	if w.closed == nil {
		w.closed = err
	}
	w.wake.Broadcast()
	w.mu.Unlock()
}

// reserve waits until n bytes may be sent.
func (w *Writer) reserve(n int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.closed == nil && w.credit < n {
		w.wake.Wait()
	}
	if w.closed != nil {
		return w.closed
	}
	w.credit -= n
	return nil
}

// Write sends p; it blocks while the other side does not read.
func (w *Writer) Write(p []byte) (int, error) {
	buf := getBuffer()
	defer putBuffer(buf)
	sent := 0
	for sent < len(p) {
		n := copy((*buf)[headSize:], p[sent:])
		if err := w.sendFilled(buf, n); err != nil {
			return sent, err
		}
		sent += n
	}
	return sent, nil
}

// ReadFrom sends everything that r yields, each piece as soon as it is there.
func (w *Writer) ReadFrom(r io.Reader) (total int64, err error) {
	buf := getBuffer()
	defer putBuffer(buf)
	for {
		n, err := r.Read((*buf)[headSize:])
		if n > 0 {
			if err := w.sendFilled(buf, n); err != nil {
				return total, err
			}
			total += int64(n)
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

func (w *Writer) sendFilled(buf *[]byte, n int) error {
	if err := w.reserve(n); err != nil {
		return err
	}
	return w.op.conn.sendBuffer(w.op.id, kindData|kind(w.stream), (*buf)[:headSize+n])
}

// CloseWrite tells the reader that the stream has ended.
func (w *Writer) CloseWrite() error {
	return w.op.conn.send(w.op.id, kindEOF|kind(w.stream), nil)
}
