package pid1

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"dbuild/agent/wire"
)

// step is one Run under way.
type step struct {
	*wire.Run
	op       *wire.Op
	process  process
	baseline map[int]bool // processes that were there before; nil when another step ran beside
	sole     bool         // no other step ran at any time
	activity activity
}

// run runs a step to its end. The end of its output is not waited for: a
// daemon that it left behind may hold the pipe for ever. What lies in the pipe
// when the step ends is still delivered.
func (a *agent) run(op *wire.Op, m *wire.Run) (wire.Message, error) {
	if len(m.Argv) == 0 || m.UID < 0 || m.GID < 0 {
		return nil, refuse("step without a command or user")
	}
	if m.UID >= idCount || m.GID >= idCount {
		return nil, refuse("user %d:%d outside the container's ids", m.UID, m.GID)
	}
	path, err := lookPath(m.Argv[0], m.Env)
	if err != nil {
		return nil, err
	}
	s := &step{Run: m, op: op}
	s.activity.touch()
	streams, err := openStreams(s)
	if err != nil {
		return nil, fmt.Errorf("open streams of step: %w", err)
	}
	before := a.limitsHit()
	a.steps.add(s)
	defer a.steps.remove(s)
	s.process, err = a.start(command{
		path: path, argv: m.Argv, env: m.Env, dir: orRoot(m.Dir), uid: m.UID, gid: m.GID, umask: m.Umask,
		files: streams.child(), tty: m.TTY,
	})
	streams.closeChild()
	if err != nil {
		streams.close()
		return nil, fmt.Errorf("start %q: %w", m.Argv[0], err)
	}
	streams.pump(s)
	status, end := a.await(s)
	streams.finish()
	r := &wire.RunResult{Code: -1, End: end}
	if status.Exited() {
		r.Code = status.ExitStatus()
	} else {
		r.Signal = int(status.Signal())
	}
	if status != 0 {
		r.Limit = a.limitsHit().since(before)
	}
	return r, nil
}

// await waits for the end of the step's process, and brings it about when the
// step is cancelled or takes too long.
func (a *agent) await(s *step) (syscall.WaitStatus, wire.End) {
	var timeout <-chan time.Time
	if s.Timeout > 0 {
		t := time.NewTimer(time.Duration(s.Timeout))
		defer t.Stop()
		timeout = t.C
	}
	idle := newIdleTimer(time.Duration(s.Idle), &s.activity)
	defer idle.stop()
	for {
		var end wire.End
		select {
		case status := <-s.process.exit:
			return status, wire.EndSelf
		case <-timeout:
			end = wire.EndTimeout
		case <-idle.fired():
			if !idle.expired() {
				continue
			}
			end = wire.EndIdle
		case <-s.op.Ended():
			end = wire.EndCancelled
		}
		a.killStep(s)
		return <-s.process.exit, end
	}
}

// streams are the agent's and the step's ends of its standard streams.
type streams struct {
	stdin, stdout, stderr *os.File // the agent's ends; nil when not used
	ends                  [3]*os.File
	opened                []*os.File // the step's ends, to close after the start
	tty                   bool
	drained               chan struct{} // one message for each output pump
	pumps                 int
}

func openStreams(s *step) (st *streams, err error) {
	st = &streams{tty: s.TTY, drained: make(chan struct{}, 2)}
	defer func() {
		if err != nil {
			st.closeChild()
			st.close()
		}
	}()
	if s.TTY {
		return st, st.openTerminal(s)
	}
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return st, err
	}
	st.opened = append(st.opened, null)
	st.ends = [3]*os.File{null, null, null}
	if s.Stdin {
		if st.ends[0], st.stdin, err = st.pipe(); err != nil {
			return st, err
		}
	}
	if s.Stdout || s.Idle > 0 {
		if st.stdout, st.ends[1], err = st.outPipe(); err != nil {
			return st, err
		}
	}
	st.ends[2] = st.ends[1]
	if s.Stderr {
		st.stderr, st.ends[2], err = st.outPipe()
	}
	return st, err
}

