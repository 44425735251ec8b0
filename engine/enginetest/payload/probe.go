package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func init() {
	add("probe", probe)          // which of the calls that a build has no business with reach the kernel
	add("net", network)          // interfaces and whether lo works
	add("dial", dial)            // dial NETWORK ADDRESS
	add("socket", socket)        // socket FAMILY…: by number
	add("identity", identity)    // ids, groups, host name
	add("escape", escape)        // ways into the first process, and out by descriptors
	add("swallowed", swallowed)  // whether fsync does nothing
	add("exec", execSelf)        // exec PATH ARGUMENT…: run another program
	add("clone-user", cloneUser) // a user namespace through clone(2)
	add("chroot", chroot)        // the classic way out of a chroot
}

// probe calls each with arguments that make no sense: EPERM and ENOSYS count
// as blocked, any other error means that the kernel looked at them.
func probe([]string) error {
	// A call that ends this thread's privileges must not end the tool's.
	runtime.LockOSThread()
	for _, c := range probes {
		junk := ^uintptr(0)
		_, _, errno := unix.RawSyscall6(c.number, junk, junk, junk, junk, junk, junk)
		verdict := "reached"
		if errno == unix.EPERM || errno == unix.ENOSYS {
			verdict = "blocked"
		}
		fmt.Println(c.name, verdict, int(errno))
	}
	return nil
}

var probes = []struct {
	name   string
	number uintptr
}{
	{"keyctl", unix.SYS_KEYCTL}, {"add_key", unix.SYS_ADD_KEY}, {"request_key", unix.SYS_REQUEST_KEY},
	{"unshare", unix.SYS_UNSHARE}, {"setns", unix.SYS_SETNS}, {"mount", unix.SYS_MOUNT}, {"umount2", unix.SYS_UMOUNT2},
	{"pivot_root", unix.SYS_PIVOT_ROOT}, {"fsopen", unix.SYS_FSOPEN}, {"open_tree", unix.SYS_OPEN_TREE},
	{"move_mount", unix.SYS_MOVE_MOUNT}, {"mount_setattr", unix.SYS_MOUNT_SETATTR}, {"init_module", unix.SYS_INIT_MODULE},
	{"finit_module", unix.SYS_FINIT_MODULE}, {"delete_module", unix.SYS_DELETE_MODULE}, {"kexec_load", unix.SYS_KEXEC_LOAD},
	{"bpf", unix.SYS_BPF}, {"perf_event_open", unix.SYS_PERF_EVENT_OPEN}, {"userfaultfd", unix.SYS_USERFAULTFD},
	{"io_uring_setup", unix.SYS_IO_URING_SETUP}, {"open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT},
	{"swapon", unix.SYS_SWAPON}, {"sethostname", unix.SYS_SETHOSTNAME}, {"settimeofday", unix.SYS_SETTIMEOFDAY},
	{"clock_settime", unix.SYS_CLOCK_SETTIME}, {"syslog", unix.SYS_SYSLOG}, {"acct", unix.SYS_ACCT},
	{"quotactl", unix.SYS_QUOTACTL}, {"kcmp", unix.SYS_KCMP}, {"pidfd_getfd", unix.SYS_PIDFD_GETFD},
	{"fanotify_init", unix.SYS_FANOTIFY_INIT}, {"clone3", unix.SYS_CLONE3}, {"reboot", unix.SYS_REBOOT},
	{"ptrace", unix.SYS_PTRACE}, {"process_vm_readv", unix.SYS_PROCESS_VM_READV},
	// The x32 table of amd64; nothing elsewhere.
	{"x32", 1<<30 | unix.SYS_GETPID},
}

func network([]string) error {
	all, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, i := range all {
		addresses, _ := i.Addrs()
		fmt.Println(i.Name, i.Flags&net.FlagUp != 0, addresses)
	}
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			return err
		}
		fmt.Println("connected", strings.TrimSuffix(address, ":0"))
		if err := errors.Join(c.Close(), l.Close()); err != nil {
			return err
		}
	}
	hosts, err := net.LookupHost("localhost")
	fmt.Println("localhost", hosts)
	return err
}

func dial(args []string) error {
	start := time.Now()
	c, err := net.DialTimeout(args[0], args[1], 5*time.Second)
	if err != nil {
		fmt.Println("failed", time.Since(start) < time.Second)
		return nil
	}
	fmt.Println("connected")
	return c.Close()
}

func socket(args []string) error {
	for _, a := range args {
		var family int
		if _, err := fmt.Sscan(a, &family); err != nil {
			return err
		}
		fd, err := unix.Socket(family, unix.SOCK_SEQPACKET, 0)
		if err == nil {
			unix.Close(fd)
		}
		fmt.Println(family, err)
	}
	return nil
}

func identity([]string) error {
	groups, err := os.Getgroups()
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	fmt.Println(os.Getuid(), os.Geteuid(), os.Getgid(), groups, host)
	return err
}

// escape prints what succeeded; nothing should.
func escape([]string) error {
	for _, name := range []string{"exe", "root", "cwd"} {
		if target, err := os.Readlink("/proc/1/" + name); err == nil {
			fmt.Println("read link", name, target)
		}
	}
	for _, name := range []string{"environ", "mem", "maps", "root/etc", "cwd/etc"} {
		tryRead("/proc/1/" + name)
	}
	// The numbers of its descriptors may be seen, what they are may not.
	for fd := range 64 {
		name := fmt.Sprintf("/proc/1/fd/%d", fd)
		if target, err := os.Readlink(name); err == nil {
			fmt.Println("read link", name, target)
		}
		tryRead(name)
	}
	if err := syscall.PtraceAttach(1); err == nil {
		fmt.Println("attached to process 1")
	}
	for fd := 3; fd < 1024; fd++ {
		if _, err := os.Stat(fmt.Sprintf("/proc/self/fd/%d/..", fd)); err == nil {
			fmt.Println("directory through descriptor", fd)
		}
	}
	return nil
}

func tryRead(name string) {
	f, err := os.Open(name)
	if err != nil {
		return
	}
	defer f.Close()
	fmt.Println("opened", name)
}

// swallowed finds out by an fsync of nothing.
func swallowed([]string) error {
	fmt.Println(unix.Fsync(-1) == nil)
	return nil
}

func execSelf(args []string) error { return unix.Exec(args[0], args, os.Environ()) }

func cloneUser([]string) error {
	attr := &os.ProcAttr{Sys: &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}}
	p, err := os.StartProcess("/proc/self/exe", []string{"tool", "true"}, attr)
	if err != nil {
		fmt.Println("refused")
		return nil
	}
	_, err = p.Wait()
	fmt.Println("allowed")
	return err
}

func chroot([]string) error {
	err := os.MkdirAll("/home/jail", 0o755)
	if err == nil {
		err = unix.Chroot("/home/jail")
	}
	if err != nil {
		return err
	}
	for range 100 {
		if err := unix.Chdir(".."); err != nil {
			return err
		}
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	_, err = os.Stat("/bin/tool")
	fmt.Println("own root", err == nil)
	return nil
}
