package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
)

// stream hands buffers from one goroutine to another without copying them. The
// sender calls send and then close once; the receiver reads, or hashes.
type stream struct {
	done <-chan struct{} // either side gave up
	why  func() error
	ch   chan piece
	err  error // set before ch is closed

	current piece
	rest    []byte
	ended   error // what the receiver saw at the end
}

type piece struct {
	buf *[]byte
	n   int
}

func newStream(ctx context.Context) *stream {
	return &stream{
		done: ctx.Done(),
		why:  func() error { return context.Cause(ctx) },
		ch:   make(chan piece, 16),
	}
}

// send passes on the first n bytes of a buffer of [buffers], which belongs to
// the receiver from then on.
func (s *stream) send(b *[]byte, n int) error {
	if n == 0 {
		buffers.Put(b)
		return nil
	}
	select {
	case s.ch <- piece{b, n}:
		return nil
	case <-s.done:
		return s.why()
	}
}

// close ends the stream; the receiver gets err after what was sent, or io.EOF.
// It returns err.
func (s *stream) close(err error) error {
	s.err = err
	close(s.ch)
	return err
}

// next waits for a piece. It gives the one before back.
func (s *stream) next() error {
	if s.current.buf != nil {
		buffers.Put(s.current.buf)
		s.current = piece{}
	}
	p, ok := <-s.ch
	switch {
	case ok:
		s.current, s.rest = p, (*p.buf)[:p.n]
		return nil
	case s.err != nil:
		s.ended = s.err
	default:
		s.ended = io.EOF
	}
	return s.ended
}

// blame decides whose fault it is that the receiver could not unpack what it
// got: the sender's if that failed, else the content's.
func (s *stream) blame(url string, err error) error {
	if s.ended != nil && !errors.Is(s.ended, io.EOF) {
		return s.ended
	}
	return mismatch(url, "does not unpack: %v", err)
}

// Read implements [io.Reader].
func (s *stream) Read(b []byte) (int, error) {
	for len(s.rest) == 0 {
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	n := copy(b, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// hash reads to the end.
func (s *stream) hash() (string, error) {
	sum := sha256.New()
	for {
		switch err := s.next(); {
		case err == nil:
			sum.Write(s.rest)
		case errors.Is(err, io.EOF):
			return hex.EncodeToString(sum.Sum(nil)), nil
		default:
			return "", err
		}
	}
}
