// Package seccomp makes and loads the system call filter of steps: a short
// deny list per architecture, assembled in microseconds and decided by binary
// search. Calls that the list does not mention are allowed without looking at
// their arguments, so that the kernel's own cache answers for them.
//
// What is denied: mounting, namespaces, kernel modules and images, keyrings,
// bpf, perf, userfaultfd, io_uring, file handles, the clock, the host's name,
// swap, accounting, and the AF_ALG and AF_VSOCK socket families. Calls that
// programs try and do without answer ENOSYS, others EPERM.
package seccomp

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Policy varies the filter.
type Policy struct {
	// SwallowSync answers fsync and its kin with success and does nothing.
	SwallowSync bool
	// Compat permits a second system call table: "386" on amd64 or "arm" on
	// arm64. All other entries into the kernel answer ENOSYS.
	Compat string
}

// Filter is an assembled program.
type Filter []bpf.RawInstruction

// Make assembles the filter for the architecture that this program runs on.
func Make(p Policy) (Filter, error) {
	tables := []table{native()}
	switch {
	case p.Compat == "":
	case p.Compat == "386" && runtime.GOARCH == "amd64":
		tables = append(tables, table386)
	case p.Compat == "arm" && runtime.GOARCH == "arm64":
		tables = append(tables, tableARM)
	default:
		return nil, fmt.Errorf("assemble seccomp filter: no table for %q on %s", p.Compat, runtime.GOARCH)
	}
	raw, err := bpf.Assemble(program(tables, p))
	if err != nil {
		return nil, fmt.Errorf("assemble seccomp filter: %w", err)
	}
	return raw, nil
}

// Load installs the filter for the calling thread and what it starts. The
// thread needs no_new_privs or CAP_SYS_ADMIN in its user namespace, and must be
// locked to its goroutine.
func (f Filter) Load() error {
	_, err := f.load(0)
	runtime.KeepAlive(f)
	if err != nil {
		return fmt.Errorf("load seccomp filter: %w", err)
	}
	return nil
}

func (f Filter) load(flags uintptr) (int, error) {
	prog := struct {
		length uint16
		filter *bpf.RawInstruction
	}{uint16(len(f)), &f[0]}
	fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}
