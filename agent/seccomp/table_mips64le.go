package seccomp

import "golang.org/x/sys/unix"

func native() table {
	return common(unix.AUDIT_ARCH_MIPSEL64).
		deny(unix.SYS_CREATE_MODULE, unix.SYS_QUERY_MODULE, unix.SYS_GET_KERNEL_SYMS, unix.SYS__SYSCTL).
		swallow(unix.SYS_SYNC_FILE_RANGE)
}
