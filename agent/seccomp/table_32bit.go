package seccomp

import "golang.org/x/sys/unix"

// The 32-bit tables hold plain numbers, since they are also needed on the
// 64-bit machine that runs such programs. The C library of i386 makes sockets
// with socketcall(2), whose arguments lie in memory, where a filter cannot look:
// see [Listener].

var table386 = table{
	audit: unix.AUDIT_ARCH_I386,
	denied: []uint32{
		21,  // mount
		22,  // umount
		25,  // stime
		51,  // acct
		52,  // umount2
		74,  // sethostname
		79,  // settimeofday
		86,  // uselib
		87,  // swapon
		88,  // reboot
		101, // ioperm
		103, // syslog
		110, // iopl
		111, // vhangup
		113, // vm86old
		115, // swapoff
		121, // setdomainname
		124, // adjtimex
		127, // create_module
		128, // init_module
		129, // delete_module
		130, // get_kernel_syms
		131, // quotactl
		149, // _sysctl
		166, // vm86
		167, // query_module
		169, // nfsservctl
		217, // pivot_root
		253, // lookup_dcookie
		264, // clock_settime
		283, // kexec_load
		286, // add_key
		287, // request_key
		288, // keyctl
		310, // unshare
		336, // perf_event_open
		338, // fanotify_init
		342, // open_by_handle_at
		343, // clock_adjtime
		346, // setns
		349, // kcmp
		350, // finit_module
		357, // bpf
		374, // userfaultfd
		404, // clock_settime64
		405, // clock_adjtime64
		443, // quotactl_fd
	},
	absent: absent32,
	syncs: []uint32{
		36,  // sync
		118, // fsync
		144, // msync
		148, // fdatasync
		314, // sync_file_range
		344, // syncfs
	},
	clone:      120,
	socket:     359,
	ioctl:      54,
	socketcall: 102,
}

var tableARM = table{
	audit: unix.AUDIT_ARCH_ARM,
	denied: []uint32{
		21,  // mount
		51,  // acct
		52,  // umount2
		74,  // sethostname
		79,  // settimeofday
		86,  // uselib
		87,  // swapon
		88,  // reboot
		103, // syslog
		111, // vhangup
		115, // swapoff
		121, // setdomainname
		124, // adjtimex
		128, // init_module
		129, // delete_module
		131, // quotactl
		149, // _sysctl
		169, // nfsservctl
		218, // pivot_root
		249, // lookup_dcookie
		262, // clock_settime
		309, // add_key
		310, // request_key
		311, // keyctl
		337, // unshare
		347, // kexec_load
		364, // perf_event_open
		367, // fanotify_init
		371, // open_by_handle_at
		372, // clock_adjtime
		375, // setns
		378, // kcmp
		379, // finit_module
		386, // bpf
		388, // userfaultfd
		401, // kexec_file_load
		404, // clock_settime64
		405, // clock_adjtime64
		443, // quotactl_fd
	},
	absent: absent32,
	syncs: []uint32{
		36,  // sync
		118, // fsync
		144, // msync
		148, // fdatasync
		341, // arm_sync_file_range
		373, // syncfs
	},
	clone:  120,
	socket: 281,
	ioctl:  54,
}

// absent32 holds calls that are new enough to have one number everywhere.
var absent32 = []uint32{
	425, // io_uring_setup
	426, // io_uring_enter
	427, // io_uring_register
	428, // open_tree
	429, // move_mount
	430, // fsopen
	431, // fsconfig
	432, // fsmount
	433, // fspick
	435, // clone3
	438, // pidfd_getfd
	442, // mount_setattr
	467, // open_tree_attr
}
