package deb

import (
	"fmt"
	"io"
)

// OriginMember is the member of a .deb that holds the signature of its origin,
// made over what [BinaryFile.Signed] reads, as Debian's debsig-verify expects.
const OriginMember = "_gpgorigin"

// maxOrigin bounds the signature, in bytes.
const maxOrigin = 64 << 10

// Part is a piece of a file.
type Part struct{ Offset, Size int64 }

// ReadParts reads pieces of a file, one after the other.
func ReadParts(r io.ReaderAt, parts []Part) io.Reader {
	all := make([]io.Reader, len(parts))
	for i, p := range parts {
		all[i] = io.NewSectionReader(r, p.Offset, p.Size)
	}
	return io.MultiReader(all...)
}

// Signed are the parts that signatures inside of a .deb are made over: the
// content of the three members that dpkg-deb wrote, without their headers.
func (b *BinaryFile) Signed() []Part {
	parts := make([]Part, 3)
	for i, m := range b.members[:3] {
		parts[i] = Part{m.offset, m.size}
	}
	return parts
}

// Unsigned are the parts of the file without the signature of its origin: all of
// it if it has none.
func (b *BinaryFile) Unsigned() []Part {
	for _, m := range b.members[3:] {
		if m.name == OriginMember {
			begin := m.offset - arHeaderSize
			return []Part{{0, begin}, {m.end(), b.size - m.end()}}
		}
	}
	return []Part{{0, b.size}}
}

// Origin returns the signature of the origin, nil if there is none. r is the
// file that OpenDeb read.
func (b *BinaryFile) Origin(r io.ReaderAt) ([]byte, error) {
	for _, m := range b.members[3:] {
		if m.name != OriginMember {
			continue
		}
		if m.size > maxOrigin {
			return nil, &LimitError{What: m.name, Limit: maxOrigin}
		}
		sig, err := readExactly(r, m.offset, m.size, b.size)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", m.name, err)
		}
		return sig, nil
	}
	return nil, nil
}

// OriginBytes is the member with a signature as it is appended to a .deb. It
// depends on the signature alone.
func OriginBytes(sig []byte) []byte {
	member := fmt.Appendf(nil, "%-16s%-12d%-6d%-6d%-8s%-10d%s", OriginMember, 0, 0, 0, "100644", len(sig), arHeaderEnd)
	member = append(member, sig...)
	if len(sig)%2 == 1 {
		member = append(member, '\n')
	}
	return member
}
