package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() {
	attempt("C13.privileges", "cdb", "host", func() error {
		s := statusFields()
		if s["Seccomp"] != "2" || s["NoNewPrivs"] != "1" && os.Geteuid() != 0 || s["Groups"] != "" && os.Geteuid() != 0 {
			fmt.Println(s)
			return nil
		}
		for _, set := range []string{"CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"} {
			bits, err := strconv.ParseUint(s[set], 16, 64)
			if err != nil || os.Geteuid() != 0 && bits != 0 || bits&powerful != 0 {
				fmt.Println(set, s[set])
				return nil
			}
		}
		return fmt.Errorf("CapEff %s, NoNewPrivs %s", s["CapEff"], s["NoNewPrivs"])
	})
	attempt("C14.ptrace", "cdb", "host", func() error {
		runtime.LockOSThread()
		pid := victim()
		err := unix.PtraceAttach(pid)
		if err == nil {
			_, _ = unix.Wait4(pid, nil, 0, nil)
			_ = unix.PtraceDetach(pid)
		}
		return err
	})
	attempt("C14.read-memory", "cdb", "host", func() error {
		var b [8]byte
		local := []unix.Iovec{{Base: &b[0], Len: 8}}
		maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", victim()))
		if err != nil {
			return err
		}
		at, err := strconv.ParseUint(string(maps[:strings.IndexByte(string(maps), '-')]), 16, 64)
		if err != nil {
			return err
		}
		_, err = unix.ProcessVMReadv(victim(), local, []unix.RemoteIovec{{Base: uintptr(at), Len: 8}}, 0)
		return err
	})
	for _, name := range []string{"root/etc", "cwd", "exe", "environ", "mem", "maps", "fd/0", "map_files", "ns/mnt"} {
		attempt("C14.look-"+strings.ReplaceAll(name, "/", "-"), "cdb", "host", func() error { return look(fmt.Sprintf("/proc/%d/%s", victim(), name)) })
	}
	attempt("C14.host-process", "cdb", "host", func() error {
		all, err := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, name := range all {
			line, _ := os.ReadFile(name)
			if strings.Contains(string(line), params["marker"]) {
				fmt.Println(name)
				return nil
			}
		}
		return errors.Join(err, errors.New(strconv.Itoa(len(all))+" processes"))
	})
	attempt("C15.descriptors", "cdb", "host", strangeDescriptors)
	attempt("C19.sysv-memory", "cdb", "host", func() error {
		id, err := strconv.Atoi(params["shmid"])
		if err == nil {
			_, err = unix.SysvShmCtl(id, unix.IPC_STAT, &unix.SysvShmDesc{})
		}
		return err
	})
	attempt("C19.shared-memory-file", "cdb", "host", func() error { return look("/dev/shm/" + params["shm"]) })
	works("C19.leftovers", "cdb", leftovers)
	attempt("C20.signal-host-process", "cdb", "host", func() error {
		pid, err := strconv.Atoi(params["pid"])
		if line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); !strings.Contains(string(line), params["marker"]) {
			return errors.Join(err, errors.New("no such process"))
		}
		return errors.Join(err, unix.Kill(pid, unix.SIGCONT))
	})
	works("C20.signal-first-process", "cdb", func() error {
		if os.Getpid() == 1 {
			return errors.New("this is the first process")
		}
		for n := unix.Signal(1); n <= 64; n++ {
			_ = unix.Kill(1, n) // that it lives on is seen in what comes after
		}
		return nil
	})
	attempt("C23.push-input", "cdb", "host", func() error {
		master, slave, err := openTerminal()
		if err != nil {
			return err
		}
		defer master.Close()
		defer slave.Close()
		c := byte('x')
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, slave.Fd(), unix.TIOCSTI, uintptr(unsafe.Pointer(&c)))
		if errno != 0 {
			return errno
		}
		return nil
	})
	attempt("C23.console", "cdb", "host", func() error {
		all := []error{errRefused}
		for _, name := range []string{"/dev/console", "/dev/tty0", "/dev/tty1", "/dev/vcs", "/dev/ttyS0"} {
			f, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
			if err == nil {
				f.Close()
			}
			all = append(all, err)
		}
		return first(all...)
	})
	works("C23.no-terminal", "cdb", func() error {
		if f, err := os.OpenFile("/dev/tty", os.O_RDWR, 0); err == nil {
			f.Close()
			return errors.New("has a terminal")
		}
		return nil
	})
}

