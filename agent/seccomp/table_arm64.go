package seccomp

import "golang.org/x/sys/unix"

func native() table {
	return common(unix.AUDIT_ARCH_AARCH64).
		deny(unix.SYS_KEXEC_FILE_LOAD).
		swallow(unix.SYS_SYNC_FILE_RANGE)
}
