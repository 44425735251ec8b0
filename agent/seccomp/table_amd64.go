package seccomp

import "golang.org/x/sys/unix"

func native() table {
	t := common(unix.AUDIT_ARCH_X86_64).
		deny(unix.SYS_KEXEC_FILE_LOAD, unix.SYS_IOPL, unix.SYS_IOPERM, unix.SYS_CREATE_MODULE, unix.SYS_QUERY_MODULE,
			unix.SYS_GET_KERNEL_SYMS, unix.SYS_USELIB, unix.SYS__SYSCTL).
		swallow(unix.SYS_SYNC_FILE_RANGE)
	t.x32 = true
	return t
}
