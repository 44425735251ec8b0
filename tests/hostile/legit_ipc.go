//go:build !386

package main

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() {
	works("C40.semaphores", "cb", func() error {
		id, _, errno := unix.RawSyscall(unix.SYS_SEMGET, unix.IPC_PRIVATE, 4, unix.IPC_CREAT|0o600)
		if errno != 0 {
			return errno
		}
		up := [3]int16{0, 1, 0}
		if err := call(unix.SYS_SEMOP, id, uintptr(unsafe.Pointer(&up)), 1); err != nil {
			return err
		}
		return call(unix.SYS_SEMCTL, id, 0, unix.IPC_RMID)
	})
	works("C40.message-queues", "cb", func() error {
		name, err := unix.BytePtrFromString("hostile")
		if err != nil {
			return err
		}
		fd, _, errno := unix.RawSyscall6(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(name)), unix.O_CREAT|unix.O_RDWR, 0o600, 0, 0, 0)
		if errno != 0 {
			return errno
		}
		return errors.Join(unix.Close(int(fd)), call(unix.SYS_MQ_UNLINK, uintptr(unsafe.Pointer(name))))
	})
}
