package seccomp

import "golang.org/x/sys/unix"

func native() table {
	t := common(unix.AUDIT_ARCH_S390X).
		deny(unix.SYS_KEXEC_FILE_LOAD, unix.SYS_CREATE_MODULE, unix.SYS_QUERY_MODULE, unix.SYS_GET_KERNEL_SYMS, unix.SYS_UMOUNT,
			unix.SYS_S390_PCI_MMIO_READ, unix.SYS_S390_PCI_MMIO_WRITE, unix.SYS_S390_RUNTIME_INSTR).
		swallow(unix.SYS_SYNC_FILE_RANGE)
	t.bigEndian = true
	t.flagsArg = 1 // clone(stack, flags, …)
	return t
}
