package native

import (
	"errors"
	"os"
	"runtime"
	"strconv"
	"sync"

	"dbuild/agent"
	"dbuild/agent/wire"
)

// starter starts agents, all from one thread that lives as long as the engine:
// the kernel kills an agent when the thread that started it ends, which covers
// the moments in which it cannot see its connection close.
type starter struct {
	requests chan startRequest
	closed   chan struct{}

	once    sync.Once
	program *os.File
	err     error
}

type startRequest struct {
	attr  *os.ProcAttr
	argv  []string
	reply chan<- startReply
}

type startReply struct {
	process *os.Process
	err     error
}

func newStarter() *starter {
	s := &starter{requests: make(chan startRequest), closed: make(chan struct{})}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		for {
			select {
			case r := <-s.requests:
				p, err := os.StartProcess(programPath, r.argv, r.attr)
				r.reply <- startReply{p, err}
			case <-s.closed:
				return
			}
		}
	}()
	return s
}

// programPath is the agent's program as it sees it among its descriptors.
var programPath = "/proc/self/fd/" + strconv.Itoa(wire.FDProgram)

// agentProgram returns the sealed program, the same file for all agents.
func (s *starter) agentProgram() (*os.File, error) {
	s.once.Do(func() { s.program, s.err = agent.Memory() })
	return s.program, s.err
}

func (s *starter) start(argv []string, attr *os.ProcAttr) (*os.Process, error) {
	reply := make(chan startReply)
	select {
	case s.requests <- startRequest{attr, argv, reply}:
		r := <-reply
		return r.process, r.err
	case <-s.closed:
		return nil, errClosed
	}
}

var errClosed = errors.New("engine is closed")

// close ends the thread. It is called once, after the last container closed.
func (s *starter) close() error {
	close(s.closed)
	s.once.Do(func() { s.err = errClosed })
	if s.program == nil {
		return nil
	}
	return s.program.Close()
}
