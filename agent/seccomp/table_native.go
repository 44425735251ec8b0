//go:build !386 && !arm

package seccomp

import "golang.org/x/sys/unix"

// common returns the table that all 64-bit architectures share; audit and what
// else differs is filled in by the architecture's own file.
func common(audit uint32) table {
	return table{
		audit: audit,
		denied: []uint32{
			unix.SYS_ACCT, unix.SYS_ADD_KEY, unix.SYS_ADJTIMEX, unix.SYS_BPF, unix.SYS_CLOCK_ADJTIME, unix.SYS_CLOCK_SETTIME,
			unix.SYS_DELETE_MODULE, unix.SYS_FANOTIFY_INIT, unix.SYS_FINIT_MODULE, unix.SYS_INIT_MODULE, unix.SYS_KCMP,
			unix.SYS_KEXEC_LOAD, unix.SYS_KEYCTL, unix.SYS_LOOKUP_DCOOKIE, unix.SYS_MOUNT, unix.SYS_NFSSERVCTL,
			unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_PERF_EVENT_OPEN, unix.SYS_PIVOT_ROOT, unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD,
			unix.SYS_REBOOT, unix.SYS_REQUEST_KEY, unix.SYS_SETDOMAINNAME, unix.SYS_SETHOSTNAME, unix.SYS_SETNS,
			unix.SYS_SETTIMEOFDAY, unix.SYS_SWAPOFF, unix.SYS_SWAPON, unix.SYS_SYSLOG, unix.SYS_UMOUNT2, unix.SYS_UNSHARE,
			unix.SYS_USERFAULTFD, unix.SYS_VHANGUP,
		},
		absent: []uint32{
			unix.SYS_CLONE3, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSOPEN, unix.SYS_FSPICK, unix.SYS_IO_URING_ENTER,
			unix.SYS_IO_URING_REGISTER, unix.SYS_IO_URING_SETUP, unix.SYS_MOUNT_SETATTR, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE,
			unix.SYS_OPEN_TREE_ATTR, unix.SYS_PIDFD_GETFD,
		},
		syncs:  []uint32{unix.SYS_FDATASYNC, unix.SYS_FSYNC, unix.SYS_MSYNC, unix.SYS_SYNC, unix.SYS_SYNCFS},
		clone:  unix.SYS_CLONE,
		socket: unix.SYS_SOCKET,
		ioctl:  unix.SYS_IOCTL,
	}
}

func (t table) deny(numbers ...uint32) table {
	t.denied = append(t.denied, numbers...)
	return t
}

func (t table) swallow(numbers ...uint32) table {
	t.syncs = append(t.syncs, numbers...)
	return t
}
