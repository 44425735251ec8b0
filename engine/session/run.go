package session

import (
	"context"
	"io"
	"reflect"
	"sync"

	"dbuild/agent/wire"
	"dbuild/engine"
)

// Run runs a step; see [engine.Container]. When Step.Stdin blocks for longer
// than the step runs, one goroutine stays in its Read until that returns.
func (s *Session) Run(ctx context.Context, step engine.Step) (engine.Exit, error) {
	p := &pump{step: step}
	var result wire.RunResult
	if err := s.do(ctx, wire.OpRun, request(&step), p.move, &result); err != nil {
		return engine.Exit{Code: -1, Reason: engine.ReasonLost}, err
	}
	if err := failure(&result.Result); err != nil {
		return engine.Exit{Code: -1}, err
	}
	exit := engine.Exit{Code: result.Code, Signal: result.Signal}
	switch result.End {
	case wire.EndTimeout:
		exit.Reason = engine.ReasonTimeout
	case wire.EndIdle:
		exit.Reason = engine.ReasonIdle
	case wire.EndCancelled:
		return exit, ctx.Err()
	case wire.EndSelf:
		exit.Reason = reasons[result.Limit]
	}
	return exit, nil
}

var reasons = map[wire.Limit]engine.Reason{
	wire.LimitMemory: engine.ReasonOOM, wire.LimitPIDs: engine.ReasonPIDs, wire.LimitDisk: engine.ReasonDisk,
}

func request(step *engine.Step) *wire.Run {
	if step.Stderr != nil && same(step.Stdout, step.Stderr) {
		step.Stderr = nil // one stream keeps the order
	}
	m := &wire.Run{
		Argv: step.Argv, Env: step.Env, Dir: step.Dir, UID: step.User.UID, GID: step.User.GID, Umask: step.Umask,
		Stdin: step.Stdin != nil, Stdout: step.Stdout != nil, Stderr: step.Stderr != nil,
		Timeout: int64(step.Timeout), Idle: int64(step.Idle),
	}
	if m.Umask == 0 {
		m.Umask = 0o022
	}
	if step.TTY != nil {
		m.TTY, m.Stderr = true, false
		m.Rows, m.Cols = int(step.TTY.Rows), int(step.TTY.Cols)
	}
	return m
}

func same(a, b io.Writer) bool {
	return a != nil && b != nil && reflect.TypeOf(a) == reflect.TypeOf(b) && reflect.TypeOf(a).Comparable() && a == b
}

// pump moves the streams of one step.
type pump struct {
	step engine.Step
	mu   sync.Mutex
	err  error // the first error of a writer
}

// move returns when all output has been written.
func (p *pump) move(op *wire.Op) error {
	if p.step.Stdin != nil {
		go func() {
			w := op.Writer(wire.StreamIn)
			_, _ = w.ReadFrom(p.step.Stdin) // an input that fails ends there
			_ = w.CloseWrite()
		}()
	}
	if t := p.step.TTY; t != nil && t.Resize != nil {
		go follow(op, t.Resize)
	}
	var outputs sync.WaitGroup
	for stream, w := range map[int]io.Writer{wire.StreamOut: p.step.Stdout, wire.StreamErr: p.step.Stderr} {
		if w == nil {
			continue
		}
		outputs.Go(func() {
			if _, err := op.Reader(stream).WriteTo(w); err != nil {
				p.fail(op, err)
			}
		})
	}
	outputs.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// fail remembers an error of a writer and cancels the step, so that the other
// stream ends too. An error of the connection shows up in Wait.
func (p *pump) fail(op *wire.Op, err error) {
	select {
	case <-op.Ended():
		return
	default:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
		_ = op.Cancel()
	}
}

func follow(op *wire.Op, sizes <-chan [2]uint16) {
	for {
		select {
		case size, ok := <-sizes:
			if !ok || op.Resize(size[0], size[1]) != nil {
				return
			}
		case <-op.Ended():
			return
		}
	}
}
