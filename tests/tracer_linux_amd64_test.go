package tests

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A tracer runs a program and disturbs it at one of its state-changing system
// calls. strace can do that too (-e inject=…:when=N), but counts for each thread
// by itself, and the runtime of Go moves its work from thread to thread: only
// one count for the whole process reaches every call.
type tracer struct {
	threads bool                         // only the process's own threads, not its children
	skip    func(call, path string) bool // calls that do not count; may be nil
	dir     string                       // only calls on files below it count
	mode    faultMode
	at      int // the call to disturb, from 1; 0: none

	calls   []string // what was called, in order
	pid     int
	injects map[int]bool // threads whose call was prevented
	known   map[int]bool // threads that have started
}

// faultMode is what happens at a call.
type faultMode string

const (
	faultKill faultMode = "killed"    // SIGKILL before the call is made
	faultOnce faultMode = "ENOSPC"    // the call fails
	faultFull faultMode = "full disk" // it and all later ones that need space fail
)

// traced is how a program ended.
type traced struct {
	exit   int // -1 if it was killed
	hit    bool
	output string
}

// needSpace are the calls that a full disk can fail; the others remove or set
// attributes.
var needSpace = map[string]bool{
	"open": true, "write": true, "pwrite64": true, "mkdirat": true, "linkat": true, "symlinkat": true,
	"renameat": true, "ftruncate": true, "copy_file_range": true, "fsync": true,
}

// stateCalls are the system calls that change a file system, under one name for
// each family, with the argument that says where: a descriptor, or a path.
var stateCalls = map[uint64]struct {
	name string
	fd   bool
	arg  int
}{
	unix.SYS_WRITE: {"write", true, 0}, unix.SYS_WRITEV: {"write", true, 0},
	unix.SYS_PWRITE64: {"pwrite64", true, 0}, unix.SYS_PWRITEV: {"pwrite64", true, 0},
	unix.SYS_SENDFILE: {"copy_file_range", true, 0}, unix.SYS_COPY_FILE_RANGE: {"copy_file_range", true, 2},
	unix.SYS_FSYNC: {"fsync", true, 0}, unix.SYS_FDATASYNC: {"fsync", true, 0},
	unix.SYS_FTRUNCATE: {"ftruncate", true, 0}, unix.SYS_FALLOCATE: {"ftruncate", true, 0},
	unix.SYS_FCHMOD: {"fchmod", true, 0}, unix.SYS_FCHOWN: {"fchown", true, 0},
	unix.SYS_OPENAT: {"open", false, 1}, unix.SYS_OPEN: {"open", false, 0},
	unix.SYS_MKDIRAT: {"mkdirat", false, 1}, unix.SYS_MKDIR: {"mkdirat", false, 0},
	unix.SYS_LINKAT: {"linkat", false, 3}, unix.SYS_LINK: {"linkat", false, 1},
	unix.SYS_SYMLINKAT: {"symlinkat", false, 2}, unix.SYS_SYMLINK: {"symlinkat", false, 1},
	unix.SYS_RENAMEAT: {"renameat", false, 3}, unix.SYS_RENAMEAT2: {"renameat", false, 3}, unix.SYS_RENAME: {"renameat", false, 1},
	unix.SYS_UNLINKAT: {"unlinkat", false, 1}, unix.SYS_UNLINK: {"unlinkat", false, 0}, unix.SYS_RMDIR: {"unlinkat", false, 0},
	unix.SYS_FCHMODAT: {"fchmod", false, 1}, unix.SYS_CHMOD: {"fchmod", false, 0},
	unix.SYS_UTIMENSAT: {"utimensat", false, 1}, unix.SYS_TRUNCATE: {"ftruncate", false, 0},
}

// syscallInfo is struct ptrace_syscall_info of ptrace(2), for an entry.
type syscallInfo struct {
	op   uint8
	_    [3]uint8
	_    uint32 // arch
	_    uint64 // instruction pointer
	_    uint64 // stack pointer
	nr   uint64
	args [6]uint64
	_    [2]uint64
}

const (
	ptraceGetSyscallInfo = 0x420e
	syscallEntry         = 1
	syscallExit          = 2
)

