package deb

import (
	"fmt"
	"io"
	"math"
	"strings"
)

const (
	arMagic      = "!<arch>\n"
	arHeaderSize = 60
	arHeaderEnd  = "`\n"
)

// arMember is one member of an ar archive.
type arMember struct {
	name   string
	offset int64 // of the data
	size   int64
	date   int64 // in seconds of Unix; 0 if blank
}

// end is where the next member begins: data is padded to an even length.
func (m arMember) end() int64 { return m.offset + m.size + m.size%2 }

// arError reports a malformed ar archive.
func arError(offset int64, format string, args ...any) error {
	return fmt.Errorf("ar archive at byte %d: %s", offset, fmt.Sprintf(format, args...))
}

// readAr lists the members of an ar archive of exactly size bytes, at most
// max of them. It accepts only the common format that dpkg-deb writes: no
// long names, decimal numbers, data padded to an even length with a newline,
// nothing after the last member.
func readAr(r io.ReaderAt, size int64, max int) ([]arMember, error) {
	magic, err := readExactly(r, 0, int64(len(arMagic)), size)
	if err != nil {
		return nil, err
	}
	if string(magic) != arMagic {
		return nil, arError(0, "no ar magic")
	}
	var members []arMember
	// Every turn moves at least a header forward, as no size is negative.
	for offset := int64(len(arMagic)); offset < size; {
		if len(members) == max {
			return nil, arError(offset, "more than %d members", max)
		}
		header, err := readExactly(r, offset, arHeaderSize, size)
		if err != nil {
			return nil, err
		}
		m, err := parseArHeader(string(header), offset)
		if err != nil {
			return nil, err
		}
		if m.size > size-m.offset {
			return nil, arError(offset, "member %q is longer than the file", m.name)
		}
		members = append(members, m)
		offset = m.offset + m.size
		if m.size%2 == 0 {
			continue
		}
		pad, err := readExactly(r, offset, 1, size)
		if err != nil {
			return nil, err
		}
		if pad[0] != '\n' {
			return nil, arError(offset, "padding is not a newline")
		}
		offset++
	}
	return members, nil
}

// readExactly reads n bytes and refuses to look beyond size.
func readExactly(r io.ReaderAt, offset, n, size int64) ([]byte, error) {
	if n > size-offset {
		return nil, arError(offset, "file ends early")
	}
	b := make([]byte, n)
	if k, err := r.ReadAt(b, offset); k < len(b) {
		return nil, fmt.Errorf("read ar archive at byte %d: %w", offset, err)
	}
	return b, nil
}

func parseArHeader(h string, offset int64) (arMember, error) {
	if h[58:] != arHeaderEnd {
		return arMember{}, arError(offset, "member header is malformed")
	}
	// Old GNU ar ends names in a slash, and so did dpkg-deb once.
	name := strings.TrimSuffix(strings.TrimRight(h[:16], " "), "/")
	if name == "" || !only(name, "._+-") {
		return arMember{}, arError(offset, "member name %q is malformed", name)
	}
	// Time, owner and group are decimal and may be blank; the mode is octal.
	var numbers [4]int64
	for i, number := range []string{h[16:28], h[28:34], h[34:40], h[40:48]} {
		if number = strings.TrimRight(number, " "); number != "" {
			n, err := parseDecimal(number, math.MaxInt64)
			if err != nil {
				return arMember{}, arError(offset, "header of %q: %v", name, err)
			}
			numbers[i] = n
		}
	}
	size, err := parseSize(strings.TrimRight(h[48:58], " "))
	if err != nil {
		return arMember{}, arError(offset, "header of %q: %v", name, err)
	}
	return arMember{name: name, offset: offset + arHeaderSize, size: size, date: numbers[0]}, nil
}
