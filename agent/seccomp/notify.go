package seccomp

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// callSocket is socket(2) among the calls of socketcall(2); see linux/net.h.
const callSocket = 1

// Asks reports whether the filter leaves some calls to a [Listener]: those
// socketcall(2) of i386 whose arguments lie in memory, where a filter cannot
// look.
func (f Filter) Asks() bool {
	for _, i := range f {
		if i.Op == uint16(unix.BPF_RET|unix.BPF_K) && i.K == ask {
			return true
		}
	}
	return false
}

// socketcallRule leaves the making of sockets to the listener.
func (t table) socketcallRule() rule {
	return rule{t.socketcall, []bpf.Instruction{
		t.arg(0),
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: callSocket, SkipFalse: 1},
		bpf.RetConstant{Val: ask},
		bpf.RetConstant{Val: allow},
	}}
}

// Listener answers the calls that a filter asks about. It is safe that it looks
// into the memory of a program that can change it meanwhile: it makes the
// socket itself, from what it read, and hands it over.
type Listener struct{ fd int }

// Sizes and layout are of struct seccomp_notif, _resp and _addfd.
type notification struct {
	id        uint64
	pid       uint32
	flags     uint32
	number    int32
	arch      uint32
	ip        uint64
	arguments [6]uint64
}

type response struct {
	id    uint64
	value int64
	err   int32
	flags uint32
}

type handover struct {
	id       uint64
	flags    uint32
	source   uint32
	target   uint32
	newFlags uint32
}

// Serve answers until no process is left that has the filter. One goroutine's
// thread is busy with it for as long.
func (l Listener) Serve() {
	defer unix.Close(l.fd)
	for {
		// The kernel wants the structure zero.
		poll := []unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, -1); err != nil && err != unix.EINTR {
			return
		}
		if poll[0].Revents&unix.POLLIN == 0 {
			if poll[0].Revents != 0 {
				return // hang-up: nobody is left
			}
			continue
		}
		var n notification
		if l.ioctl(unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n)) != 0 {
			continue // it was killed or interrupted meanwhile
		}
		l.answer(&n)
	}
}

func (l Listener) answer(n *notification) {
	r := response{id: n.id}
	fd, cloexec, errno := open(n, func() bool {
		id := n.id
		return l.ioctl(unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&id)) == 0
	})
	if errno == 0 {
		h := handover{id: n.id, source: uint32(fd)}
		if cloexec {
			h.newFlags = unix.O_CLOEXEC
		}
		target, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), unix.SECCOMP_IOCTL_NOTIF_ADDFD, uintptr(unsafe.Pointer(&h)))
		r.value, errno = int64(target), e
		_ = unix.Close(fd)
	}
	if errno != 0 {
		r.value, r.err = 0, -int32(errno)
	}
	_ = l.ioctl(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r)) // fails when the caller is gone
}

func (l Listener) ioctl(request uintptr, p unsafe.Pointer) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), request, uintptr(p))
	return errno
}

// open makes the socket that a call asks for. valid tells that the process
// whose memory was read is still the one that asked.
func open(n *notification, valid func() bool) (fd int, cloexec bool, errno unix.Errno) {
	var words [3]uint32 // domain, type, protocol
	local := []unix.Iovec{{Base: (*byte)(unsafe.Pointer(&words))}}
	local[0].SetLen(int(unsafe.Sizeof(words)))
	remote := []unix.RemoteIovec{{Base: uintptr(uint32(n.arguments[1])), Len: int(unsafe.Sizeof(words))}}
	count, err := unix.ProcessVMReadv(int(n.pid), local, remote, 0)
	if err == unix.EFAULT {
		return -1, false, unix.EFAULT
	}
	if err != nil || count != int(unsafe.Sizeof(words)) || !valid() {
		return -1, false, unix.EPERM
	}
	domain, typ, protocol := int(words[0]), int(words[1]), int(words[2])
	if !mayOpen(domain, typ) {
		return -1, false, unix.EPERM
	}
	fd, err = unix.Socket(domain, typ|unix.SOCK_CLOEXEC, protocol)
	if e, ok := err.(unix.Errno); ok { //nolint:errorlint // an errno
		return -1, false, e
	}
	return fd, typ&unix.SOCK_CLOEXEC != 0, 0
}

// mayOpen holds to what every user may have: this process has capabilities
// that its steps have not.
func mayOpen(domain, typ int) bool {
	switch typ &^ (unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK) {
	case unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_SEQPACKET:
		return domain == unix.AF_UNIX || domain == unix.AF_INET || domain == unix.AF_INET6 || domain == unix.AF_NETLINK
	case unix.SOCK_RAW:
		return domain == unix.AF_NETLINK
	}
	return false
}

// LoadListening is [Filter.Load] for a filter that Asks. Its listener must be
// served, or the calls block for ever.
func (f Filter) LoadListening() (Listener, error) {
	fd, err := f.load(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER)
	runtime.KeepAlive(f)
	if err != nil {
		return Listener{-1}, fmt.Errorf("load seccomp filter with listener: %w", err)
	}
	return Listener{fd}, nil
}
