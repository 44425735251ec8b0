package seccomp

import (
	"cmp"
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data.
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16
)

const (
	allow   = unix.SECCOMP_RET_ALLOW
	eperm   = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	enosys  = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	success = unix.SECCOMP_RET_ERRNO // errno 0: the call returns 0
	ask     = unix.SECCOMP_RET_USER_NOTIF

	newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
		unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWTIME
	linuxConsole = 0x541c // TIOCLINUX, the same on every architecture
)

// table is the deny list of one system call table.
type table struct {
	audit    uint32   // AUDIT_ARCH_…
	denied   []uint32 // EPERM
	absent   []uint32 // ENOSYS
	syncs    []uint32 // swallowed on demand
	clone    uint32
	flagsArg uint32 // which argument of clone holds the flags
	socket   uint32
	ioctl    uint32
	// socketcall is the call of i386 that stands for all calls on sockets, or 0.
	socketcall uint32
	bigEndian  bool
	x32        bool // numbers from 2^30 on belong to the x32 table
}

// rule is what to do for one call.
type rule struct {
	number uint32
	body   []bpf.Instruction
}

func program(tables []table, p Policy) []bpf.Instruction {
	prog := []bpf.Instruction{bpf.LoadAbsolute{Off: offsetArch, Size: 4}}
	for _, t := range tables {
		section := t.section(p)
		prog = append(prog,
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: t.audit, SkipTrue: 1},
			bpf.Jump{Skip: uint32(len(section))})
		prog = append(prog, section...)
	}
	return append(prog, bpf.RetConstant{Val: enosys})
}

func (t table) section(p Policy) []bpf.Instruction {
	prog := []bpf.Instruction{bpf.LoadAbsolute{Off: offsetNumber, Size: 4}}
	if t.x32 {
		prog = append(prog,
			bpf.JumpIf{Cond: bpf.JumpLessThan, Val: 1 << 30, SkipTrue: 1},
			bpf.RetConstant{Val: enosys})
	}
	return append(prog, search(t.rules(p))...)
}

// rules returns the rules sorted by number.
func (t table) rules(p Policy) []rule {
	var rules []rule
	add := func(numbers []uint32, action uint32) {
		for _, n := range numbers {
			rules = append(rules, rule{n, []bpf.Instruction{bpf.RetConstant{Val: action}}})
		}
	}
	add(t.denied, eperm)
	add(t.absent, enosys)
	if p.SwallowSync {
		add(t.syncs, success)
	}
	rules = append(rules,
		rule{t.clone, []bpf.Instruction{
			t.arg(t.flagsArg),
			bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: newNamespaces, SkipFalse: 1},
			bpf.RetConstant{Val: eperm},
			bpf.RetConstant{Val: allow},
		}},
		rule{t.socket, t.refuse(0, unix.AF_ALG, unix.AF_VSOCK)},
		rule{t.ioctl, t.refuse(1, unix.TIOCSTI, linuxConsole)})
	if t.socketcall != 0 {
		rules = append(rules, t.socketcallRule())
	}
	slices.SortFunc(rules, func(a, b rule) int { return cmp.Compare(a.number, b.number) })
	return rules
}

// arg loads the low half of an argument, which is all that the kernel looks at
// in the arguments that are judged here.
func (t table) arg(n uint32) bpf.Instruction {
	off := offsetArgs + 8*n
	if t.bigEndian {
		off += 4
	}
	return bpf.LoadAbsolute{Off: off, Size: 4}
}

// refuse answers EPERM when an argument has one of two values.
func (t table) refuse(arg, a, b uint32) []bpf.Instruction {
	return []bpf.Instruction{
		t.arg(arg),
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: a, SkipTrue: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: b, SkipTrue: 1},
		bpf.RetConstant{Val: allow},
		bpf.RetConstant{Val: eperm},
	}
}

// search decides by bisection; every path ends in a return.
func search(rules []rule) []bpf.Instruction {
	const linear = 3
	if len(rules) <= linear {
		var prog []bpf.Instruction
		for _, r := range rules {
			prog = append(prog, bpf.JumpIf{Cond: bpf.JumpEqual, Val: r.number, SkipFalse: uint8(len(r.body))})
			prog = append(prog, r.body...)
		}
		return append(prog, bpf.RetConstant{Val: allow})
	}
	mid := len(rules) / 2
	low, high := search(rules[:mid]), search(rules[mid:])
	prog := []bpf.Instruction{
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: rules[mid].number, SkipFalse: 1},
		bpf.Jump{Skip: uint32(len(low))},
	}
	return append(append(prog, low...), high...)
}
