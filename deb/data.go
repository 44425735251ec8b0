package deb

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// Bounds of a .deb's data part.
const (
	maxData        = 256 << 30 // bytes, unpacked
	maxDataMembers = 10_000_000
)

// CheckData reads all of the data part of the .deb that r reads, which must be
// the one that OpenDeb read, and calls fn, if there is one, with each member's
// path, without a "./" before and a slash behind. It refuses what dpkg could
// not unpack, and what it must not: a path that is not below the root, or that
// leads through a symbolic link of the same package. Nothing is written.
func (b *BinaryFile) CheckData(r io.ReaderAt, fn func(path string, h *tar.Header)) (err error) {
	data, err := b.Data(r)
	if err != nil {
		return fmt.Errorf("read deb: %s: %w", b.DataName, err)
	}
	defer data.Close()
	bounded := newBoundedReader(data, maxData, "data archive")
	if err := checkDataTar(tar.NewReader(bounded), fn); err != nil {
		return fmt.Errorf("read deb: %s: %w", b.DataName, err)
	}
	// What follows the end of the tar must decompress too.
	if _, err := io.Copy(io.Discard, bounded); err != nil {
		return fmt.Errorf("read deb: %s: %w", b.DataName, err)
	}
	return nil
}

func checkDataTar(t *tar.Reader, fn func(path string, h *tar.Header)) error {
	links := map[string]bool{}
	for n := 0; ; n++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if n == maxDataMembers {
			return &LimitError{What: "members of the data archive", Limit: maxDataMembers}
		}
		name, err := dataPath(h.Name)
		if err != nil {
			return err
		}
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if links[dir] {
				return fmt.Errorf("path %q leads through a symbolic link", h.Name)
			}
		}
		if h.Typeflag == tar.TypeLink {
			if _, err := dataPath(h.Linkname); err != nil {
				return err
			}
		}
		links[name] = h.Typeflag == tar.TypeSymlink
		if fn != nil && name != "." {
			fn(name, h)
		}
	}
}

// dataPath returns a member's path below the root.
func dataPath(name string) (string, error) {
	rel := strings.TrimSuffix(strings.TrimPrefix(name, "./"), "/")
	if rel == "" || rel == "." {
		return ".", nil
	}
	if path.Clean("/" + rel)[1:] != rel || strings.ContainsAny(rel, "\n\r\x00") {
		return "", fmt.Errorf("path %q is not a plain path below the root", name)
	}
	return rel, nil
}
