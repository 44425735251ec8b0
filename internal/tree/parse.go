package tree

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Bounds of what [ReadManifest] and [UnmarshalSeal] take.
const (
	maxEntries = 4 << 20
	maxPath    = 4096     // PATH_MAX
	maxLine    = 64 << 10 // two paths, each byte escaped, and the rest
)

// ErrSyntax is wrapped by the errors about malformed manifests and seals.
var ErrSyntax = errors.New("malformed")

// ReadManifest parses the text form strictly: entries in order, each in a
// directory that came before, numbers and escapes only as [Manifest.WriteTo]
// writes them. What is read writes back as the same bytes.
func ReadManifest(r io.Reader) (Manifest, error) {
	b := bufio.NewReaderSize(r, maxLine)
	head, err := b.ReadSlice('\n')
	if err != nil || string(head) != manifestHead {
		return nil, fmt.Errorf("read manifest: first line: %w", ErrSyntax)
	}
	var m Manifest
	var s shape
	var check []byte
	for n := 2; ; n++ {
		line, err := b.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			break
		}
		if errors.Is(err, io.EOF) || errors.Is(err, bufio.ErrBufferFull) || n > maxEntries {
			return nil, fmt.Errorf("read manifest: line %d: %w: too long or cut off", n, ErrSyntax)
		}
		if err != nil {
			return nil, fmt.Errorf("read manifest: %w", err)
		}
		e, err := parseLine(string(line[:len(line)-1]))
		if err == nil {
			_, err = s.add(&e)
		}
		if err != nil {
			return nil, fmt.Errorf("read manifest: line %d: %w", n, err)
		}
		if check = appendLine(check[:0], &e); string(check) != string(line) {
			return nil, fmt.Errorf("read manifest: line %d: %w: not in canonical form", n, ErrSyntax)
		}
		m = append(m, e)
	}
	if err := checkLinks(m); err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	return m, nil
}

// parseLine is lax about the spelling of numbers; the caller compares the line
// with what [appendLine] makes of the result.
func parseLine(line string) (e Entry, err error) {
	f := strings.Split(line, " ")
	if len(f) < 5 || len(f[0]) != 1 {
		return e, fmt.Errorf("%w: too few fields", ErrSyntax)
	}
	e.Type = Type(f[0][0])
	mode, err1 := strconv.ParseUint(f[1], 8, 12)
	uid, err2 := strconv.ParseUint(f[2], 10, 32)
	gid, err3 := strconv.ParseUint(f[3], 10, 32)
	path, err4 := unescape(f[4])
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return e, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	e.Mode, e.UID, e.GID, e.Path = uint32(mode), int(uid), int(gid), path
	if e.Type != TypeDir && e.Type != TypeWhiteout {
		if len(f) < 6 {
			return e, fmt.Errorf("%w: no time", ErrSyntax)
		}
		if e.MTime, err = strconv.ParseInt(f[5], 10, 64); err != nil {
			return e, fmt.Errorf("%w: %w", ErrSyntax, err)
		}
		f = f[1:]
	}
	if err := parseRest(&e, f[5:]); err != nil {
		return e, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	return e, nil
}

// parseRest reads the fields that depend on the type.
func parseRest(e *Entry, f []string) (err error) {
	switch {
	case e.Type == TypeDir && len(f) <= 1:
		e.Opaque = len(f) == 1
	case (e.Type == TypeWhiteout || e.Type == TypeFIFO) && len(f) == 0:
	case e.Type == TypeSymlink && len(f) == 1:
		if e.Link, err = unescape(f[0]); err == nil && (e.Link == "" || len(e.Link) >= maxPath) {
			err = errors.New("bad target")
		}
	case (e.Type == TypeChar || e.Type == TypeBlock) && len(f) == 1:
		major, minor, _ := strings.Cut(f[0], ":")
		ma, err1 := strconv.ParseUint(major, 10, 32)
		mi, err2 := strconv.ParseUint(minor, 10, 32)
		e.Dev = unix.Mkdev(uint32(ma), uint32(mi))
		err = errors.Join(err1, err2)
	case e.Type == TypeFile && len(f) >= 2:
		err = parseFile(e, f)
	default:
		err = errors.New("unknown type or wrong number of fields")
	}
	return err
}

func parseFile(e *Entry, f []string) (err error) {
	if e.Size, err = strconv.ParseInt(f[0], 10, 64); err != nil {
		return err
	}
	if e.Size < 0 || len(f[1]) != 64 {
		return errors.New("bad size or hash")
	}
	if _, err := hex.Decode(e.SHA256[:], []byte(f[1])); err != nil {
		return err
	}
	f = f[2:]
	if len(f) > 0 {
		if l, ok := strings.CutPrefix(f[0], "link="); ok {
			if e.HardLink, err = unescape(l); err != nil {
				return err
			}
			f = f[1:]
		}
	}
	if len(f) > 0 {
		c, err := hex.DecodeString(strings.TrimPrefix(f[0], "caps="))
		if err != nil || len(c) != capsSize {
			return errors.New("bad capabilities")
		}
		e.Caps = string(c)
		f = f[1:]
	}
	if len(f) > 0 {
		return errors.New("too many fields")
	}
	return nil
}

// unescape undoes appendEscaped; it takes any \xHH.
func unescape(s string) (string, error) {
	if strings.IndexByte(s, '\\') < 0 {
		return s, nil
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b = append(b, s[i])
			continue
		}
		if i+3 >= len(s) || s[i+1] != 'x' {
			return "", errors.New("bad escape")
		}
		c, err := strconv.ParseUint(s[i+2:i+4], 16, 8)
		if err != nil {
			return "", errors.New("bad escape")
		}
		b = append(b, byte(c))
		i += 3
	}
	return string(b), nil
}

