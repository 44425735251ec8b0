package dsc

import (
	"archive/tar"
	"compress/bzip2"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"dbuild/deb"
	"dbuild/internal/fault"
)

const (
	maxMembers = 1_000_000 // of a tarball that is looked into
	minUnpack  = 128 << 20 // bytes that any tarball may unpack to …
	maxRatio   = 100       // … and beyond that, times its size
)

// errBomb is what reading past the bound of a tarball gives.
var errBomb = fault.New(fault.Resource, "it unpacks to more than %d times its size", maxRatio)

// ReadPackaging reads debian/control and debian/changelog from inside the
// package and fills in [Source.Packaging]: who needs the suite that the
// changelog names, or Rules-Requires-Root, which no .dsc carries. For a tree it
// does nothing. Nothing is unpacked to disk; a tarball that unpacks to an absurd
// size is [fault.Resource]. Packages compressed with lzma cannot be looked into.
func (s *Source) ReadPackaging(ctx context.Context) error {
	if s.Control != nil {
		return nil
	}
	f, layers, err := s.packagingFile()
	if err != nil {
		return err
	}
	found, err := f.readDebian(ctx, layers)
	if err == nil {
		err = s.setPackaging(found)
	}
	if err != nil {
		return fmt.Errorf("look into %q: %w", f.Name, err)
	}
	return nil
}

func (s *Source) setPackaging(found debianFiles) error {
	if found.control == nil || found.changelog == nil {
		return fault.New(fault.Input, "it has no debian/control or no debian/changelog")
	}
	p, err := parsePackaging(found.control, found.changelog)
	if err != nil {
		return err
	}
	if name := p.Control.Get("Source"); name != s.Name {
		return fault.New(fault.Input, "debian/control is about %q, the .dsc about %q", name, s.Name)
	}
	s.Packaging = p
	return nil
}

// packagingFile returns the file that the debian directory comes from, and
// how many directories lie above it there.
func (s *Source) packagingFile() (f File, layers int, err error) {
	for _, f = range s.Files {
		p, ok := s.part(f.Name)
		if !ok || p.signature {
			continue
		}
		switch {
		case p.kind == ".debian":
			return f, 0, nil
		case p.suffix == ".diff.gz":
			return f, 1, nil
		}
	}
	for _, f = range s.Files {
		if p, ok := s.part(f.Name); ok && !p.signature && (p.kind == "" || p.kind == ".orig") {
			return f, 1, nil
		}
	}
	return File{}, 0, fault.New(fault.Input, "source package %s has no files", s.ID())
}

// debianFiles are the two files, nil if they were not found.
type debianFiles struct{ control, changelog []byte }

// take reads r if name is one of them.
func (d *debianFiles) take(name string, r io.Reader) error {
	var to *[]byte
	limit := int64(maxControl)
	switch name {
	case "debian/control":
		to = &d.control
	case "debian/changelog":
		to, limit = &d.changelog, maxChangelog
	default:
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fault.New(fault.Input, "%s is larger than %d bytes", name, limit)
	}
	*to = b
	return err
}

func (d *debianFiles) complete() bool { return d.control != nil && d.changelog != nil }

// readDebian looks for the two files in a tarball or diff, then reads the rest
// without unpacking it, so that what was found comes from the verified bytes.
func (f File) readDebian(ctx context.Context, layers int) (d debianFiles, err error) {
	in, err := f.Open()
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	raw := ctxReader{ctx, in}
	plain, err := decompress(f.Name, raw)
	if err != nil {
		return d, fault.Wrap(fault.Input, err)
	}
	bounded := &cappedReader{r: plain, left: max(minUnpack, maxRatio*f.Size)}
	if strings.HasSuffix(f.Name, ".diff.gz") {
		err = d.readDiff(bounded)
	} else {
		err = d.readTar(bounded, layers)
	}
	err = errors.Join(err, plain.Close())
	if ctx.Err() != nil {
		return d, ctx.Err()
	}
	if err != nil {
		return d, fault.Wrap(fault.Input, err)
	}
	_, err = io.Copy(io.Discard, raw)
	return d, err
}

func decompress(name string, r io.Reader) (io.ReadCloser, error) {
	if strings.HasSuffix(name, ".bz2") {
		return io.NopCloser(bzip2.NewReader(r)), nil
	}
	return deb.Decompress(name, r)
}

// cappedReader fails with errBomb at its bound.
type cappedReader struct {
	r    io.Reader
	left int64
}

func (c *cappedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if c.left -= int64(n); c.left < 0 {
		return 0, errBomb
	}
	return n, err
}

// readTar looks at regular files only; what links would make of the tree is
// not worth to know here.
func (d *debianFiles) readTar(r io.Reader, layers int) error {
	in := tar.NewReader(r)
	for range maxMembers {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if err := d.take(below(h.Name, layers), in); err != nil {
			return err
		}
		if d.complete() {
			return nil
		}
	}
	return fault.New(fault.Resource, "it has more than %d members", maxMembers)
}

// below returns the part of a path under so many directories.
func below(name string, layers int) string {
	name = strings.TrimPrefix(name, "./")
	for range layers {
		_, name, _ = strings.Cut(name, "/")
	}
	return name
}