// powerful are capabilities that not even the root of a container has.
const powerful = 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_SYS_PTRACE | 1<<unix.CAP_SYS_MODULE | 1<<unix.CAP_SYS_RAWIO | 1<<unix.CAP_NET_ADMIN |
	1<<unix.CAP_NET_RAW | 1<<unix.CAP_SYS_BOOT | 1<<unix.CAP_SYS_TIME | 1<<unix.CAP_SYSLOG | 1<<unix.CAP_DAC_READ_SEARCH |
	1<<unix.CAP_BPF | 1<<unix.CAP_PERFMON | 1<<unix.CAP_MAC_ADMIN | 1<<unix.CAP_SYS_RESOURCE | 1<<unix.CAP_SYS_NICE

// victim is the process to look into: the container's first, or for the twin
// one that the test has started.
func victim() int {
	if params["twin"] != "" {
		pid, _ := strconv.Atoi(params["pid"])
		return pid
	}
	return 1
}

func look(name string) error {
	if target, err := os.Readlink(name); err == nil {
		fmt.Println(target)
		return nil
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		names, err := f.Readdirnames(1)
		fmt.Println(names)
		return err
	}
	return nil
}

func statusFields() map[string]string {
	fields := map[string]string{}
	data, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(line, ":")
		fields[key] = strings.TrimSpace(value)
	}
	return fields
}

// strangeDescriptors succeeds when a descriptor leads to anything but a pipe,
// the null device, a terminal of the container's own or this program's files.
func strangeDescriptors() error {
	for fd := range 1024 {
		target, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
		if err != nil {
			continue
		}
		kind, _, _ := strings.Cut(target, ":")
		if !slices.Contains([]string{"pipe", "anon_inode", "/dev/null"}, kind) && !strings.HasPrefix(target, "/dev/pts/") &&
			!(strings.HasPrefix(target, "/sys/fs/cgroup/") && fd > 2) { // this program's own runtime, where it sees a CPU limit
			fmt.Println(fd, target)
			return nil
		}
	}
	return errRefused
}

// leftovers leaves something in each place that should not outlive the
// container, and looks for what other stages have left.
func leftovers() error {
	for _, stage := range []string{"clean", "deps", "build"} {
		for _, dir := range []string{"/dev/shm", "/tmp", "/run/lock"} {
			if _, err := os.Stat(filepath.Join(dir, "left-"+stage)); err == nil && stage != stageName() {
				return fmt.Errorf("%s has what %s left", dir, stage)
			}
		}
	}
	const key = 0x6c656674
	if _, err := unix.SysvShmGet(key, 4096, 0); err == nil {
		return errors.New("shared memory of another stage is there")
	}
	if _, err := unix.SysvShmGet(key, 4096, unix.IPC_CREAT|0o666); err != nil {
		return err
	}
	for _, dir := range []string{"/dev/shm", "/tmp", "/run/lock"} {
		if err := os.WriteFile(filepath.Join(dir, "left-"+stageName()), nil, 0o666); err != nil {
			return err
		}
	}
	return nil
}

// stageName is the name of the stage that this program runs in.
func stageName() string { return os.Getenv("HOSTILE_STAGE") }

// openTerminal makes a pseudo terminal.
func openTerminal() (master, slave *os.File, err error) {
	if master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return nil, nil, err
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	return master, slave, err
}