// shape checks, entry after entry, that a list is a tree in order: clean
// paths, rising, each in a directory that came before.
type shape struct {
	last  string
	open  []openDir // the directories that contain the last entry
	count int32
}

type openDir struct {
	path  string
	index int32
}

// add takes the next entry and returns the index of the directory that
// contains it, -1 for the root.
func (s *shape) add(e *Entry) (parent int32, err error) {
	index := s.count
	s.count++
	if index == 0 {
		if e.Path != "." || e.Type != TypeDir {
			return 0, fmt.Errorf("%w: the first entry is not the root", ErrSyntax)
		}
		s.open = append(s.open, openDir{"", 0})
		s.last = "."
		return -1, nil
	}
	if !cleanPath(e.Path) || Compare(s.last, e.Path) >= 0 {
		return 0, fmt.Errorf("%w: path %q unclean or out of order", ErrSyntax, e.Path)
	}
	dir := ""
	if i := strings.LastIndexByte(e.Path, '/'); i >= 0 {
		dir = e.Path[:i]
	}
	for len(s.open) > 1 && s.open[len(s.open)-1].path != dir {
		s.open = s.open[:len(s.open)-1]
	}
	top := s.open[len(s.open)-1]
	if top.path != dir {
		return 0, fmt.Errorf("%w: path %q lies in no directory", ErrSyntax, e.Path)
	}
	if e.Type == TypeDir {
		s.open = append(s.open, openDir{e.Path, index})
	}
	s.last = e.Path
	return top.index, nil
}

// cleanPath reports whether p is a path below the root as manifests write it.
func cleanPath(p string) bool {
	if p == "" || len(p) >= maxPath || strings.IndexByte(p, 0) >= 0 {
		return false
	}
	for name := range strings.SplitSeq(p, "/") {
		if name == "" || name == "." || name == ".." || len(name) > 255 {
			return false
		}
	}
	return true
}

// checkLinks demands that each hard link names an earlier regular file that is
// the first of its group and equal to it.
func checkLinks(m Manifest) error {
	for i := range m {
		e := &m[i]
		if e.HardLink == "" {
			continue
		}
		j, ok := m.find(e.HardLink)
		if !ok || j >= i || m[j].Type != TypeFile || m[j].HardLink != "" {
			return fmt.Errorf("%w: hard link %q to no earlier file", ErrSyntax, e.Path)
		}
		first := m[j]
		first.Path, first.HardLink = e.Path, e.HardLink
		if first != *e {
			return fmt.Errorf("%w: hard link %q differs from its first name", ErrSyntax, e.Path)
		}
	}
	return nil
}
