package seccomp

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// judge runs a filter on one call in the interpreter of x/net/bpf, which reads
// big-endian words.
func judge(t *testing.T, tables []table, p Policy, arch, number uint32, args ...uint32) uint32 {
	t.Helper()
	vm, err := bpf.NewVM(program(tables, p))
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 64)
	binary.BigEndian.PutUint32(data[offsetNumber:], number)
	binary.BigEndian.PutUint32(data[offsetArch:], arch)
	for i, a := range args {
		binary.BigEndian.PutUint32(data[offsetArgs+8*i:], a)
	}
	verdict, err := vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(verdict)
}

// fixed is a table with known numbers, so that the test says the same on every
// machine.
func fixed() table {
	return table{
		audit: 1, denied: []uint32{10, 20, 30, 40, 500}, absent: []uint32{7, 25, 600}, syncs: []uint32{11, 26},
		clone: 50, socket: 51, ioctl: 52, x32: true,
	}
}

func TestProgram(t *testing.T) {
	other := fixed()
	other.audit, other.denied, other.flagsArg, other.x32, other.socketcall = 2, []uint32{99}, 1, false, 53
	tables := []table{fixed(), other}
	for _, x := range []struct {
		name         string
		swallow      bool
		arch, number uint32
		args         []uint32
		want         uint32
	}{
		{"ordinary", false, 1, 0, nil, allow},
		{"ordinary in the middle", false, 1, 21, nil, allow},
		{"ordinary at the end", false, 1, 100000, nil, allow},
		{"denied first", false, 1, 10, nil, eperm},
		{"denied middle", false, 1, 30, nil, eperm},
		{"denied late", false, 1, 500, nil, eperm},
		{"absent first", false, 1, 7, nil, enosys},
		{"absent last", false, 1, 600, nil, enosys},
		{"fsync", false, 1, 11, nil, allow},
		{"fsync swallowed", true, 1, 11, nil, success},
		{"other sync swallowed", true, 1, 26, nil, success},
		{"fork", false, 1, 50, []uint32{uint32(unix.SIGCHLD)}, allow},
		{"thread", false, 1, 50, []uint32{unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_THREAD}, allow},
		{"user namespace", false, 1, 50, []uint32{unix.CLONE_NEWUSER | uint32(unix.SIGCHLD)}, eperm},
		{"network namespace", false, 1, 50, []uint32{unix.CLONE_NEWNET}, eperm},
		{"flags elsewhere", false, 2, 50, []uint32{0, unix.CLONE_NEWNS}, eperm},
		{"not the flags", false, 2, 50, []uint32{unix.CLONE_NEWNS, 0}, allow},
		{"AF_UNIX", false, 1, 51, []uint32{unix.AF_UNIX}, allow},
		{"AF_ALG", false, 1, 51, []uint32{unix.AF_ALG}, eperm},
		{"AF_VSOCK", false, 1, 51, []uint32{unix.AF_VSOCK}, eperm},
		{"TIOCSTI", false, 1, 52, []uint32{0, unix.TIOCSTI}, eperm},
		{"TIOCLINUX", false, 1, 52, []uint32{0, linuxConsole}, eperm},
		{"TIOCGWINSZ", false, 1, 52, []uint32{0, unix.TIOCGWINSZ}, allow},
		{"x32", false, 1, 1<<30 + 1, nil, enosys},
		{"minus one", false, 1, 1<<32 - 1, nil, enosys},
		{"socketcall: socket", false, 2, 53, []uint32{callSocket}, ask},
		{"socketcall: connect", false, 2, 53, []uint32{3}, allow},
		{"no socketcall", false, 1, 53, []uint32{callSocket}, allow},
		{"second table", false, 2, 99, nil, eperm},
		{"second table's others", false, 2, 10, nil, allow},
		{"unknown table", false, 3, 0, nil, enosys},
	} {
		t.Run(x.name, func(t *testing.T) {
			if got := judge(t, tables, Policy{SwallowSync: x.swallow}, x.arch, x.number, x.args...); got != x.want {
				t.Errorf("verdict %#x, want %#x", got, x.want)
			}
		})
	}
}

// TestSearch compares the bisection with the plain list, for every number.
func TestSearch(t *testing.T) {
	for name, tab := range map[string]table{"native": native(), "386": table386, "arm": tableARM} {
		want := map[uint32]uint32{}
		for _, n := range tab.denied {
			want[n] = eperm
		}
		for _, n := range tab.absent {
			want[n] = enosys
		}
		for _, n := range tab.syncs {
			want[n] = success
		}
		for n := range uint32(700) {
			w, ok := want[n]
			if !ok {
				w = allow
			}
			if got := judge(t, []table{tab}, Policy{SwallowSync: true}, tab.audit, n); got != w {
				t.Errorf("%s: call %d gets %#x, want %#x", name, n, got, w)
			}
		}
		if all := len(tab.denied) + len(tab.absent) + len(tab.syncs); len(want) != all {
			t.Errorf("%s: %d numbers, %d of them twice", name, all, all-len(want))
		}
	}
}

// TestAsks: only a filter for i386 programs needs a listener.
func TestAsks(t *testing.T) {
	for name, tab := range map[string]table{"386": table386, "arm": tableARM} {
		raw, err := bpf.Assemble(program([]table{tab}, Policy{}))
		if err != nil {
			t.Fatal(err)
		}
		if got := Filter(raw).Asks(); got != (name == "386") {
			t.Errorf("filter for %s asks: %v", name, got)
		}
	}
}

func TestMayOpen(t *testing.T) {
	for _, x := range []struct {
		domain, typ int
		want        bool
	}{
		{unix.AF_UNIX, unix.SOCK_STREAM | unix.SOCK_CLOEXEC, true}, {unix.AF_INET, unix.SOCK_DGRAM | unix.SOCK_NONBLOCK, true},
		{unix.AF_NETLINK, unix.SOCK_RAW, true}, {unix.AF_INET6, unix.SOCK_STREAM, true},
		{unix.AF_ALG, unix.SOCK_SEQPACKET, false}, {unix.AF_VSOCK, unix.SOCK_STREAM, false},
		{unix.AF_INET, unix.SOCK_RAW, false}, {unix.AF_PACKET, unix.SOCK_DGRAM, false}, {unix.AF_INET, 99, false},
	} {
		if got := mayOpen(x.domain, x.typ); got != x.want {
			t.Errorf("domain %d, type %#x: %v, want %v", x.domain, x.typ, got, x.want)
		}
	}
}

func TestMake(t *testing.T) {
	f, err := Make(Policy{SwallowSync: true})
	if err != nil || len(f) == 0 || len(f) > 4096 {
		t.Errorf("filter of %d instructions, %v", len(f), err)
	}
	if _, err := Make(Policy{Compat: "pdp11"}); err == nil {
		t.Error("a filter for an unknown table was made")
	}
}

func BenchmarkMake(b *testing.B) {
	for b.Loop() {
		if _, err := Make(Policy{}); err != nil {
			b.Fatal(err)
		}
	}
}
