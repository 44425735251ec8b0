package session

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"dbuild/agent/wire"
	"dbuild/engine"
	"dbuild/internal/fault"
)

// talk returns a session with an agent that answers with serve.
func talk(t *testing.T, serve func(op *wire.Op, typ wire.OpType)) *Session {
	t.Helper()
	a, b := net.Pipe()
	agent := wire.NewConn(b)
	go agent.Serve(func(op *wire.Op, typ wire.OpType, _ []byte) { serve(op, typ) })
	s := New(a)
	t.Cleanup(func() {
		s.Close()
		agent.Close()
	})
	return s
}

// TestGetHoldsAgent: the host does not rely on the agent for names and limits.
func TestGetHoldsAgent(t *testing.T) {
	head := func(name string, size int64) []byte {
		return wire.AppendItem(nil, &wire.FileHead{Name: name, Size: size})
	}
	for _, x := range []struct {
		name string
		sent []byte
		is   error
	}{
		{"another file", append(head("b", 1), 'x'), engine.ErrLost},
		{"a path", append(head("../a", 1), 'x'), engine.ErrLost},
		{"one more", bytes.Join([][]byte{head("a", 0), head("b", 0)}, nil), engine.ErrLost},
		{"negative size", head("a", -1), engine.ErrLost},
		{"too much", head("a", 11), engine.ErrTooMuch},
		{"cut short", append(head("a", 5), "abc"...), io.ErrUnexpectedEOF},
		{"head cut short", head("a", 5)[:4], engine.ErrLost},
	} {
		t.Run(x.name, func(t *testing.T) {
			s := talk(t, func(op *wire.Op, _ wire.OpType) {
				_, _ = op.Writer(wire.StreamOut).Write(x.sent)
				_ = op.End(&wire.Result{})
			})
			err := s.GetFiles(t.Context(), "/", []string{"a"}, engine.GetLimits{Files: 5, Bytes: 10}, func(_ engine.GotFile, r io.Reader) error {
				_, err := io.Copy(io.Discard, r)
				return err
			})
			if !errors.Is(err, x.is) {
				t.Errorf("error is %v, want %v", err, x.is)
			}
		})
	}
}

// TestNoEndRecord: output that ends, and even a connection that does, is not
// success.
func TestNoEndRecord(t *testing.T) {
	var s *Session
	s = talk(t, func(op *wire.Op, _ wire.OpType) {
		_, _ = io.WriteString(op.Writer(wire.StreamOut), "dpkg-buildpackage: info: full upload\n")
		_ = op.Writer(wire.StreamOut).CloseWrite()
		time.AfterFunc(50*time.Millisecond, func() { s.Close() })
	})
	var out strings.Builder
	exit, err := s.Run(t.Context(), engine.Step{Argv: []string{"x"}, Stdout: &out})
	if !errors.Is(err, engine.ErrLost) || exit.OK() || fault.ClassOf(err) != fault.Engine {
		t.Errorf("%+v, %v, want ErrLost", exit, err)
	}
	if out.String() == "" {
		t.Error("what was sent did not arrive")
	}
}

// TestResults maps what the agent says to what callers ask for.
func TestResults(t *testing.T) {
	for _, x := range []struct {
		status wire.Status
		is     error
		class  fault.Class
	}{
		{wire.Failed, nil, fault.Engine}, {wire.NotFound, engine.ErrNotFound, fault.Engine}, {wire.Refused, nil, fault.Input},
		{wire.NoSpace, engine.ErrNoSpace, fault.Resource}, {wire.TooMuch, engine.ErrTooMuch, fault.Resource},
		{wire.Unsupported, engine.ErrUnsupported, fault.Engine}, {wire.Status(200), nil, fault.Engine},
	} {
		s := talk(t, func(op *wire.Op, _ wire.OpType) { _ = op.End(&wire.Result{Status: x.status, Text: "the text"}) })
		for name, err := range map[string]error{
			"quiesce": s.Quiesce(t.Context()),
			"put":     putNothing(t.Context(), s),
			"run":     runNothing(t.Context(), s),
		} {
			if err == nil || x.is != nil && !errors.Is(err, x.is) || fault.ClassOf(err) != x.class || !strings.Contains(err.Error(), "the text") {
				t.Errorf("status %d, %s: %v of class %s", x.status, name, err, fault.ClassOf(err))
			}
		}
	}
}

func putNothing(ctx context.Context, s *Session) error {
	_, err := s.PutFiles(ctx, strings.NewReader(""), engine.PutOptions{})
	return err
}

func runNothing(ctx context.Context, s *Session) error {
	_, err := s.Run(ctx, engine.Step{Argv: []string{"x"}})
	return err
}

// TestGarbage: a result that cannot be read is a lost container.
func TestGarbage(t *testing.T) {
	s := talk(t, func(op *wire.Op, _ wire.OpType) { _ = op.End(&wire.Entry{Name: "no result at all", Size: 1 << 50}) })
	if err := s.Quiesce(t.Context()); !errors.Is(err, engine.ErrLost) {
		t.Errorf("quiesce: %v, want ErrLost", err)
	}
}
