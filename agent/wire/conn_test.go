package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// connect joins a host to an agent that serves operations with serve.
func connect(t *testing.T, serve func(op *Op, typ OpType, request []byte)) *Conn {
	t.Helper()
	a, b := net.Pipe()
	host, agent := NewConn(a), NewConn(b)
	go host.Serve(nil)
	go agent.Serve(serve)
	t.Cleanup(func() {
		host.Close()
		agent.Close()
	})
	return host
}

// echo sends its input back and ends with how much it was.
func echo(op *Op, _ OpType, _ []byte) {
	n, err := io.Copy(op.Writer(StreamOut), op.Reader(StreamIn))
	r := &Result{Text: "done"}
	if err != nil || n == 0 {
		r.Status = Failed
	}
	_ = op.End(r)
}

func TestEcho(t *testing.T) {
	host := connect(t, echo)
	for _, size := range []int{1, 4000, MaxPayload, MaxPayload + 1, 3*window + 5} {
		in := bytes.Repeat([]byte("0123456789abcdef!"), size/17+1)[:size]
		op, err := host.Open(OpRun, &Empty{})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			_, _ = op.Writer(StreamIn).Write(in)
			_ = op.Writer(StreamIn).CloseWrite()
		}()
		out, err := io.ReadAll(op.Reader(StreamOut))
		if err != nil || !bytes.Equal(in, out) {
			t.Errorf("%d bytes: %d came back, %v", size, len(out), err)
		}
		var r Result
		b, err := op.Wait()
		if err != nil || Unmarshal(b, &r) != nil || r.Err() != nil || r.Text != "done" {
			t.Errorf("result %q, %+v, %v", b, r, err)
		}
	}
}

