// Package session is the host's side of the agent's protocol in the words of
// package engine. The engines make the container and the connection; all that
// happens inside goes through a [Session].
package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"dbuild/agent/wire"
	"dbuild/engine"
	"dbuild/internal/fault"
)

// patience is how long a cancelled operation may take to end before the
// connection, and with it the container, is given up.
const patience = 8 * time.Second

// Session is a connection to one agent. Its methods are safe for concurrent
// use. An error of a broken connection is [engine.ErrLost].
type Session struct{ conn *wire.Conn }

// New takes over rw and speaks to the agent at its other end.
func New(rw io.ReadWriteCloser) *Session {
	s := &Session{conn: wire.NewConn(rw)}
	go func() { _ = s.conn.Serve(nil) }() // every operation under way gets its error
	return s
}

// Close ends the connection, upon which the agent exits.
func (s *Session) Close() error { return s.conn.Close() }

// Done is closed when the connection has ended.
func (s *Session) Done() <-chan struct{} { return s.conn.Done() }

// SetUp prepares the container; the first call of a session.
func (s *Session) SetUp(ctx context.Context, m *wire.Setup) (*wire.SetupResult, error) {
	m.Version = wire.Version
	var result wire.SetupResult
	err := s.do(ctx, wire.OpSetup, m, nil, &result)
	if err == nil {
		err = failure(&result.Result)
	}
	return &result, err
}

// Quiesce kills and reaps everything but the agent.
func (s *Session) Quiesce(ctx context.Context) error {
	var result wire.Result
	if err := s.do(ctx, wire.OpQuiesce, &wire.Empty{}, nil, &result); err != nil {
		return err
	}
	return failure(&result)
}

// do runs one operation: work moves its streams, if it has any, and returns
// when they are at their ends; an error of work cancels the operation. A
// result that is not OK is decoded but not made an error, except when the
// operation was cut short by ctx.
func (s *Session) do(ctx context.Context, typ wire.OpType, request wire.Message, work func(*wire.Op) error, result wire.Message) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	op, err := s.conn.Open(typ, request)
	if errors.Is(err, wire.ErrTooLarge) {
		return fault.Wrap(fault.Internal, err)
	}
	if err != nil {
		return lost(err)
	}
	stop := context.AfterFunc(ctx, func() { s.cancel(op) })
	defer stop()
	if work != nil {
		if err := work(op); err != nil {
			s.cancel(op)
			_, _ = op.Wait()
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return err
		}
	}
	b, err := op.Wait()
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return lost(err)
	}
	return decode(b, result)
}

// cancel asks the agent to end an operation and enforces it.
func (s *Session) cancel(op *wire.Op) {
	if op.Cancel() != nil {
		return // broken, so it has ended
	}
	time.AfterFunc(patience, func() {
		select {
		case <-op.Ended():
		default:
			_ = s.conn.Close()
		}
	})
}

// decode reads a result. An operation that could not be served at all answers
// with a bare Result.
func decode(b []byte, result wire.Message) error {
	err := wire.Unmarshal(b, result)
	if err == nil {
		return nil
	}
	var bare wire.Result
	if wire.Unmarshal(b, &bare) == nil && bare.Status != wire.OK {
		return failure(&bare)
	}
	return lost(err)
}

func lost(err error) error {
	return fault.Wrap(fault.Engine, fmt.Errorf("%w: %w", engine.ErrLost, err))
}

// failure makes an error of a result that is not OK.
func failure(r *wire.Result) error {
	switch r.Status {
	case wire.OK:
		return nil
	case wire.NotFound:
		return fault.Wrap(fault.Engine, tagged{engine.ErrNotFound, r.Text})
	case wire.Refused:
		return fault.Wrap(fault.Input, errors.New(r.Text))
	case wire.NoSpace:
		return fault.Wrap(fault.Resource, tagged{engine.ErrNoSpace, r.Text})
	case wire.TooMuch:
		return fault.Wrap(fault.Resource, tagged{engine.ErrTooMuch, r.Text})
	case wire.Unsupported:
		return fault.Wrap(fault.Engine, tagged{engine.ErrUnsupported, r.Text})
	case wire.Cancelled:
		return context.Canceled
	}
	return fault.Wrap(fault.Engine, errors.New(r.Text))
}

// tagged is an agent's text with the sentinel that it stands for.
type tagged struct {
	sentinel error
	text     string
}

func (t tagged) Error() string { return t.text }
func (t tagged) Unwrap() error { return t.sentinel }
