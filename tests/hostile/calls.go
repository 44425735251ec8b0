package main

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// tellCalls makes each of the 35 calls with arguments that make no sense:
// EPERM and ENOSYS count as blocked, any other answer means that the kernel
// looked at them.
func tellCalls(stage string) error {
	runtime.LockOSThread()
	for _, c := range append(calls, archCalls...) {
		junk := ^uintptr(0)
		_, _, errno := unix.RawSyscall6(c.number, junk, junk, junk, junk, junk, junk)
		verdict := "reached"
		if errno == unix.EPERM || errno == unix.ENOSYS {
			verdict = "blocked"
		}
		fmt.Printf("CALL %s %s %s %s %d\n", params["token"], stage, c.name, verdict, int(errno))
	}
	return nil
}

type systemCall struct {
	name   string
	number uintptr
}

// calls are those of the probe that every architecture has.
var calls = []systemCall{
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
	{"fanotify_init", unix.SYS_FANOTIFY_INIT}, {"clone3", unix.SYS_CLONE3},
	{"ptrace", unix.SYS_PTRACE}, {"process_vm_readv", unix.SYS_PROCESS_VM_READV},
}