// TestManyAtOnce: operations opened side by side reach the agent in order.
func TestManyAtOnce(t *testing.T) {
	host := connect(t, func(op *Op, _ OpType, request []byte) { _ = op.End(&Result{Text: string(request)}) })
	var group sync.WaitGroup
	for range 200 {
		group.Go(func() {
			op, err := host.Open(OpRun, &Empty{})
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := op.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

// TestSlowReader: one operation whose output nobody reads stops no other, and
// is never sent more than its window.
func TestSlowReader(t *testing.T) {
	var sent sync.Map
	host := connect(t, func(op *Op, typ OpType, request []byte) {
		if typ == OpGet {
			n, err := io.Copy(op.Writer(StreamOut), io.LimitReader(zeros{}, 10*window))
			sent.Store("n", n)
			sent.Store("err", err)
			_ = op.End(&Result{Status: Cancelled})
			return
		}
		echo(op, typ, request)
	})
	stalled, err := host.Open(OpGet, &Empty{})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		op, err := host.Open(OpRun, &Empty{})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			_, _ = io.WriteString(op.Writer(StreamIn), "beside")
			_ = op.Writer(StreamIn).CloseWrite()
		}()
		if out, err := io.ReadAll(op.Reader(StreamOut)); string(out) != "beside" || err != nil {
			t.Errorf("%q, %v", out, err)
		}
	}
	if err := stalled.Cancel(); err != nil {
		t.Fatal(err)
	}
	if _, err := stalled.Wait(); err != nil {
		t.Error(err)
	}
	n, _ := sent.Load("n")
	wrong, _ := sent.Load("err")
	if n.(int64) > window || !errors.Is(wrong.(error), ErrClosed) {
		t.Errorf("%d bytes sent to a reader that does not read; then %v", n, wrong)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestSmallPieces: many tiny writes do not take a large buffer each.
func TestSmallPieces(t *testing.T) {
	host := connect(t, func(op *Op, _ OpType, _ []byte) {
		for range 100_000 {
			_, _ = op.Writer(StreamOut).Write([]byte("x"))
		}
		_ = op.End(&Result{})
	})
	op, err := host.Open(OpRun, &Empty{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := op.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := len(op.Reader(StreamOut).queue); n > 20 {
		t.Errorf("100,000 bytes wait in %d pieces", n)
	}
	if out, err := io.ReadAll(op.Reader(StreamOut)); len(out) != 100_000 || err != nil {
		t.Errorf("%d bytes, %v", len(out), err)
	}
}

func TestConnectionEnds(t *testing.T) {
	hold := make(chan struct{})
	defer close(hold)
	host := connect(t, func(*Op, OpType, []byte) { <-hold })
	op, err := host.Open(OpRun, &Empty{})
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(10*time.Millisecond, func() { host.Close() })
	if _, err := op.Wait(); !errors.Is(err, ErrClosed) {
		t.Errorf("wait: %v, want ErrClosed", err)
	}
	if _, err := op.Reader(StreamOut).Read(make([]byte, 1)); !errors.Is(err, ErrClosed) {
		t.Errorf("read: %v, want ErrClosed", err)
	}
	if _, err := host.Open(OpRun, &Empty{}); !errors.Is(err, ErrClosed) {
		t.Errorf("open: %v, want ErrClosed", err)
	}
}

func TestRequestTooLarge(t *testing.T) {
	host := connect(t, echo)
	large := &Run{Argv: []string{strings.Repeat("x", MaxRequest)}}
	if _, err := host.Open(OpRun, large); !errors.Is(err, ErrTooLarge) {
		t.Errorf("open: %v, want ErrTooLarge", err)
	}
	fits := &Run{Argv: []string{strings.Repeat("x", MaxRequest-100)}}
	op, err := host.Open(OpRun, fits)
	if err != nil {
		t.Fatal(err)
	}
	_ = op.Writer(StreamIn).CloseWrite()
	if _, err := op.Wait(); err != nil {
		t.Error(err)
	}
}

// script is a connection whose other end says what it likes.
type script struct{ io.Reader }

func (script) Write(p []byte) (int, error) { return len(p), nil }
func (script) Close() error                { return nil }

func frame(op uint32, k kind, payload string) []byte {
	b := make([]byte, headSize, headSize+len(payload))
	head{size: len(payload), op: op, kind: k}.put(b)
	return append(b, payload...)
}

// TestViolations: each ends the connection with ErrProtocol.
func TestViolations(t *testing.T) {
	data := string(make([]byte, MaxPayload))
	open := frame(1, kindOpen, "\x02")
	for _, x := range []struct {
		name  string
		host  bool // who reads it
		input []byte
	}{
		{"unknown operation", true, frame(1, kindData, "x")},
		{"end of unknown operation", true, frame(7, kindEnd, "")},
		{"agent opens", true, frame(1, kindOpen, "\x02")},
		{"future operation", false, frame(1, kindData, "x")},
		{"open twice", false, bytes.Join([][]byte{open, open}, nil)},
		{"open without type", false, frame(1, kindOpen, "")},
		{"end from the host", false, bytes.Join([][]byte{open, frame(1, kindEnd, "")}, nil)},
		{"stream out of range", false, bytes.Join([][]byte{open, frame(1, kindData|3, "x")}, nil)},
		{"unknown kind", false, bytes.Join([][]byte{open, frame(1, 0x77, "x")}, nil)},
		{"too large", false, append(open, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, byte(kindData))},
		{"cut short", false, append(open, frame(1, kindData, "xyz")[:headSize+1]...)},
		{"short credit", false, bytes.Join([][]byte{open, frame(1, kindCredit, "x")}, nil)},
		{"false credit", false, bytes.Join([][]byte{open, frame(1, kindCredit|1, "\x00\x00\x00\x01")}, nil)},
		{"beyond the window", false, append(open, bytes.Repeat(frame(1, kindData, data), window/MaxPayload+1)...)},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := NewConn(script{bytes.NewReader(x.input)})
			hold := make(chan struct{})
			defer close(hold)
			accept := func(*Op, OpType, []byte) { <-hold }
			if x.host {
				accept = nil
			}
			if err := c.Serve(accept); !errors.Is(err, ErrProtocol) {
				t.Errorf("serve ends with %v, want ErrProtocol", err)
			}
		})
	}
}

// FuzzServe: whatever the other side says, nothing panics and nobody is made
// to hold more than it may.
func FuzzServe(f *testing.F) {
	f.Add(true, frame(1, kindData, "x"))
	f.Add(false, bytes.Join([][]byte{frame(1, kindOpen, "\x02"), frame(1, kindData, "abc"), frame(1, kindEOF, ""), frame(1, kindResize, "\x00\x01\x00\x02"), frame(1, kindCancel, "")}, nil))
	f.Fuzz(func(t *testing.T, host bool, input []byte) {
		c := NewConn(script{bytes.NewReader(input)})
		accept := func(op *Op, _ OpType, _ []byte) { _, _ = io.Copy(io.Discard, op.Reader(StreamIn)) }
		if host {
			accept = nil
			_, _ = c.Open(OpRun, &Empty{})
		}
		if err := c.Serve(accept); err == nil {
			t.Error("serve ended without a reason")
		}
	})
}
