package archive

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"dbuild/internal/fault"
)

// Extend adds fetched files to a view of sts that a container may be using
// already: they appear in it at once, each whole. Only an engine that binds
// trees, rather than sending them, shows them. Files of other archive roots
// are left out, and those that are there already stay.
func (c *Copy) Extend(v *View, sts []*State, files []File) error {
	for n, st := range sts {
		if err := c.layFiles(v, n, st, files); err != nil {
			return fmt.Errorf("extend archive view: %w", err)
		}
	}
	return nil
}

// Sum is a SHA-256 over all of the view but the archives themselves: what tells
// apt which to read and which keys to trust.
func (v *View) Sum() (string, error) {
	names, err := filepath.Glob(filepath.Join(v.Dir, "keys", "*"))
	if err != nil {
		return "", err
	}
	slices.Sort(names)
	for _, name := range []string{"sources.list", "preferences", "apt.conf"} {
		names = append(names, filepath.Join(v.Dir, name))
	}
	h := sha256.New()
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d\n%s", filepath.Base(name), len(data), data)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// AddFiles adds a directory beside the archives, for what apt made of them: files
// are name → file of this machine.
func (v *View) AddFiles(dir string, files map[string]string) error {
	for name, file := range files {
		if !filepath.IsLocal(name) {
			return fault.New(fault.Internal, "unsafe file name %q", name)
		}
		if err := link(file, filepath.Join(v.Dir, dir, name)); err != nil {
			return err
		}
	}
	return nil
}
