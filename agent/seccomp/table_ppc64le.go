package seccomp

import "golang.org/x/sys/unix"

func native() table {
	return common(unix.AUDIT_ARCH_PPC64LE).
		deny(unix.SYS_KEXEC_FILE_LOAD, unix.SYS_IOPL, unix.SYS_IOPERM, unix.SYS_CREATE_MODULE, unix.SYS_QUERY_MODULE,
			unix.SYS_GET_KERNEL_SYMS, unix.SYS_UMOUNT, unix.SYS_STIME, unix.SYS_RTAS, unix.SYS_SWITCH_ENDIAN,
			unix.SYS_PCICONFIG_READ, unix.SYS_PCICONFIG_WRITE, unix.SYS_PCICONFIG_IOBASE).
		swallow(unix.SYS_SYNC_FILE_RANGE2)
}
