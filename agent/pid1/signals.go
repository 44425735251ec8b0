package pid1

import (
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// shieldSignals keeps the agent alive when a step sends signals to process 1.
// The kernel drops signals for process 1 that it has no handler for, so the
// handlers of Go's runtime are taken away; ignoring the signals instead would
// be inherited by every step. Three stay, for the runtime turns the agent's own
// faults into a message that way, and are caught when somebody sends them: by
// other threads than the first. While that one handles a signal all others are
// blocked in it, and the kernel does not drop a signal that the first thread
// blocks. It is the calling thread, and does nothing that could be a fault.
func shieldSignals() {
	caught := []unix.Signal{unix.SIGURG, unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE} // SIGURG is the runtime's own
	var blocked unix.Sigset_t
	for _, s := range caught {
		add(&blocked, s)
	}
	_ = unix.PthreadSigmask(unix.SIG_BLOCK, &blocked, nil) // does not fail with these arguments
	for n := uintptr(1); n <= 64; n++ {
		s := unix.Signal(n)
		if s == unix.SIGKILL || s == unix.SIGSTOP || slices.Contains(caught, s) { // the first two cannot be set
			continue
		}
		setDefault(n)
	}
	signal.Notify(make(chan os.Signal, 1), unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE)
}

// add puts a signal into a set.
func add(set *unix.Sigset_t, s unix.Signal) {
	bits := uint(unsafe.Sizeof(set.Val[0])) * 8
	set.Val[uint(s-1)/bits] |= 1 << (uint(s-1) % bits)
}

// setDefault gives a signal its default action. All parts of the kernel's
// struct sigaction are zero then, whatever its layout is.
func setDefault(n uintptr) {
	var action [64]byte
	mask := uintptr(8) // bytes of a signal set
	if strings.HasPrefix(runtime.GOARCH, "mips") {
		mask = 16
	}
	// Can only fail for signals that this kernel does not have.
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, n, uintptr(unsafe.Pointer(&action)), 0, mask, 0, 0)
}
