package tree

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

const manifestHead = "dbuild-tree 1\n"

// Digest returns the canonical digest of the tree. The manifest must be
// complete: with contents hashed, and merged if it came from layers (a
// layer's whiteouts would count as entries).
func (m Manifest) Digest() Digest {
	h := sha256.New()
	// A hash never fails to take what it is given.
	_, _ = m.Canonical().WriteTo(h)
	return Digest("sha256:" + hex.EncodeToString(h.Sum(nil)))
}

// Lookup returns the entry of a path; nil if there is none.
func (m Manifest) Lookup(path string) *Entry {
	if i, ok := m.find(path); ok {
		return &m[i]
	}
	return nil
}

func (m Manifest) find(path string) (int, bool) {
	return slices.BinarySearchFunc(m, path, func(e Entry, p string) int { return Compare(e.Path, p) })
}

// Canonical returns the part of the tree that counts: without sockets and
// what every engine replaces. Groups of hard links are made anew among the
// rest. The receiver is not changed.
func (m Manifest) Canonical() Manifest {
	out := make(Manifest, 0, len(m))
	for _, e := range m {
		if e.Type != TypeSocket && !Replaced(e.Path) {
			out = append(out, e)
		}
	}
	regroup(out)
	return out
}

// group is the identity of a group of hard links: first names are unique only
// within a layer.
type group struct {
	layer int
	first string
}

// regroup names each group of hard links by its first member that is still
// there, and frees a file whose group has no other member left.
func regroup(m Manifest) {
	var first map[group]string
	for i := range m {
		e := &m[i]
		switch {
		case e.Type != TypeFile:
		case e.HardLink != "":
			if first == nil {
				first = leaders(m)
			}
			e.HardLink = first[group{e.Layer, e.HardLink}]
			if e.HardLink == e.Path {
				e.HardLink = ""
			}
		case first != nil:
			// In a tar the name that the others link to need not be the first.
			if f := first[group{e.Layer, e.Path}]; f != e.Path {
				e.HardLink = f
			}
		}
	}
}

// leaders finds the first present member of each group.
func leaders(m Manifest) map[group]string {
	first := make(map[group]string)
	for _, e := range m {
		if e.Type == TypeFile && e.HardLink != "" {
			first[group{e.Layer, e.HardLink}] = ""
		}
	}
	for _, e := range m {
		if e.Type != TypeFile {
			continue
		}
		g := group{e.Layer, e.HardLink}
		if e.HardLink == "" {
			g.first = e.Path
		}
		if f, ok := first[g]; ok && f == "" {
			first[g] = e.Path
		}
	}
	return first
}

// WriteTo writes the text form described in the package comment. It writes
// every entry but sockets; see [Manifest.Canonical].
func (m Manifest) WriteTo(w io.Writer) (int64, error) {
	b := bufio.NewWriterSize(w, 256<<10)
	n, err := b.WriteString(manifestHead)
	total := int64(n)
	line := make([]byte, 0, 1024)
	for i := range m {
		if err != nil {
			return total, err
		}
		line = appendLine(line[:0], &m[i])
		n, err = b.Write(line)
		total += int64(n)
	}
	if err != nil {
		return total, err
	}
	return total, b.Flush()
}

// appendLine appends the line of one entry; nothing for a socket.
func appendLine(b []byte, e *Entry) []byte {
	if e.Type == TypeSocket {
		return b
	}
	b = append(b, byte(e.Type), ' ')
	b = strconv.AppendUint(b, uint64(e.Mode), 8)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(e.UID), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(e.GID), 10)
	b = append(b, ' ')
	b = appendEscaped(b, e.Path)
	switch e.Type {
	case TypeDir:
		if e.Opaque {
			b = append(b, " opaque"...)
		}
		return append(b, '\n')
	case TypeWhiteout:
		return append(b, '\n')
	}
	b = append(b, ' ')
	b = strconv.AppendInt(b, e.MTime, 10)
	switch e.Type {
	case TypeFile:
		b = appendFile(b, e)
	case TypeSymlink:
		b = append(b, ' ')
		b = appendEscaped(b, e.Link)
	case TypeChar, TypeBlock:
		b = append(b, ' ')
		b = strconv.AppendUint(b, uint64(unix.Major(e.Dev)), 10)
		b = append(b, ':')
		b = strconv.AppendUint(b, uint64(unix.Minor(e.Dev)), 10)
	}
	return append(b, '\n')
}

func appendFile(b []byte, e *Entry) []byte {
	b = append(b, ' ')
	b = strconv.AppendInt(b, e.Size, 10)
	b = append(b, ' ')
	b = hex.AppendEncode(b, e.SHA256[:])
	if e.HardLink != "" {
		b = append(b, " link="...)
		b = appendEscaped(b, e.HardLink)
	}
	if e.Caps != "" {
		b = append(b, " caps="...)
		b = hex.AppendEncode(b, []byte(e.Caps))
	}
	return b
}

// appendEscaped appends s with every byte outside "!" to "~", and the
// backslash, as \xHH.
func appendEscaped(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	for i := range len(s) {
		if c := s[i]; c > ' ' && c <= '~' && c != '\\' {
			b = append(b, c)
		} else {
			b = append(b, '\\', 'x', digits[c>>4], digits[c&15])
		}
	}
	return b
}
