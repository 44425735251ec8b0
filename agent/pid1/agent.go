package pid1

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"golang.org/x/sys/unix"

	"dbuild/agent/seccomp"
	"dbuild/agent/wire"
)

// agent serves one connection.
type agent struct {
	conn  *wire.Conn
	procs *procs

	// Set by Setup, constant afterwards.
	ready   chan struct{} // closed when Setup has succeeded
	once    sync.Once
	root    wire.Root
	confine wire.Confine
	filter  seccomp.Filter
	bare    int // the root without the mounts on it, for scratch containers; else -1

	steps stepSet
}

func newAgent(conn *wire.Conn, score *oomScore) *agent {
	return &agent{conn: conn, procs: newProcs(score), ready: make(chan struct{}), bare: -1}
}

// accept serves one operation.
func (a *agent) accept(op *wire.Op, typ wire.OpType, request []byte) {
	result, err := a.serve(op, typ, request)
	if err != nil {
		result = resultOf(err)
	}
	_ = op.End(result) // fails only with the connection, which ends the agent
}

func (a *agent) serve(op *wire.Op, typ wire.OpType, request []byte) (wire.Message, error) {
	if typ == wire.OpSetup {
		var m wire.Setup
		if err := wire.Unmarshal(request, &m); err != nil {
			return nil, err
		}
		return a.setUp(&m)
	}
	select {
	case <-a.ready:
	default:
		return nil, errors.New("container is not set up")
	}
	switch typ {
	case wire.OpRun:
		var m wire.Run
		if err := wire.Unmarshal(request, &m); err != nil {
			return nil, err
		}
		return a.run(op, &m)
	case wire.OpPut:
		var m wire.Put
		if err := wire.Unmarshal(request, &m); err != nil {
			return nil, err
		}
		return &wire.Result{}, a.put(op, &m)
	case wire.OpGet:
		var m wire.Get
		if err := wire.Unmarshal(request, &m); err != nil {
			return nil, err
		}
		return &wire.Result{}, a.get(op, &m)
	case wire.OpPack:
		var m wire.Pack
		if err := wire.Unmarshal(request, &m); err != nil {
			return nil, err
		}
		return &wire.Result{}, a.pack(op, &m)
	case wire.OpQuiesce:
		return &wire.Result{}, a.procs.killAll()
	}
	return nil, fmt.Errorf("%w: operation %d", wire.ErrProtocol, typ)
}

// refusal is an error about the input rather than about the machine.
type refusal struct{ text string }

func (r *refusal) Error() string { return r.text }

func refuse(format string, args ...any) error { return &refusal{fmt.Sprintf(format, args...)} }

// errTooMuch says that a limit of Get was reached.
var errTooMuch = errors.New("limit exceeded")

func resultOf(err error) *wire.Result {
	r := &wire.Result{Status: wire.Failed, Text: err.Error()}
	var ref *refusal
	switch {
	case errors.As(err, &ref):
		r.Status = wire.Refused
	case errors.Is(err, errTooMuch):
		r.Status = wire.TooMuch
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		r.Status = wire.NoSpace
	case errors.Is(err, fs.ErrNotExist):
		r.Status = wire.NotFound
	case errors.Is(err, unix.ENOSYS), errors.Is(err, errUnsupported):
		r.Status = wire.Unsupported
	case errors.Is(err, wire.ErrClosed):
		r.Status = wire.Cancelled
	}
	return r
}

// errUnsupported says that this kernel or the place where dbuild runs does not
// allow what a container needs.
var errUnsupported = errors.New("not supported here")
