package fake

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"dbuild/engine"
	"dbuild/internal/fault"
	"dbuild/internal/tree"
)

// unpack adds the entries of a tar; on error nothing is added.
func (f *Files) unpack(ctx context.Context, r io.Reader, dir string, opts engine.PutOptions) ([]engine.PutEntry, error) {
	staged := f.clone()
	var entries []engine.PutEntry
	for t := tar.NewReader(r); ; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h, err := t.Next()
		if err == io.EOF { //nolint:errorlint // a wrapped one means that the tar was cut short
			break
		}
		if err != nil {
			return nil, fault.Wrap(fault.Input, fmt.Errorf("read tar: %w", err))
		}
		entry, err := staged.unpackOne(h, t, dir, opts.KeepDirs)
		if err != nil {
			return nil, err
		}
		if entry != nil {
			entries = append(entries, *entry)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nodes = staged.nodes
	return entries, nil
}

func (f *Files) unpackOne(h *tar.Header, content io.Reader, dir string, keepDirs bool) (*engine.PutEntry, error) {
	name := h.Name
	if slices.Contains(strings.Split(name, "/"), "..") || h.Uid > 65535 || h.Gid > 65535 || h.Uid < 0 || h.Gid < 0 {
		return nil, fault.New(fault.Input, "tar entry %q leaves the root or has a bad owner", h.Name)
	}
	name = clean(name)
	if device := h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock; device && strings.HasPrefix(name, "dev/") {
		return nil, nil
	}
	n, err := f.nodeOf(h, content)
	if err != nil {
		return nil, fmt.Errorf("unpack %q: %w", name, err)
	}
	at := clean(dir + "/" + name)
	old, _ := f.lookup(at, keepDirs)
	switch {
	case keepDirs && old != nil && old.Type == tree.TypeDir && (n.Type == tree.TypeDir || n.Type == tree.TypeSymlink):
	case at == ".":
		*f.nodes["."] = *n
	default:
		if err := f.place(at, n); err != nil {
			return nil, fault.Wrap(fault.Input, fmt.Errorf("unpack %q: %w", name, err))
		}
	}
	return &engine.PutEntry{Name: name, Type: h.Typeflag, Link: h.Linkname, Mode: h.Mode, UID: h.Uid, GID: h.Gid, Size: h.Size}, nil
}

// nodeOf makes a node of a tar entry; a hard link gives its target's node.
func (f *Files) nodeOf(h *tar.Header, content io.Reader) (*node, error) {
	e := tree.Entry{Mode: uint32(h.Mode & 0o7777), UID: h.Uid, GID: h.Gid, MTime: h.ModTime.Unix()}
	switch h.Typeflag {
	case tar.TypeReg:
		b, err := io.ReadAll(content)
		if err != nil {
			return nil, fault.Wrap(fault.Input, err)
		}
		e.Type, e.Size, e.Caps = tree.TypeFile, int64(len(b)), h.PAXRecords[capsRecord]
		return &node{Entry: e, content: b}, nil
	case tar.TypeDir:
		e.Type, e.MTime = tree.TypeDir, 0
	case tar.TypeSymlink:
		e.Type, e.Mode, e.Link = tree.TypeSymlink, 0o777, h.Linkname
	case tar.TypeFifo:
		e.Type = tree.TypeFIFO
	case tar.TypeLink:
		if slices.Contains(strings.Split(h.Linkname, "/"), "..") {
			return nil, fault.New(fault.Input, "link leaves the root")
		}
		return f.lookup(h.Linkname, false)
	default:
		return nil, fault.New(fault.Input, "type %q", h.Typeflag)
	}
	return &node{Entry: e}, nil
}

const capsRecord = "SCHILY.xattr.security.capability"

// writeTar writes the canonical entries in canonical order.
func (f *Files) writeTar(w io.Writer) error {
	t := tar.NewWriter(w)
	for _, e := range f.manifest().Canonical() {
		h := &tar.Header{
			Name: "./" + e.Path, Mode: int64(e.Mode), Uid: e.UID, Gid: e.GID, Format: tar.FormatPAX,
			ModTime: time.Unix(e.MTime, 0),
		}
		var content []byte
		switch e.Type {
		case tree.TypeDir:
			h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
		case tree.TypeSymlink:
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.Link
		case tree.TypeFIFO:
			h.Typeflag = tar.TypeFifo
		default:
			h.Typeflag, content = tar.TypeReg, f.nodes[e.Path].content
			h.Size = int64(len(content))
			if e.Caps != "" {
				h.PAXRecords = map[string]string{capsRecord: e.Caps}
			}
			if e.HardLink != "" {
				h.Typeflag, h.Linkname, h.Size, content = tar.TypeLink, "./"+e.HardLink, 0, nil
			}
		}
		if err := t.WriteHeader(h); err != nil {
			return fmt.Errorf("export %q: %w", e.Path, err)
		}
		if _, err := t.Write(content); err != nil {
			return err
		}
	}
	return t.Close()
}

// get is GetFiles.
func (f *Files) get(dir string, names []string, lim engine.GetLimits, fn func(engine.GotFile, io.Reader) error) error {
	dir = clean(dir)
	if at, err := f.resolve(dir, true); err != nil || at != dir {
		return fault.New(fault.Input, "directory %q lies behind a symlink", dir)
	}
	if f.nodes[dir] == nil {
		return fmt.Errorf("open directory %q: %w", dir, engine.ErrNotFound)
	}
	left := lim.Bytes
	for i, name := range f.expand(dir, names) {
		n, err := f.plain(dir, name)
		if err != nil {
			return err
		}
		if left -= n.Size; left < 0 || i >= lim.Files {
			return fmt.Errorf("take %q: %w", name, engine.ErrTooMuch)
		}
		got := engine.GotFile{Name: name, Mode: int64(n.Mode), Size: n.Size, MTime: time.Unix(n.MTime, 0)}
		if err := fn(got, bytes.NewReader(n.content)); err != nil {
			return err
		}
	}
	return nil
}

// expand replaces "*".
func (f *Files) expand(dir string, names []string) []string {
	var all []string
	for _, name := range names {
		if name != "*" {
			all = append(all, name)
			continue
		}
		for _, p := range f.Names() {
			if path.Dir(p) == dir && p != "." && f.nodes[p].Type == tree.TypeFile {
				all = append(all, path.Base(p))
			}
		}
	}
	return all
}

// plain returns a regular file with one name.
func (f *Files) plain(dir, name string) (*node, error) {
	if name != path.Base(name) || name == ".." || name == "." {
		return nil, fault.New(fault.Input, "take %q: not a base name", name)
	}
	n := f.nodes[clean(dir+"/"+name)]
	if n == nil {
		return nil, fmt.Errorf("take %q: %w: %w", name, engine.ErrNotFound, fs.ErrNotExist)
	}
	links := 0
	for _, other := range f.nodes {
		if other == n {
			links++
		}
	}
	if n.Type != tree.TypeFile || links != 1 {
		return nil, fault.New(fault.Input, "take %q: not a regular file with one name", name)
	}
	return n, nil
}