// run runs a program to its end.
func (tr *tracer) run(t testing.TB, argv, env []string) traced {
	t.Helper()
	out, err := os.CreateTemp(t.TempDir(), "output")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	done := make(chan error, 1)
	var result traced
	go func() { // all of ptrace belongs to one thread
		runtime.LockOSThread()
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Env, cmd.Stdout, cmd.Stderr = env, out, out
		cmd.SysProcAttr = &unix.SysProcAttr{Ptrace: true, Setpgid: true}
		err := cmd.Start()
		if err == nil {
			tr.pid = cmd.Process.Pid
			err = errors.Join(cmd.Process.Release(), tr.trace(&result))
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("trace: %v", err)
	}
	b, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	result.output = string(b)
	return result
}

func (tr *tracer) trace(result *traced) error {
	tr.calls, tr.injects, tr.known = nil, map[int]bool{}, map[int]bool{tr.pid: true}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(tr.pid, &ws, unix.WALL, nil); err != nil {
		return err
	}
	options := unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_EXITKILL
	if tr.threads {
		options &^= unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK
	}
	if err := unix.PtraceSetOptions(tr.pid, options); err != nil {
		return err
	}
	tid, signal := tr.pid, 0
	for {
		if err := unix.PtraceSyscall(tid, signal); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
		var err error
		// Its group alone: other tests of this process start children, too.
		if tid, err = unix.Wait4(-tr.pid, &ws, unix.WALL, nil); errors.Is(err, unix.EINTR) {
			continue
		} else if err != nil {
			return err
		}
		signal = 0
		switch {
		case ws.Exited() || ws.Signaled():
			if tid == tr.pid {
				result.exit = ws.ExitStatus()
				return nil
			}
		case ws.StopSignal() == unix.SIGTRAP|0x80:
			hit, err := tr.stop(tid)
			if err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
			result.hit = result.hit || hit
		case ws.StopSignal() == unix.SIGTRAP && ws.TrapCause() > 0: // a new thread
		case ws.StopSignal() == unix.SIGSTOP && !tr.known[tid]: // its first stop
			tr.known[tid] = true
		case ws.Stopped():
			signal = int(ws.StopSignal())
		}
	}
}

// stop is called at the begin and the end of each system call.
func (tr *tracer) stop(tid int) (hit bool, err error) {
	var info syscallInfo
	if _, _, e := unix.Syscall6(unix.SYS_PTRACE, ptraceGetSyscallInfo, uintptr(tid), unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0); e != 0 {
		return false, e
	}
	if info.op == syscallExit {
		if tr.injects[tid] {
			delete(tr.injects, tid)
			return false, setRegs(tid, func(r *unix.PtraceRegs) { r.Rax = ^uint64(unix.ENOSPC) + 1 })
		}
		return false, nil
	}
	name, path, ok := tr.stateCall(tid, info)
	if info.op != syscallEntry || !ok {
		return false, nil
	}
	tr.calls = append(tr.calls, name+" "+strings.TrimPrefix(path, tr.dir))
	n := len(tr.calls)
	switch {
	case tr.at == 0 || n < tr.at, n > tr.at && tr.mode != faultFull:
		return false, nil
	case tr.mode == faultKill:
		return true, unix.Kill(-tr.pid, unix.SIGKILL)
	case tr.mode == faultFull && !needSpace[name]:
		return false, nil
	}
	tr.injects[tid] = true
	return true, setRegs(tid, func(r *unix.PtraceRegs) { r.Orig_rax = ^uint64(0) })
}

func setRegs(tid int, fn func(*unix.PtraceRegs)) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &regs); err != nil {
		return err
	}
	fn(&regs)
	return unix.PtraceSetRegs(tid, &regs)
}

// stateCall tells whether a call changes a file below the directory, and which.
func (tr *tracer) stateCall(tid int, info syscallInfo) (name, path string, ok bool) {
	c, ok := stateCalls[info.nr]
	if !ok {
		return "", "", false
	}
	if c.fd {
		path, _ = os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tid, int32(info.args[c.arg])))
	} else if path = peekString(tid, uintptr(info.args[c.arg])); !strings.HasPrefix(path, "/") && c.arg > 0 && info.args[c.arg-1] < 1<<20 {
		dir, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tid, int32(info.args[c.arg-1])))
		path = dir + "/" + path
	}
	if c.name == "open" {
		flags := info.args[c.arg+1]
		if _, err := os.Lstat(path); flags&unix.O_CREAT == 0 || err == nil && flags&(unix.O_EXCL|unix.O_TRUNC) == 0 {
			return "", "", false // it makes nothing
		}
	}
	if tr.skip != nil && tr.skip(c.name, path) {
		return "", "", false
	}
	return c.name, path, strings.HasPrefix(path, tr.dir+"/") || path == tr.dir
}

// peekString reads a string from the memory of a stopped thread.
func peekString(tid int, address uintptr) string {
	var text []byte
	for len(text) < unix.PathMax {
		var word [8]byte
		if _, err := unix.PtracePeekData(tid, address+uintptr(len(text)), word[:]); err != nil {
			return ""
		}
		if i := bytes.IndexByte(word[:], 0); i >= 0 {
			return string(append(text, word[:i]...))
		}
		text = binary.NativeEndian.AppendUint64(text, binary.NativeEndian.Uint64(word[:]))
	}
	return string(text)
}
