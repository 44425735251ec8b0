package pid1

import (
	"os"
	"os/signal"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// shieldSignals keeps the agent alive when a step sends signals to process 1.
// The kernel drops signals for process 1 that it has no handler for, so the
// handlers of Go's runtime are taken away; ignoring the signals instead would
// be inherited by every step. Three stay, for the runtime turns the agent's own
// faults into a message that way, and are caught when somebody sends them.
func shieldSignals() {
	for n := uintptr(1); n <= 64; n++ {
		switch unix.Signal(n) {
		case unix.SIGKILL, unix.SIGSTOP: // cannot be set
		case unix.SIGURG: // the runtime's own, harmless
		case unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE:
		default:
			setDefault(n)
		}
	}
	signal.Notify(make(chan os.Signal, 1), unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE)
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
