// Package tree is dbuild's own idea of a root file system that is the same on
// every engine: a manifest of its entries, a digest over them, a canonical tar,
// a seal that finds later changes without reading contents, and a scan for
// things that an image must not hold.
//
// # Manifest
//
// A [Manifest] lists the entries of a tree in the order of [Compare]: bytes,
// component by component, so that a directory comes before its content. Its text
// form starts with the line
//
//	dbuild-tree 1
//
// and has one line for each entry, fields apart by one blank:
//
//	TYPE MODE UID GID PATH             d, a directory
//	TYPE MODE UID GID PATH opaque      d, one that hides the layers below
//	TYPE MODE UID GID PATH MTIME SIZE SHA256   f, a regular file
//	TYPE MODE UID GID PATH MTIME TARGET        l, a symbolic link
//	TYPE MODE UID GID PATH MTIME MAJOR:MINOR   c or b, a device
//	TYPE MODE UID GID PATH MTIME               p, a named pipe
//	TYPE 0 0 0 PATH                            w, a whiteout
//
// A regular file may be followed by "link=PATH", the first name of its group
// of hard links in manifest order (the first one itself has none), and then by
// "caps=HEX", its file capabilities in the form of version 2. MODE is octal
// without leading zeros and holds the twelve permission bits; UID and GID are
// those of the container; MTIME is in whole seconds since 1970 and may be
// negative. In PATH and TARGET every byte outside "!" to "~", and the
// backslash, is written as \xHH in lower-case hex. The root is ".".
//
// Directories carry no time, because engines do not keep it. Sockets are not
// part of a tree: no tar can hold them.
//
// # Digest
//
// [Manifest.Digest] is the SHA-256 of that text for the tree without what every
// engine replaces (see [Replaced]); hard links are grouped anew among what is
// left.
//
// # Layers
//
// A layer is a directory as overlayfs writes it: whiteouts are character
// devices 0/0, or empty files with the attribute user.overlay.whiteout;
// user.overlay.opaque marks directories that hide what is below. Other
// user.overlay attributes are the engine's own notes and left out, except
// redirect and metacopy, which move content elsewhere and are refused.
// [Merge] puts layers together.
package tree

import "strings"

// Digest is the canonical digest of a tree, "sha256:" and 64 hex digits of
// lower case.
type Digest string

// Type is the kind of an entry, as its letter in the manifest.
type Type byte

// The types.
const (
	TypeFile     Type = 'f'
	TypeDir      Type = 'd'
	TypeSymlink  Type = 'l'
	TypeChar     Type = 'c'
	TypeBlock    Type = 'b'
	TypeFIFO     Type = 'p'
	TypeSocket   Type = 's' // only within layers and seals
	TypeWhiteout Type = 'w' // only within layers and seals
)

// Entry is one name in a tree.
type Entry struct {
	Path     string // clean, relative, "." for the root
	Type     Type
	Opaque   bool   // of a directory in a layer: hides what is below
	Mode     uint32 // permission bits, 07777
	UID, GID int    // as seen in the container
	Size     int64  // of a regular file, bytes
	MTime    int64  // seconds since 1970; 0 for directories
	Link     string // target of a symbolic link
	HardLink string // first member of the group of hard links; "" for that one and for a file with one name

	// SHA256 is the hash of a regular file's content; zero after [List], which
	// reads no contents.
	SHA256 [32]byte
	Caps   string // file capabilities, normalised to version 2; "" for none
	Dev    uint64 // of a device, as unix.Mkdev makes it

	// Layer counts from 0 for the lowest and is set by [Merge]: the layer
	// that holds the entry. It is no part of the manifest.
	Layer int
}

// Manifest is the list of a tree's entries in the order of [Compare]; the
// first is the root.
type Manifest []Entry

// IDMap is a range of host user and group ids that stands for the container
// ids 0 to Size-1. The zero value maps every id to itself.
type IDMap struct{ HostUID, HostGID, Size int }

// identity reports whether ids are the same inside and outside.
func (m IDMap) identity() bool { return m == IDMap{} }

// Container maps host ids to container ids; ok is false for an id outside.
func (m IDMap) Container(uid, gid uint32) (u, g int, ok bool) {
	if m.identity() {
		return int(uid), int(gid), true
	}
	u, g = int(uid)-m.HostUID, int(gid)-m.HostGID
	return u, g, u >= 0 && u < m.Size && g >= 0 && g < m.Size
}

// Layers says where the content of a merged manifest is stored.
type Layers struct {
	Dirs []string // lowest first
	Map  IDMap    // of all of them
}

// Replaced reports whether every engine puts its own file or file system over
// path: what lies below dev, proc, sys, run and tmp (not these directories
// themselves), below etc the files of name resolution and mtab, which Docker
// makes a link to /proc/mounts, and .dockerenv.
func Replaced(path string) bool {
	switch path {
	case "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab", ".dockerenv":
		return true
	}
	top, _, below := strings.Cut(path, "/")
	if !below {
		return false
	}
	switch top {
	case "dev", "proc", "sys", "run", "tmp":
		return true
	}
	return false
}

// Compare orders paths as manifests do: byte by byte with "/" before all other
// bytes, which puts a directory right before its content, and the root first.
func Compare(a, b string) int {
	if a == b {
		return 0
	}
	if a == "." {
		return -1
	}
	if b == "." {
		return 1
	}
	n := min(len(a), len(b))
	for i := range n {
		if a[i] == b[i] {
			continue
		}
		if a[i] == '/' || b[i] != '/' && a[i] < b[i] {
			return -1
		}
		return 1
	}
	return len(a) - len(b)
}

// DamagedError says that stored files differ from what was recorded.
type DamagedError struct {
	Path string // within the tree
	What string // the difference, for people
}

// Error names the path and the difference.
func (e *DamagedError) Error() string { return "stored file \"" + e.Path + "\" " + e.What }
