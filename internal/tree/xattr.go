package tree

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	capsAttr    = "security.capability"
	overlayAttr = "user.overlay."

	capsSize      = 20 // struct vfs_cap_data of version 2
	nsCapsSize    = 24 // struct vfs_ns_cap_data, version 3: the same and a root id
	capsRevMask   = 0xff000000
	capsRevision2 = 0x02000000
	capsRevision3 = 0x03000000
)

// attrs are the extended attributes of one file that dbuild looks at.
type attrs struct {
	caps     string
	opaque   bool
	whiteout bool
	// rest is a hash of the other attributes that travel with a file:
	// user.* and access lists; zero for none.
	rest [sha256.Size]byte
}

// readAttrs reads the attributes of an open file or directory. What security
// modules write (security.selinux and the like) belongs to the host and is
// left out.
func readAttrs(fd int, m IDMap) (a attrs, err error) {
	var few [512]byte
	names, err := listAttrs(fd, few[:])
	if err != nil || len(names) == 0 {
		return a, err
	}
	slices.Sort(names)
	rest := sha256.New()
	some := false
	for _, name := range names {
		covered := strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "system.posix_acl_")
		if name != capsAttr && !covered {
			continue
		}
		value, err := getAttr(fd, name)
		if err != nil {
			return a, fmt.Errorf("read attribute %q: %w", name, err)
		}
		switch {
		case name == capsAttr:
			a.caps, err = normaliseCaps(value, m)
		case strings.HasPrefix(name, overlayAttr):
			err = a.overlay(strings.TrimPrefix(name, overlayAttr), value)
		default:
			some = true
			var size [8]byte
			for _, part := range [][]byte{[]byte(name), value} {
				binary.LittleEndian.PutUint64(size[:], uint64(len(part)))
				_, _ = rest.Write(size[:])
				_, _ = rest.Write(part)
			}
		}
		if err != nil {
			return a, err
		}
	}
	if some {
		rest.Sum(a.rest[:0])
	}
	return a, nil
}

// overlay takes one attribute of overlayfs ("userxattr" form). Value "x" of
// opaque says only that the directory holds whiteouts made of attributes.
func (a *attrs) overlay(name string, value []byte) error {
	switch name {
	case "opaque":
		a.opaque = string(value) == "y"
	case "whiteout":
		a.whiteout = true
	case "redirect", "metacopy":
		return fmt.Errorf("overlay attribute %q: %w", name, errors.ErrUnsupported)
	}
	return nil
}

// normaliseCaps turns file capabilities into version 2, the form without a
// root id. Version 3 must name the container's root; version 2 as seen from
// outside a shifted tree would be the host's own, and is refused.
func normaliseCaps(v []byte, m IDMap) (string, error) {
	if len(v) < 4 {
		return "", fmt.Errorf("file capabilities of %d bytes: %w", len(v), errors.ErrUnsupported)
	}
	magic := binary.LittleEndian.Uint32(v)
	root := 0
	switch {
	case magic&capsRevMask == capsRevision2 && len(v) == capsSize:
	case magic&capsRevMask == capsRevision3 && len(v) == nsCapsSize:
		root = int(binary.LittleEndian.Uint32(v[capsSize:]))
	default:
		return "", fmt.Errorf("file capabilities %#x of %d bytes: %w", magic, len(v), errors.ErrUnsupported)
	}
	if root != m.HostUID {
		return "", fmt.Errorf("file capabilities of root id %d: %w", root, ErrOutside)
	}
	out := slices.Clone(v[:capsSize])
	binary.LittleEndian.PutUint32(out, magic&^uint32(capsRevMask)|capsRevision2)
	return string(out), nil
}

// listAttrs returns the names of fd's attributes; none where the file system
// has no attributes. buf is scratch space.
func listAttrs(fd int, buf []byte) ([]string, error) {
	n, err := retry(func() (int, error) { return unix.Flistxattr(fd, buf) })
	for errors.Is(err, unix.ERANGE) {
		buf = make([]byte, 64<<10) // XATTR_LIST_MAX
		n, err = retry(func() (int, error) { return unix.Flistxattr(fd, buf) })
	}
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list attributes: %w", err)
	}
	if n == 0 {
		return nil, nil
	}
	return strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00"), nil
}

func getAttr(fd int, name string) ([]byte, error) {
	buf := make([]byte, 256)
	n, err := retry(func() (int, error) { return unix.Fgetxattr(fd, name, buf) })
	if errors.Is(err, unix.ERANGE) {
		buf = make([]byte, 64<<10) // XATTR_SIZE_MAX
		n, err = retry(func() (int, error) { return unix.Fgetxattr(fd, name, buf) })
	}
	if err != nil {
		return nil, err
	}
	return buf[:n], nil
}
