package dsc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"dbuild/archive"
	"dbuild/deb"
	"dbuild/internal/fault"
)

// ErrNoOrig says that a tree needs an upstream tarball and there is none.
var ErrNoOrig = errors.New("no upstream tarball")

// NeedsOrig reports whether building the source package takes upstream's
// tarball: always in format 3.0 (quilt); in 1.0 if the version has a revision.
func (s *Source) NeedsOrig() bool {
	return s.Format == "3.0 (quilt)" || s.Format == "1.0" && !s.Version.Native()
}

// FindOrig looks for upstream's tarballs of a tree in dirs, by default in the
// tree's parent directory: the main one, components, and their .asc. The
// first directory that has a main tarball is the one. Checksums are taken of
// what is found. The result is nil for a native package. If there is none the
// error is [ErrNoOrig]; a tree under pristine-tar, or [OrigFromArchive], may
// still have it: the former is for the caller, since it runs git inside of the
// container.
func FindOrig(ctx context.Context, s *Source, dirs ...string) ([]File, error) {
	if !s.NeedsOrig() {
		return nil, nil
	}
	if len(dirs) == 0 {
		dirs = []string{filepath.Dir(s.Tree)}
	}
	for _, dir := range dirs {
		files, err := s.origIn(ctx, dir)
		if err != nil {
			return nil, fmt.Errorf("look for upstream tarballs in %q: %w", dir, err)
		}
		if len(files) > 0 {
			return files, nil
		}
	}
	err := fault.New(fault.Input, "%w %s_%s.orig.tar.* in %q", ErrNoOrig, s.Name, s.Version.Upstream, dirs)
	return nil, fault.WithHint(err, "get it with origtargz or uscan")
}

// origIn collects the tarballs in one directory; none without a main one.
func (s *Source) origIn(ctx context.Context, dir string) ([]File, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.Wrap(fault.Input, err)
	}
	var files []File
	kinds := make(map[string]string)
	for _, e := range entries {
		p, ok := s.origPart(e.Name())
		if !ok {
			continue
		}
		if other := kinds[p.kind]; other != "" && !p.signature {
			return nil, fault.New(fault.Input, "both %q and %q are there, and only one can be meant", other, e.Name())
		}
		if !p.signature {
			kinds[p.kind] = e.Name()
		}
		f, err := hashFile(ctx, filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	if kinds[".orig"] == "" {
		return nil, nil
	}
	return withTarball(files), nil
}

// origPart is [Source.part] for upstream's files that the format can use.
func (s *Source) origPart(name string) (part, bool) {
	p, ok := s.part(name)
	return p, ok && strings.HasPrefix(p.kind, ".orig") && s.allows(p) && deb.CheckFileName(name) == nil
}

// withTarball drops signatures whose tarball is not there.
func withTarball(files []File) []File {
	have := make(map[string]bool)
	for _, f := range files {
		have[f.Name] = true
	}
	var kept []File
	for _, f := range files {
		if tarball, ok := strings.CutSuffix(f.Name, ".asc"); !ok || have[tarball] {
			kept = append(kept, f)
		}
	}
	return kept
}

// OrigFromArchive fetches upstream's tarballs of a tree from an archive that
// has any revision of the same upstream version, and links them into dir. The
// tarballs are those that the signed index names. If no state has one the error
// is [ErrNoOrig].
func OrigFromArchive(ctx context.Context, cp *archive.Copy, states []*archive.State, s *Source, dir string) ([]File, error) {
	if !s.NeedsOrig() {
		return nil, nil
	}
	found, err := lookUp(ctx, cp, states, nil, s.Name, "")
	if err != nil {
		return nil, err
	}
	for _, c := range found {
		v, err := deb.ParseVersion(c.entry.Version)
		if err != nil || v.Upstream != s.Version.Upstream {
			continue
		}
		wanted := c.files(func(name string) bool { _, ok := s.origPart(name); return ok })
		if len(wanted) == 0 {
			continue
		}
		return fetchInto(ctx, cp, wanted, dir)
	}
	return nil, fault.New(fault.Input, "%w %s_%s.orig.tar.* in the archive", ErrNoOrig, s.Name, s.Version.Upstream)
}
