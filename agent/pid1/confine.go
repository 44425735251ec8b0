package pid1

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"dbuild/agent/wire"
)

// command is a program to start.
type command struct {
	path      string
	argv, env []string
	dir       string
	uid, gid  int
	umask     int
	files     []uintptr // descriptors 0, 1, 2
	tty       bool      // descriptor 0 becomes the controlling terminal
}

// process is a program that runs.
type process struct {
	pid  int
	exit <-chan syscall.WaitStatus
}

// start starts c from a thread that has already given up what the step must
// not have. Privileges belong to threads, and a child gets those of the thread
// that forks it; the thread is not used for anything else and ends.
func (a *agent) start(c command) (process, error) {
	type outcome struct {
		process
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := a.giveUp(c.umask); err != nil {
			done <- outcome{err: err}
			return
		}
		pid, exit, err := a.procs.start(c.path, c.argv, c.attributes())
		done <- outcome{process{pid, exit}, err}
	}()
	o := <-done
	return o.process, o.err
}

func (c command) attributes() *syscall.ProcAttr {
	return &syscall.ProcAttr{
		Dir:   c.dir,
		Env:   c.env,
		Files: c.files,
		Sys: &syscall.SysProcAttr{
			Setsid:     true,
			Setctty:    c.tty,
			Ctty:       0,
			Credential: &syscall.Credential{Uid: uint32(c.uid), Gid: uint32(c.gid)},
		},
	}
}

// perLinux32 is PER_LINUX32 of personality(2).
const perLinux32 = 8

// giveUp confines the calling thread.
func (a *agent) giveUp(umask int) error {
	// Without CLONE_FS the umask is this thread's own. A cgroup namespace hides
	// where in the host's hierarchy the container is; not every host allows it.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("confine step: %w", err)
	}
	unix.Umask(umask)
	if a.root != wire.RootReady {
		_ = unix.Unshare(unix.CLONE_NEWCGROUP)
	}
	if a.confine.Compat != "" { // so that uname(2) names the 32-bit machine
		if _, _, errno := unix.RawSyscall(unix.SYS_PERSONALITY, perLinux32, 0, 0); errno != 0 {
			return fmt.Errorf("set personality: %w", errno)
		}
	}
	if a.confine.NoNewPrivs {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("set no_new_privs: %w", err)
		}
	}
	if err := a.loadFilter(); err != nil {
		return err
	}
	return dropCapabilities(a.confine.Caps)
}

func (a *agent) loadFilter() error {
	if !a.filter.Asks() {
		return a.filter.Load()
	}
	listener, err := a.filter.LoadListening()
	if err == nil {
		go listener.Serve()
	}
	return err
}

// dropCapabilities reduces the bounding set to keep and the thread's own sets
// to keep and what changing the user takes. Leaving user 0, and executing a
// program without it, then drop those two as well.
func dropCapabilities(keep uint64) error {
	for c := range uintptr(64) {
		if keep&(1<<c) != 0 {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			break // beyond the last one that the kernel knows
		}
		if err != nil {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	own := keep | 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{
		{Effective: uint32(own), Permitted: uint32(own)},
		{Effective: uint32(own >> 32), Permitted: uint32(own >> 32)},
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}
