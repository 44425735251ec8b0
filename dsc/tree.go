package dsc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"dbuild/deb"
	"dbuild/internal/fault"
)

const (
	maxControl   = 10 << 20 // bytes of debian/control
	maxChangelog = 64 << 20 // bytes of debian/changelog
	maxEntries   = 200      // changelog entries that are kept
)

// ReadTree reads an unpacked source package: debian/control, debian/changelog
// and debian/source/format, and nothing else. Symbolic links are followed
// below dir only. Files and Dsc of the result are empty; see [FindOrig].
func ReadTree(ctx context.Context, dir string) (*Source, error) {
	s, err := readTree(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("read source tree %q: %w", dir, err)
	}
	return s, nil
}

func readTree(ctx context.Context, dir string) (*Source, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fault.Wrap(fault.Input, err)
	}
	root, err := os.OpenRoot(abs)
	if err != nil {
		return nil, fault.Wrap(fault.Input, err)
	}
	defer root.Close()
	control, err := readBeneath(root, "debian/control", maxControl)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.WithHint(err, "name a .dsc, a directory that holds debian/control, or a package of the archive")
	}
	if err != nil {
		return nil, err
	}
	changelog, err := readBeneath(root, "debian/changelog", maxChangelog)
	if err != nil {
		return nil, err
	}
	format, err := readBeneath(root, "debian/source/format", 4<<10)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s := &Source{Tree: abs, Origin: dir}
	if s.Packaging, err = parsePackaging(control, changelog); err != nil {
		return nil, err
	}
	return s, fault.Wrap(fault.Input, s.fromPackaging(format))
}

// fromPackaging fills in what a .dsc would say.
func (s *Source) fromPackaging(format []byte) (err error) {
	s.Paragraph = s.Control
	if s.Name = s.Control.Get("Source"); s.Name != s.Entry().Source {
		return fmt.Errorf("debian/control is about %q, debian/changelog about %q", s.Name, s.Entry().Source)
	}
	if s.Version, err = deb.ParseVersion(s.Entry().Version); err != nil {
		return err
	}
	if err := deb.CheckFileName(s.ID()); err != nil {
		return err
	}
	s.Format = "1.0"
	if line, _, _ := strings.Cut(string(format), "\n"); strings.TrimSpace(line) != "" {
		s.Format = strings.TrimSpace(line)
	}
	if err := checkFormat(s.Format); err != nil {
		return fmt.Errorf("debian/source/format: %w", err)
	}
	for _, b := range s.Binaries {
		s.Binary = append(s.Binary, b.Get("Package"))
		list, err := architectures(b.Get("Architecture"))
		if err != nil {
			return fmt.Errorf("debian/control: %w", err)
		}
		s.Architecture = append(s.Architecture, list...)
	}
	slices.Sort(s.Architecture)
	s.Architecture = slices.Compact(s.Architecture)
	s.Component = componentOf(s.Control.Get("Section"))
	return s.checkRelations()
}

// readBeneath reads a regular file below root without waiting.
func readBeneath(root *os.Root, name string, limit int64) ([]byte, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fault.Wrap(fault.Input, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fault.New(fault.Input, "%s is not a regular file", name)
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fault.New(fault.Input, "%s is larger than %d bytes", name, limit)
	}
	return b, err
}

// parsePackaging reads the two files that every source package has.
func parsePackaging(control, changelog []byte) (p Packaging, err error) {
	if p.Changelog, err = deb.ParseChangelog(bytes.NewReader(changelog), maxEntries); err != nil {
		return p, fault.Wrap(fault.Input, fmt.Errorf("debian/changelog: %w", err))
	}
	r := deb.NewControlReader(bytes.NewReader(control), deb.Limits{Document: maxControl, Field: 4 << 20})
	seen := make(map[string]bool)
	for {
		stanza, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return p, fault.Wrap(fault.Input, fmt.Errorf("debian/control: %w", err))
		}
		field := "Package"
		if p.Control == nil {
			field = "Source"
		}
		name := stanza.Get(field)
		if err := deb.CheckPackageName(name); err != nil {
			return p, fault.New(fault.Input, "debian/control: field %s: %w", field, err)
		}
		if p.Control == nil {
			p.Control = stanza
			continue
		}
		if seen[name] {
			return p, fault.New(fault.Input, "debian/control: package %q is there twice", name)
		}
		seen[name] = true
		p.Binaries = append(p.Binaries, stanza)
	}
	if len(p.Binaries) == 0 {
		return p, fault.New(fault.Input, "debian/control: no binary package")
	}
	return p, nil
}
