package tree

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ReadTar makes the manifest of a whole tree from a tar of it, in whatever
// order and dialect: what [WriteTar] wrote, or an engine's export. Names may
// begin with "./" or "/"; a name that leaves the root, a name that comes twice,
// an entry in no directory and types that no manifest has are refused, and so
// is more than a stream of r's length can hold: bound r. Sparse files are read
// as their content.
func ReadTar(ctx context.Context, r io.Reader) (Manifest, error) {
	t := tarReader{tr: tar.NewReader(r), index: make(map[string]int), buf: make([]byte, readBuffer)}
	for {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("read tar: %w", err)
		}
		h, err := t.tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = t.add(h)
		}
		if err != nil {
			return nil, fmt.Errorf("read tar: %w", err)
		}
	}
	m, err := t.finish()
	if err != nil {
		return nil, fmt.Errorf("read tar: %w", err)
	}
	return m, nil
}

type tarReader struct {
	tr    *tar.Reader
	m     Manifest
	index map[string]int
	buf   []byte
}

func (t *tarReader) add(h *tar.Header) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name := tarPath(h.Name)
	if _, twice := t.index[name]; twice || len(t.m) >= maxEntries {
		return fmt.Errorf("%w: %q twice, or too many entries", ErrSyntax, h.Name)
	}
	if name != "." && !cleanPath(name) {
		return fmt.Errorf("%w: name %q", ErrSyntax, h.Name)
	}
	e := Entry{Path: name, Mode: uint32(h.Mode) & 0o7777, UID: h.Uid, GID: h.Gid, MTime: h.ModTime.Unix()}
	var err error
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		err = t.file(&e, h)
	case tar.TypeLink:
		err = t.link(&e, tarPath(h.Linkname))
	case tar.TypeDir:
		e.Type, e.MTime = TypeDir, 0
	case tar.TypeSymlink:
		e.Type, e.Link = TypeSymlink, h.Linkname
	case tar.TypeChar, tar.TypeBlock:
		e.Type = TypeChar
		if h.Typeflag == tar.TypeBlock {
			e.Type = TypeBlock
		}
		e.Dev = unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
	case tar.TypeFifo:
		e.Type = TypeFIFO
	default:
		err = fmt.Errorf("%w: %q: type %q", ErrSyntax, h.Name, h.Typeflag)
	}
	t.index[name] = len(t.m)
	t.m = append(t.m, e)
	return err
}

// tarPath turns a member's name into a manifest path.
func tarPath(name string) string {
	name = strings.TrimLeft(name, "/")
	if name == "" {
		return "."
	}
	if clean := path.Clean(name); strings.TrimSuffix(strings.TrimPrefix(name, "./"), "/") == clean || clean == "." {
		return clean
	}
	return "" // as no manifest has it
}

func (t *tarReader) file(e *Entry, h *tar.Header) error {
	e.Type, e.Size = TypeFile, h.Size
	sum := sha256.New()
	if _, err := io.CopyBuffer(sum, t.tr, t.buf); err != nil {
		return fmt.Errorf("%q: %w", h.Name, err)
	}
	sum.Sum(e.SHA256[:0])
	if v := h.PAXRecords[capsRecord]; v != "" {
		caps, err := normaliseCaps([]byte(v), IDMap{})
		if err != nil {
			return fmt.Errorf("%q: %w", h.Name, err)
		}
		e.Caps = caps
	}
	return nil
}

// link adds a name to a file that came before.
func (t *tarReader) link(e *Entry, target string) error {
	i, ok := t.index[target]
	if !ok || t.m[i].Type != TypeFile && t.m[i].Type != TypeSymlink {
		return fmt.Errorf("%w: %q: hard link to no earlier file", ErrSyntax, e.Path)
	}
	name := e.Path
	*e = t.m[i]
	e.Path = name
	if e.Type == TypeFile && e.HardLink == "" {
		e.HardLink = target
	}
	return nil
}

// finish puts the entries in order and names groups of hard links anew.
func (t *tarReader) finish() (Manifest, error) {
	slices.SortFunc(t.m, func(a, b Entry) int { return Compare(a.Path, b.Path) })
	regroup(t.m)
	var s shape
	for i := range t.m {
		if _, err := s.add(&t.m[i]); err != nil {
			return nil, err
		}
	}
	return t.m, nil
}
