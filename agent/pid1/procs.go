package pid1

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// procs starts processes and reaps every child, those that were orphaned to
// process 1 included.
type procs struct {
	mu      sync.Mutex // held over a start, so that an exit finds its entry
	score   *oomScore  // changed over a start; nil where it cannot be
	waiting map[int]chan<- syscall.WaitStatus
	started chan struct{}
}

func newProcs(score *oomScore) *procs {
	return &procs{score: score, waiting: map[int]chan<- syscall.WaitStatus{}, started: make(chan struct{}, 1)}
}

// start runs a program; its exit status comes through the channel.
func (p *procs) start(path string, argv []string, attr *syscall.ProcAttr) (int, <-chan syscall.WaitStatus, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.score.prefer()
	pid, err := syscall.ForkExec(path, argv, attr)
	p.score.restore()
	if err != nil {
		return 0, nil, err
	}
	exit := make(chan syscall.WaitStatus, 1)
	p.waiting[pid] = exit
	select {
	case p.started <- struct{}{}:
	default:
	}
	return pid, exit, nil
}

// reap waits for children for ever.
func (p *procs) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.ECHILD):
			<-p.started
		case err == nil && (status.Exited() || status.Signaled()):
			p.mu.Lock()
			exit := p.waiting[pid]
			delete(p.waiting, pid)
			p.mu.Unlock()
			if exit != nil {
				exit <- status
			}
		}
	}
}

// killAll kills every process of the namespace but this one, and returns when
// they are gone and reaped. kill(2) with -1 reaches all of them in one go, so
// not even a fork bomb gets away.
func (p *procs) killAll() error {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		err := unix.Kill(-1, unix.SIGKILL)
		if errors.Is(err, unix.ESRCH) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("kill processes: %w", err)
		}
		if time.Now().After(deadline) {
			return errors.New("kill processes: some do not die")
		}
	}
}
