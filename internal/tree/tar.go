package tree

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// TarOptions change what [WriteTar] writes.
type TarOptions struct {
	Clamp       int64 // times of files above it are written as it, seconds since 1970; 0: none
	OmitDevices bool  // leave out the device nodes of the /dev skeleton
	Trust       bool  // do not hash contents whose hash is known; sizes, modes and owners are checked all the same
}

// capsRecord carries file capabilities, as GNU tar and Docker do.
const capsRecord = "SCHILY.xattr." + capsAttr

// WriteTar writes the canonical tar of a tree and returns the manifest of what
// it wrote. The tree is given by its merged manifest; contents are read from
// the layers, several files at a time, and checked against their hashes. Hashes
// that are not known yet (see [List]) are filled in, so that one pass over the
// files gives tar and digest. A file that differs is a [*DamagedError], with
// part of the tar written.
//
// Equal trees give equal bytes: entries in manifest order without what every
// engine replaces, names with a leading "./" and directories with a trailing
// "/", ustar headers with pax records only where ustar cannot say it, no user
// or group names, times in whole seconds, hard links to the first name of their
// group, file capabilities of version 2 in a SCHILY.xattr record. Directories
// have no time in a manifest; all get the newest time of the other entries.
// Below dev stands the fixed set of devices and links that mmdebstrap writes,
// if the tree has a directory dev.
func WriteTar(ctx context.Context, w io.Writer, merged Manifest, l Layers, o TarOptions) (Manifest, error) {
	m := merged.Canonical()
	newest := int64(math.MinInt64)
	for i := range m {
		e := &m[i]
		if o.Clamp != 0 && e.Type != TypeDir {
			e.MTime = min(e.MTime, o.Clamp)
		}
		if e.Type != TypeDir {
			newest = max(newest, e.MTime)
		}
	}
	if newest == math.MinInt64 {
		newest = 0
	}
	p := &packer{m: m, layers: l, options: o, dirTime: newest}
	if err := p.run(ctx, w); err != nil {
		return nil, fmt.Errorf("write tar: %w", err)
	}
	fillLinks(m)
	return m, nil
}

// fillLinks copies hashes to hard links.
func fillLinks(m Manifest) {
	sums := make(map[string][32]byte)
	for i := range m {
		if m[i].HardLink != "" {
			sums[m[i].HardLink] = [32]byte{}
		}
	}
	for i := range m {
		if _, ok := sums[m[i].Path]; ok {
			sums[m[i].Path] = m[i].SHA256
		}
		if m[i].HardLink != "" {
			m[i].SHA256 = sums[m[i].HardLink]
		}
	}
}

// header makes the tar header of e.
func header(e *Entry, dirTime int64) (*tar.Header, error) {
	h := &tar.Header{Name: "./" + e.Path, Mode: int64(e.Mode), Uid: e.UID, Gid: e.GID, ModTime: time.Unix(e.MTime, 0)}
	switch e.Type {
	case TypeDir:
		h.Typeflag, h.ModTime = tar.TypeDir, time.Unix(dirTime, 0)
		h.Name += "/"
		if e.Path == "." {
			h.Name = "./"
		}
	case TypeFile:
		if e.HardLink != "" {
			h.Typeflag, h.Linkname = tar.TypeLink, "./"+e.HardLink
			return h, nil
		}
		h.Typeflag, h.Size = tar.TypeReg, e.Size
		if e.Caps != "" {
			h.PAXRecords = map[string]string{capsRecord: e.Caps}
		}
	case TypeSymlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.Link
	case TypeChar, TypeBlock:
		h.Typeflag = tar.TypeChar
		if e.Type == TypeBlock {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(e.Dev)), int64(unix.Minor(e.Dev))
	case TypeFIFO:
		h.Typeflag = tar.TypeFifo
	default:
		return nil, fmt.Errorf("%q: %s in a merged tree", e.Path, e.Type.words())
	}
	return h, nil
}

// devSkeleton is what stands below dev in every tar, in the order and with the
// modes of mmdebstrap's list: enough to use the tree without an engine.
func devSkeleton(mtime int64, nodes bool) []Entry {
	node := func(name string, major, minor uint32) Entry {
		return Entry{Path: "dev/" + name, Type: TypeChar, Mode: 0o666, MTime: mtime, Dev: unix.Mkdev(major, minor)}
	}
	fd := func(name string, n int) Entry {
		e := Entry{Path: "dev/" + name, Type: TypeSymlink, Mode: 0o777, MTime: mtime, Link: "/proc/self/fd"}
		if n >= 0 {
			e.Link += "/" + strconv.Itoa(n)
		}
		return e
	}
	all := []Entry{
		node("console", 5, 1),
		fd("fd", -1),
		node("full", 1, 7),
		node("null", 1, 3),
		node("ptmx", 5, 2),
		{Path: "dev/pts", Type: TypeDir, Mode: 0o755},
		node("random", 1, 8),
		{Path: "dev/shm", Type: TypeDir, Mode: 0o755},
		fd("stderr", 2),
		fd("stdin", 0),
		fd("stdout", 1),
		node("tty", 5, 0),
		node("urandom", 1, 9),
		node("zero", 1, 5),
	}
	if nodes {
		return all
	}
	kept := all[:0]
	for _, e := range all {
		if e.Type != TypeChar {
			kept = append(kept, e)
		}
	}
	return kept
}
