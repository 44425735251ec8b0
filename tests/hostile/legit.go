package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What test suites of real packages do.
func init() {
	works("C40.terminal", "cbi", func() error {
		master, slave, err := openTerminal()
		if err != nil {
			return err
		}
		defer master.Close()
		defer slave.Close()
		cmd := exec.Command("/bin/sh", "-c", "test -t 0 && echo on a terminal >/dev/tty")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		if err := cmd.Run(); err != nil {
			return err
		}
		b := make([]byte, 100)
		n, err := master.Read(b)
		if !strings.Contains(string(b[:n]), "on a terminal") {
			return fmt.Errorf("%q: %w", b[:n], err)
		}
		return nil
	})
	works("C40.script", "b", func() error { return shell("script -qec 'tty && stty size' /dev/null </dev/null | grep -q /dev/pts/") })
	works("C40.ptrace-own-child", "cbi", traceChild)
	works("C40.core-limit", "b", func() error { return shell("ulimit -c 0 && ulimit -s 16384 && ulimit -S -n 4096") })
	works("C40.many-descriptors", "cbi", func() error {
		var l unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
			return err
		}
		fmt.Println("limits", l.Cur, l.Max)
		host, err := strconv.ParseUint(params["nofile"], 10, 64)
		if err != nil {
			return err
		}
		wanted := min(host, 65_700) // no container has more than the host allows dbuild
		if l.Max < wanted {
			return fmt.Errorf("the hard limit is %d, the host's %d", l.Max, host)
		}
		wanted -= 100
		l.Cur = l.Max
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
			return err
		}
		for range wanted {
			if _, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
				return err
			}
		}
		return nil
	})
	works("C40.shared-memory", "cbi", func() error {
		id, err := unix.SysvShmGet(unix.IPC_PRIVATE, 1<<20, unix.IPC_CREAT|0o600)
		if err != nil {
			return err
		}
		b, err := unix.SysvShmAttach(id, 0, 0)
		if err != nil {
			return err
		}
		b[0] = 1
		if err := errors.Join(unix.SysvShmDetach(b), os.WriteFile("/dev/shm/posix", make([]byte, 8<<20), 0o600), os.Remove("/dev/shm/posix")); err != nil {
			return err
		}
		_, err = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
		return err
	})
	works("C40.file-kinds", "cbi", fileKinds)
	works("C40.long-paths", "cbi", func() error {
		name := strings.Repeat("n", 255)
		dir, err := os.MkdirTemp("", "long")
		for depth := 0; err == nil && depth < 15; depth++ {
			dir = filepath.Join(dir, name)
			err = os.Mkdir(dir, 0o755)
		}
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, strings.Repeat("f", 100)), nil, 0o644)
	})
	works("C40.temporary-places", "cbi", func() error {
		var all error
		for _, dir := range []string{"/tmp", "/var/tmp", "/dev/shm", "/run/lock"} {
			var st unix.Stat_t
			all = errors.Join(all, os.WriteFile(dir+"/written", nil, 0o600), os.Remove(dir+"/written"), unix.Stat(dir, &st))
			if st.Mode&0o7777 != 0o1777 {
				all = errors.Join(all, fmt.Errorf("%s has mode %o", dir, st.Mode))
			}
		}
		return all
	})
	works("C40.program-in-tree", "cb", func() error {
		file, err := filepath.Abs("built-program")
		if err == nil {
			err = copyFile(program, file)
		}
		if err != nil {
			return err
		}
		return errors.Join(exec.Command(file, params["file"], "one", "nothing").Run(), os.Remove(file))
	})
	works("C40.unix-server", "cbi", func() error {
		l, err := net.Listen("unix", filepath.Join(os.TempDir(), "server-"+stageName()))
		if err != nil {
			return err
		}
		defer l.Close()
		go func() {
			if c, err := l.Accept(); err == nil {
				c.Close()
			}
		}()
		c, err := net.Dial("unix", l.Addr().String())
		if err == nil {
			err = c.Close()
		}
		return err
	})
	works("C40.jobserver", "b", func() error {
		text := "all: sub\nsub:\n\t+$(MAKE) -f Jobs several\nseveral: a b c d\na b c d:\n\t@sleep 0.2; echo made $@\n"
		if err := os.WriteFile("Jobs", []byte(text), 0o644); err != nil {
			return err
		}
		start := time.Now()
		out, err := exec.Command("env", "-u", "MAKEFLAGS", "make", "-j4", "-f", "Jobs").CombinedOutput()
		if took := time.Since(start); err == nil && (strings.Contains(string(out), "warning") || strings.Count(string(out), "made ") != 4 || took > 700*time.Millisecond) {
			err = fmt.Errorf("took %s: %s", took, out)
		}
		return errors.Join(err, os.Remove("Jobs"))
	})
	works("C40.fakeroot", "b", func() error {
		return shell("fakeroot -- sh -c 'touch owned && chown 0:42 owned && mknod null c 1 3 && test $(stat -c %u:%g owned) = 0:42 && rm owned null'")
	})
	works("C40.home-is-missing", "cb", func() error {
		if _, err := os.Stat(os.Getenv("HOME")); err == nil {
			return errors.New("HOME exists")
		}
		return nil
	})
	works("C40.machine", "i", func() error { return shell(`test "$(uname -m)" = i686`) })
}

func shell(script string) error {
	out, err := exec.Command("/bin/sh", "-ec", script).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// traceChild is what a debugger does: start a child stopped, read its memory
// and registers, let it run.
func traceChild() error {
	runtime.LockOSThread()
	cmd := exec.Command("/bin/true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	pid := cmd.Process.Pid
	if _, err := unix.Wait4(pid, nil, 0, nil); err != nil {
		return err
	}
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(pid, &regs); err != nil {
		return err
	}
	if err := look(fmt.Sprintf("/proc/%d/mem", pid)); err != nil {
		return err
	}
	if err := unix.PtraceCont(pid, 0); err != nil {
		return err
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, 0, nil); err != nil || !status.Exited() {
		return fmt.Errorf("%v: %w", status, err)
	}
	return nil
}

// fileKinds makes everything but devices.
func fileKinds() error {
	dir, err := os.MkdirTemp(".", "kinds")
	if err != nil {
		return err
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	return errors.Join(err,
		os.WriteFile(in("file"), []byte("x"), 0o644), os.Link(in("file"), in("hard-link")), os.Symlink("/nowhere", in("symlink")),
		unix.Mkfifo(in("fifo"), 0o644), unix.Bind(fd, &unix.SockaddrUnix{Name: in("socket")}), unix.Close(fd),
		os.Mkdir(in("dir"), 0o755), unix.Chmod(in("dir"), 0o2775), unix.Chmod(in("file"), 0o6755), os.Truncate(in("file"), 1<<33),
		unix.Setxattr(in("file"), "user.test", []byte("x"), 0), unix.Chmod(in("dir"), 0o000), unix.Chmod(in("dir"), 0o700),
		os.WriteFile(in("caf\xe9 \n\t\\"), nil, 0o644), os.RemoveAll(dir))
}
