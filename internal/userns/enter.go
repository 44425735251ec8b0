package userns

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"dbuild/internal/fault"
)

// capabilities that the copy is born with and keeps over exec, though its user
// has no name in the namespace yet. A root of the namespace has them all; these
// are the ones that dbuild itself uses.
var capabilities = []uintptr{
	unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_KILL,
	unix.CAP_SETGID, unix.CAP_SETUID, unix.CAP_SETPCAP, unix.CAP_SYS_ADMIN, unix.CAP_SYS_CHROOT, unix.CAP_SYS_PTRACE,
	unix.CAP_SETFCAP,
}

// controlFD is the copy's end of the connection to the first process, over
// which it gets leave to go on and tells which signals it got by itself.
const controlFD = 3

// relayWait is how long the copy has to say that a signal reached it too, as
// those of a terminal do.
const relayWait = 100 * time.Millisecond

// Enter runs this program's command line once more as root of a user namespace
// and returns its exit code. The error says why there is no such namespace,
// and how to get one.
func Enter() (code int, err error) { return enter(os.Args, os.Stdin, os.Stdout) }

// Output runs this program with other arguments, the program's name first, and
// returns what it wrote to standard output.
func Output(args []string) ([]byte, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	defer null.Close()
	type result struct {
		text []byte
		err  error
	}
	read := make(chan result, 1)
	go func() {
		text, err := io.ReadAll(io.LimitReader(r, 1<<20))
		read <- result{text, err}
	}()
	code, err := enter(args, null, w)
	err = errors.Join(err, w.Close())
	out := <-read
	if err == nil && code != 0 {
		err = fault.New(fault.Engine, "%q in a user namespace ended with code %d", args, code)
	}
	return out.text, errors.Join(err, out.err)
}

func enter(args []string, stdin, stdout *os.File) (code int, err error) {
	n, err := realHost.namespace(os.Getuid(), os.Getgid())
	if err != nil {
		return 0, err
	}
	tools, err := realHost.tools()
	if err != nil {
		return 0, err
	}
	// The kernel kills the copy when the thread that started it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	child, control, err := start(n, args, stdin, stdout)
	if err != nil {
		return 0, realHost.explain(err)
	}
	defer control.Close()
	if err = writeMaps(child.Pid, n, tools); err == nil {
		_, err = control.Write([]byte{'g'})
	}
	if err != nil {
		_ = child.Kill()
		_, _ = child.Wait()
		return 0, realHost.explain(err)
	}
	return wait(child, control, signals)
}

// start starts the copy, which waits for its map.
func start(n Namespace, args []string, stdin, stdout *os.File) (child *os.Process, control *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make connection: %w", err)
	}
	control, theirs := os.NewFile(uintptr(pair[0]), "control"), os.NewFile(uintptr(pair[1]), "control")
	defer theirs.Close()
	where, err := n.encode()
	if err == nil {
		child, err = os.StartProcess("/proc/self/exe", args, &os.ProcAttr{
			Env:   append(os.Environ(), where),
			Files: []*os.File{stdin, stdout, os.Stderr, theirs},
			Sys: &syscall.SysProcAttr{
				Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
				AmbientCaps: capabilities,
				Pdeathsig:   syscall.SIGKILL,
			},
		})
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("make user namespace: %w", err), control.Close())
	}
	return child, control, nil
}

// tools are the programs that write maps.
type tools struct{ users, groups string }

func (h host) tools() (t tools, err error) {
	for name, path := range map[string]*string{"newuidmap": &t.users, "newgidmap": &t.groups} {
		if *path, err = h.look(name); err != nil {
			return t, fault.WithHint(fault.New(fault.Engine, "find %s: %w", name, err), "sudo apt install uidmap")
		}
	}
	return t, nil
}

// writeMaps runs both programs at once.
func writeMaps(pid int, n Namespace, t tools) error {
	run := func(program string, args []string) error {
		cmd := exec.Command(program, append([]string{strconv.Itoa(pid)}, args...)...) //nolint:noctx // answers at once
		if out, err := cmd.CombinedOutput(); err != nil {
			return &mapError{program, string(out), err}
		}
		return nil
	}
	groups := make(chan error, 1)
	go func() { groups <- run(t.groups, mapArgs(n.GID, n.Groups)) }()
	return errors.Join(run(t.users, mapArgs(n.UID, n.Users)), <-groups)
}

// wait hands on signals until the copy has ended.
func wait(child *os.Process, control *os.File, signals <-chan os.Signal) (int, error) {
	had := make(chan syscall.Signal, 16)
	go func() {
		var b [1]byte
		for {
			if _, err := control.Read(b[:]); err != nil {
				return
			}
			had <- syscall.Signal(b[0])
		}
	}()
	ended := make(chan struct{})
	go relay(child, signals, had, ended)
	state, err := child.Wait()
	close(ended)
	if err != nil {
		return 0, fault.Wrap(fault.Engine, err)
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return state.ExitCode(), nil
}

// relay hands a signal on unless the copy got it as well: a second one would
// mean that the user has lost patience. After its first signal the copy does
// not tell any more; the next one kills it.
func relay(child *os.Process, signals <-chan os.Signal, had <-chan syscall.Signal, ended <-chan struct{}) {
	for {
		var s os.Signal
		select {
		case <-ended:
			return
		case s = <-signals:
		}
		select {
		case <-ended:
			return
		case <-had:
		case <-time.After(relayWait):
			_ = child.Signal(s) // fails only when it has ended
		}
	}
}
