package tree

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
)

// CopyTar writes the canonical tar of a tree, as [WriteTar] does, with contents
// from another tar of it whose entries have the order of a manifest. M is what
// [ReadTar] said about that tar; a tar that does not fit is a [*DamagedError].
func CopyTar(ctx context.Context, w io.Writer, m Manifest, from io.Reader, o TarOptions) error {
	c := &tarCopier{in: tar.NewReader(from), out: tar.NewWriter(w), dirTime: math.MinInt64}
	m = m.Canonical()
	for i := range m {
		e := &m[i]
		if e.Type == TypeDir {
			continue
		}
		if o.Clamp != 0 {
			e.MTime = min(e.MTime, o.Clamp)
		}
		c.dirTime = max(c.dirTime, e.MTime)
	}
	if c.dirTime == math.MinInt64 {
		c.dirTime = 0
	}
	for i := range m {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("write tar: %w", err)
		}
		if err := c.entry(&m[i]); err != nil {
			return fmt.Errorf("write tar: %w", err)
		}
		if m[i].Path != "dev" || m[i].Type != TypeDir {
			continue
		}
		for _, e := range devSkeleton(c.dirTime, !o.OmitDevices) {
			if err := c.head(&e); err != nil {
				return fmt.Errorf("write tar: %w", err)
			}
		}
	}
	if err := c.out.Close(); err != nil {
		return fmt.Errorf("write tar: %w", err)
	}
	return nil
}

type tarCopier struct {
	in      *tar.Reader
	out     *tar.Writer
	dirTime int64
}

func (c *tarCopier) head(e *Entry) error {
	h, err := header(e, c.dirTime)
	if err != nil {
		return err
	}
	return c.out.WriteHeader(h)
}

func (c *tarCopier) entry(e *Entry) error {
	if err := c.head(e); err != nil || e.Type != TypeFile || e.HardLink != "" {
		return err
	}
	for {
		h, err := c.in.Next()
		if errors.Is(err, io.EOF) {
			return &DamagedError{e.Path, "is not in the tar, or not where it should be"}
		}
		if err != nil {
			return err
		}
		if tarPath(h.Name) != e.Path {
			continue
		}
		if n, err := io.Copy(c.out, c.in); err != nil || n != e.Size {
			return errors.Join(&DamagedError{e.Path, "has another size in the tar"}, err)
		}
		return nil
	}
}
