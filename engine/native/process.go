package native

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"dbuild/agent"
	"dbuild/agent/pid1"
	"dbuild/engine"
	"dbuild/internal/fault"
)

// process is one running agent.
type process struct {
	conn   *os.File // the host's end of the connection
	proc   *os.Process
	stderr *os.File      // memory file with the agent's last words
	gone   chan struct{} // closed when it has been reaped; its mounts are gone then
}

// startAgent starts an agent in fresh namespaces with the given mounts, which
// the caller closes.
func (e *Engine) startAgent(mounts []*os.File, privateNet bool) (_ *process, err error) {
	program, err := e.starter.agentProgram()
	if err != nil {
		return nil, err
	}
	p := &process{gone: make(chan struct{})}
	theirs, err := p.open()
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	defer theirs.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	defer null.Close()
	files := append([]*os.File{null, null, p.stderr, theirs, program}, mounts...)
	p.proc, err = e.starter.start([]string{agent.Name, pid1.ModeNative, strconv.Itoa(len(files))}, &os.ProcAttr{
		Dir:   "/",
		Env:   []string{"GOTRACEBACK=single"},
		Files: files,
		Sys:   e.namespaces(privateNet),
	})
	if err != nil {
		return nil, errors.Join(explainStart(err), p.close())
	}
	go func() {
		_, _ = p.proc.Wait()
		close(p.gone)
	}()
	return p, nil
}

// open makes the connection and returns the agent's end of it.
func (p *process) open() (theirs *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("make connection: %w", err)
	}
	p.conn, theirs = os.NewFile(uintptr(pair[0]), "agent"), os.NewFile(uintptr(pair[1]), "agent")
	fd, err := unix.MemfdCreate("agent-stderr", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make memory file: %w", err), theirs.Close())
	}
	p.stderr = os.NewFile(uintptr(fd), "agent-stderr")
	return theirs, nil
}

func (p *process) close() error {
	var err error
	for _, f := range []*os.File{p.conn, p.stderr} {
		if f != nil {
			err = errors.Join(err, ignoreClosed(f.Close()))
		}
	}
	return err
}

// kill ends the agent, with it everything in the container, and waits.
func (p *process) kill() {
	_ = p.proc.Kill()
	<-p.gone
}

// lastWords returns what the agent said before it died.
func (p *process) lastWords() string {
	b := make([]byte, 2000)
	n, _ := p.stderr.ReadAt(b, 0)
	return string(bytes.TrimSpace(b[:n]))
}

// namespaces says what the agent is born into. The cgroup namespace comes
// later, when the agent is in its cgroup.
func (e *Engine) namespaces(privateNet bool) *syscall.SysProcAttr {
	flags := uintptr(unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS)
	if privateNet {
		flags |= unix.CLONE_NEWNET
	}
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: e.store.IDBase, Size: e.store.IDSize}}
	return &syscall.SysProcAttr{
		Cloneflags:                 flags,
		UidMappings:                ids,
		GidMappings:                ids,
		GidMappingsEnableSetgroups: true,
		Credential:                 &syscall.Credential{Uid: 0, Gid: 0},
		Setsid:                     true,
	}
}

// explainStart tells what to do about the usual reasons.
func explainStart(err error) error {
	err = fault.Wrap(fault.Engine, fmt.Errorf("start container: %w", err))
	switch {
	case errors.Is(err, unix.EPERM):
		return fault.WithHint(errors.Join(err, engine.ErrUnsupported),
			"user namespaces are not allowed here; inside a container run it with --privileged, or set DOCKER_HOST")
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EUSERS):
		return fault.WithHint(err, "raise sysctl user.max_user_namespaces and its kin")
	}
	return err
}
