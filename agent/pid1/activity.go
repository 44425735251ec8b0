package pid1

import (
	"io"
	"os"
	"sync/atomic"
	"time"
)

// activity tells how long a step has been silent. Time in which the host does
// not take the output does not count.
type activity struct {
	last    atomic.Int64 // nanoseconds since start
	sending atomic.Int32
}

var processStart = time.Now() // monotonic

func (a *activity) touch() { a.last.Store(int64(time.Since(processStart))) }

func (a *activity) silence() time.Duration {
	if a.sending.Load() > 0 {
		return 0
	}
	return time.Since(processStart) - time.Duration(a.last.Load())
}

// move reads once and writes what came.
func (a *activity) move(from *os.File, to io.Writer, buf []byte) error {
	n, err := from.Read(buf)
	if n == 0 {
		return err
	}
	a.sending.Add(1)
	_, werr := to.Write(buf[:n])
	a.touch()
	a.sending.Add(-1)
	if werr != nil {
		return werr
	}
	return err
}

// idleTimer fires when a step may have been silent for too long.
type idleTimer struct {
	limit    time.Duration
	activity *activity
	timer    *time.Timer // nil: no limit
}

func newIdleTimer(limit time.Duration, a *activity) *idleTimer {
	t := &idleTimer{limit: limit, activity: a}
	if limit > 0 {
		t.timer = time.NewTimer(limit)
	}
	return t
}

func (t *idleTimer) fired() <-chan time.Time {
	if t.timer == nil {
		return nil
	}
	return t.timer.C
}

// expired reports whether the limit is reached; if not it sets the timer anew.
func (t *idleTimer) expired() bool {
	left := t.limit - t.activity.silence()
	if left <= 0 {
		return true
	}
	t.timer.Reset(left)
	return false
}

func (t *idleTimer) stop() {
	if t.timer != nil {
		t.timer.Stop()
	}
}