// pipe returns a pipe whose reading end goes to the step.
func (st *streams) pipe() (r, w *os.File, err error) {
	if r, w, err = os.Pipe(); err != nil {
		return nil, nil, err
	}
	enlarge(r)
	st.opened = append(st.opened, r)
	return r, w, nil
}

// outPipe returns a pipe whose writing end goes to the step.
func (st *streams) outPipe() (r, w *os.File, err error) {
	if r, w, err = os.Pipe(); err != nil {
		return nil, nil, err
	}
	enlarge(r)
	st.opened = append(st.opened, w)
	return r, w, nil
}

const pipeSize = 1 << 20

// enlarge saves wake-ups; that a user's pipe quota may forbid it does not
// matter.
func enlarge(f *os.File) {
	if c, err := f.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeSize) })
	}
}

// child returns the descriptors for the step. Fd makes them blocking, as
// programs expect.
func (st *streams) child() []uintptr {
	return []uintptr{st.ends[0].Fd(), st.ends[1].Fd(), st.ends[2].Fd()}
}

func (st *streams) closeChild() {
	for _, f := range st.opened {
		_ = f.Close()
	}
	st.opened = nil
}

func (st *streams) close() {
	for _, f := range []*os.File{st.stdin, st.stdout, st.stderr} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// pump starts moving bytes.
func (st *streams) pump(s *step) {
	if st.stdin != nil {
		go st.feed(s)
	}
	out := io.Writer(s.op.Writer(wire.StreamOut))
	if !s.Stdout {
		out = io.Discard
	}
	for _, p := range []struct {
		from *os.File
		to   io.Writer
	}{{st.stdout, out}, {st.stderr, s.op.Writer(wire.StreamErr)}} {
		if p.from == nil {
			continue
		}
		st.pumps++
		go func() {
			st.drain(s, p.from, p.to)
			st.drained <- struct{}{}
		}()
	}
}

// feed copies standard input. At its end a pipe is closed and a terminal gets
// the end-of-file character.
func (st *streams) feed(s *step) {
	_, err := io.Copy(st.stdin, s.op.Reader(wire.StreamIn))
	if !st.tty {
		_ = st.stdin.Close()
	} else if err == nil {
		_, _ = st.stdin.Write([]byte{4})
	}
}

// drain copies output until its end or, after the step has ended, until what
// was written by then is out.
func (st *streams) drain(s *step, from *os.File, to io.Writer) {
	buf := make([]byte, 64<<10)
	var err error
	for err == nil {
		err = s.activity.move(from, to, buf)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) || st.tty {
		return
	}
	// The deadline is how finish tells that the step has ended. Take what is
	// there without waiting, and no more than fits into a pipe, since somebody
	// may still be writing.
	_ = from.SetReadDeadline(time.Time{})
	conn, err := from.SyscallConn()
	for left := pipeSize; err == nil && left > 0; {
		n := 0
		err = conn.Read(func(fd uintptr) bool { n, _ = unix.Read(int(fd), buf); return true })
		if n <= 0 {
			return
		}
		left -= n
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// lastWords is how long a terminal may still deliver output after the step's
// end when something else keeps it open; the kernel hands it over late.
const lastWords = 100 * time.Millisecond

// finish waits until the output of the ended step is out and closes the
// agent's ends.
func (st *streams) finish() {
	deadline := time.Now()
	if st.tty {
		deadline = deadline.Add(lastWords)
	}
	for _, f := range []*os.File{st.stdout, st.stderr} {
		if f != nil {
			_ = f.SetReadDeadline(deadline)
		}
	}
	for range st.pumps {
		<-st.drained
	}
	st.close()
}

func orRoot(dir string) string {
	if dir == "" {
		return "/"
	}
	return dir
}

// lookPath finds a command as a shell would, with the PATH of the step.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := ""
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			path = v
		}
	}
	for _, dir := range strings.Split(path, ":") {
		if !strings.HasPrefix(dir, "/") {
			continue
		}
		file := dir + "/" + name
		if st, err := os.Stat(file); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fmt.Errorf("find command %q: %w", name, fs.ErrNotExist)
}
