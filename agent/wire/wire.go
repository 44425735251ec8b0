// Package wire is the protocol between dbuild and its agent, PID 1 of every
// container. It runs over any ordered byte stream: a socket pair on the native
// engine, an attached standard input and output on Docker.
//
// The stream carries frames. Each belongs to an operation that the host opened
// (run a step, put files, …); operations run side by side, and each has up to
// three byte streams with a credit window of its own, so that one slow reader
// stops nobody else. An operation is over only with the agent's End frame.
//
// A frame is nine bytes of head (payload length, operation, kind; integers are
// big-endian) and a payload of at most [MaxPayload] bytes, or [MaxRequest] in
// the frame that opens an operation. Whoever sees a frame that breaks a rule
// closes the connection.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Version is sent with [Setup]; the agent refuses any other.
const Version = 4

const (
	headSize = 9
	// MaxPayload bounds the payload of a frame, in bytes.
	MaxPayload = 256 << 10
	// MaxRequest bounds a request: it holds arguments and environment of a
	// step, for which the kernel has a limit of its own.
	MaxRequest = 4 << 20
	// window is how many bytes of one stream may be under way.
	window = 4 << 20
)

// kind is the type of a frame; the low four bits of the last three name the
// stream.
type kind byte

const (
	kindOpen   kind = 0x01 // host: opens an operation; operation type and request
	kindCancel kind = 0x02 // host: end the operation soon
	kindResize kind = 0x03 // host: terminal size; rows and columns, two bytes each
	kindEnd    kind = 0x04 // agent: the operation is over; its result
	kindData   kind = 0x10
	kindEOF    kind = 0x20
	kindCredit kind = 0x30 // payload: number of bytes, four bytes
)

// The streams of an operation.
const (
	StreamIn  = 0 // host to agent: standard input, tar
	StreamOut = 1 // agent to host: standard output, files, entries
	StreamErr = 2 // agent to host: standard error
	streams   = 3
)

// ErrProtocol says that the other side broke the protocol.
var ErrProtocol = errors.New("agent protocol violated")

// ErrTooLarge says that a request cannot be sent; the connection is unharmed.
var ErrTooLarge = errors.New("request is too large")

// ErrClosed is what pending operations get when the connection ends.
var ErrClosed = errors.New("agent connection closed")

// limit is the largest payload of a kind.
func (k kind) limit() int {
	if k == kindOpen {
		return MaxRequest
	}
	return MaxPayload
}

type head struct {
	size int
	op   uint32
	kind kind
}

func (h head) put(b []byte) {
	binary.BigEndian.PutUint32(b, uint32(h.size))
	binary.BigEndian.PutUint32(b[4:], h.op)
	b[8] = byte(h.kind)
}

func parseHead(b []byte) (head, error) {
	h := head{
		size: int(binary.BigEndian.Uint32(b)),
		op:   binary.BigEndian.Uint32(b[4:]),
		kind: kind(b[8]),
	}
	if h.size > h.kind.limit() {
		return head{}, fmt.Errorf("%w: frame of %d bytes", ErrProtocol, h.size)
	}
	return h, nil
}
