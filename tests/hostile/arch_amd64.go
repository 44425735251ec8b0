package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

var archCalls = []systemCall{{"iopl", unix.SYS_IOPL}}

func init() {
	attempt("C10.iopl", "cdb", "host", func() error { return reached(call(unix.SYS_IOPL, 4)) }) // a level that does not exist
	attempt("C38.32-bit-program", "cdb", "host", func() error { return runELF(elf32) })
	attempt("C38.int-0x80", "cdb", "host", func() error { return runELF(elf64) })
	attempt("C38.x32", "cdb", "host", func() error {
		err := call(1<<30 | unix.SYS_GETPID)
		if errors.Is(err, unix.ENOSYS) && params["twin"] != "" {
			return errAbsent // a kernel without the x32 table
		}
		return err
	})
	// In a build for i386 the first of the two is the legitimate one.
	works("C40.32-bit-program", "i", func() error { return runELF(elf32) })
}

// The smallest programs that print a word with the 32-bit system calls.
const (
	elf32 = 1
	elf64 = 2
)

func runELF(class byte) error {
	dir, err := os.MkdirTemp("", "elf")
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "program")
	if err := os.WriteFile(file, elf(class), 0o755); err != nil {
		return err
	}
	out, err := exec.Command(file).CombinedOutput()
	if strings.Contains(string(out), "32-bit") {
		return nil
	}
	if params["twin"] != "" {
		return errAbsent // a kernel without the 32-bit calls
	}
	return errors.Join(err, errRefused)
}

// elf puts together a static program of one segment.
func elf(class byte) []byte {
	const base = 0x400000
	head, program, machine := 52, 32, byte(3)
	if class == elf64 {
		head, program, machine = 64, 56, 62
	}
	text := "32-bit\n"
	entry := base + head + program
	message := entry + 31
	le := func(size int, values ...int) (b []byte) {
		for _, v := range values {
			for i := range size {
				b = append(b, byte(v>>(8*i)))
			}
		}
		return b
	}
	code := append([]byte{0xb8, 4, 0, 0, 0, 0xbb, 1, 0, 0, 0, 0xb9}, le(4, message)...)
	code = append(code, 0xba, byte(len(text)), 0, 0, 0, 0xcd, 0x80) // write(1, message, 7)
	code = append(code, 0xb8, 1, 0, 0, 0, 0xcd, 0x80, 0x0f, 0x0b)   // exit, else an illegal instruction
	code = append(code, text...)
	size := head + program + len(code)
	b := append([]byte{0x7f, 'E', 'L', 'F', class, 1, 1, 0}, make([]byte, 8)...)
	b = append(b, le(2, 2, int(machine))...)
	b = append(b, le(4, 1)...)
	word := 4
	if class == elf64 {
		word = 8
	}
	b = append(b, le(word, entry, head, 0)...)
	b = append(b, le(4, 0)...)
	b = append(b, le(2, head, program, 1, 0, 0, 0)...)
	b = append(b, le(4, 1)...)
	if class == elf64 {
		b = append(b, le(4, 5)...)
		b = append(b, le(8, 0, base, base, size, size, 0x1000)...)
	} else {
		b = append(b, le(4, 0, base, base, size, size, 5, 0x1000)...)
	}
	return append(b, code...)
}
