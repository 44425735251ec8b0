package wire

import (
	"encoding/binary"
	"sync"
)

// Op is one operation.
type Op struct {
	conn *Conn
	id   uint32
	r    [streams]*Reader
	w    [streams]*Writer

	once   sync.Once
	over   chan struct{} // closed by finish, abort or, on the agent's side, cancel
	result []byte
	err    error

	sizes chan [2]uint16
}

func newOp(c *Conn, id uint32) *Op {
	op := &Op{conn: c, id: id, over: make(chan struct{}), sizes: make(chan [2]uint16, 1)}
	for i := range streams {
		op.r[i] = newReader(op, i)
		op.w[i] = newWriter(op, i)
	}
	return op
}

// Reader returns the receiving end of a stream.
func (op *Op) Reader(stream int) *Reader { return op.r[stream] }

// Writer returns the sending end of a stream.
func (op *Op) Writer(stream int) *Writer { return op.w[stream] }

// Wait returns the result that came with the agent's End, or why there will be
// none. For the host.
func (op *Op) Wait() ([]byte, error) {
	<-op.over
	return op.result, op.err
}

// Ended is closed when Wait would return at once; on the agent's side when the
// host cancels the operation or has gone.
func (op *Op) Ended() <-chan struct{} { return op.over }

// Cancel asks the agent to end the operation; it still sends an End.
func (op *Op) Cancel() error { return op.conn.send(op.id, kindCancel, nil) }

// Resize tells the agent the size of the terminal.
func (op *Op) Resize(rows, cols uint16) error {
	var b [4]byte
	binary.BigEndian.PutUint16(b[:], rows)
	binary.BigEndian.PutUint16(b[2:], cols)
	return op.conn.send(op.id, kindResize, b[:])
}

// Sizes delivers the newest terminal size. For the agent.
func (op *Op) Sizes() <-chan [2]uint16 { return op.sizes }

// End sends the result and forgets the operation. For the agent; nothing may
// be written afterwards.
func (op *Op) End(result Message) error {
	op.conn.forget(op.id)
	op.cancel() // lets go of readers that still wait for input
	return op.conn.send(op.id, kindEnd, Marshal(result))
}

// finish ends the operation on the host's side: what was received can still be
// read.
func (op *Op) finish(result []byte) {
	op.once.Do(func() { op.result = result; close(op.over) })
	for i := range streams {
		op.r[i].close(errEnd)
		op.w[i].close(ErrClosed)
	}
}

func (op *Op) abort(err error) {
	op.once.Do(func() { op.err = err; close(op.over) })
	for i := range streams {
		op.r[i].close(err)
		op.w[i].close(err)
	}
}

// cancel lets the agent's side stop sending and receiving.
func (op *Op) cancel() {
	op.once.Do(func() { close(op.over) })
	for i := range streams {
		op.r[i].close(ErrClosed)
		op.w[i].close(ErrClosed)
	}
}

func (op *Op) resize(rows, cols uint16) {
	select {
	case <-op.sizes:
	default:
	}
	op.sizes <- [2]uint16{rows, cols}
}
