package archive

import (
	"bytes"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"dbuild/deb"
)

// findStanzas calls fn with each stanza whose Package is name. The line
// "Package: NAME" is looked for as bytes first, which passes over 50 MB in some
// milliseconds; only if no stanza has it is the index read field by field, in
// case somebody writes it otherwise.
func findStanzas(path, name string, fn func(stanza []byte) error) error {
	data, unmap, err := mapFile(path)
	if err != nil {
		return err
	}
	defer unmap()
	line := []byte("Package: " + name + "\n")
	found := false
	for at := nextLine(data, line, 0); at >= 0; {
		start, end := stanzaAround(data, at)
		found = true
		if err := fn(data[start:end]); err != nil {
			return err
		}
		at = nextLine(data, line, end)
	}
	if found {
		return nil
	}
	return deb.ScanStanzas(bytes.NewReader(data), func(stanza []byte, _ int64) error {
		if deb.StanzaField(stanza, "Package") != name {
			return nil
		}
		return fn(stanza)
	})
}

// nextLine returns where line, with its line end, stands next at the beginning
// of a line, or -1. Position from is the beginning of a line.
func nextLine(data, line []byte, from int) int {
	if bytes.HasPrefix(data[from:], line) {
		return from
	}
	i := bytes.Index(data[from:], append([]byte("\n"), line...))
	if i < 0 {
		return -1
	}
	return from + i + 1
}

// stanzaAround returns the bounds of the stanza around position at, without
// the empty lines about it.
func stanzaAround(data []byte, at int) (start, end int) {
	if i := bytes.LastIndex(data[:at], []byte("\n\n")); i >= 0 {
		start = i + 2
	}
	if i := bytes.Index(data[at:], []byte("\n\n")); i >= 0 {
		return start, at + i + 1
	}
	return start, len(data)
}

// mapFile maps an index into memory. The copy never changes a file in place.
func mapFile(path string) (data []byte, unmap func(), err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if info.Size() == 0 {
		return nil, func() {}, nil
	}
	data, err = unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("map %q: %w", path, err)
	}
	return data, func() { _ = unix.Munmap(data) }, nil
}
