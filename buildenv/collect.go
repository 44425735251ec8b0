package buildenv

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"dbuild/deb"
	"dbuild/dsc"
	"dbuild/engine"
	"dbuild/internal/fault"
	"dbuild/sign"
)

// Bounds on what one build may hand out.
const (
	maxResults     = 10_000
	maxResultBytes = 64 << 30
	maxDocument    = sign.MaxDocument // of a .changes, .buildinfo or .dsc, which are read as a whole
)

// collect is stage 6: after everything in the container but the agent is dead,
// exactly the files that the .changes lists are taken, each checked against it.
func (b *build) collect(ctx context.Context) error {
	if err := b.container.Quiesce(ctx); err != nil {
		return EngineError(ctx, fmt.Errorf("end the build's processes: %w", err))
	}
	dir := filepath.Join(b.dir, "results")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	name := b.changesName()
	if err := takeFiles(ctx, b.container, dir, []string{name}, nil); err != nil {
		return err
	}
	raw, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	if b.changes, err = dsc.ReadChanges(raw); err != nil {
		return fault.New(fault.Build, "the build's %s: %w", name, err)
	}
	if err := b.checkChanges(); err != nil {
		return err
	}
	var names []string
	sizes := map[string]int64{}
	for _, f := range b.changes.Files {
		names = append(names, f.Name)
		sizes[f.Name] = f.Size
	}
	documents := []string{name}
	if b.req.SourceOnlyChanges && b.sourceChangesName() != name {
		names = append(names, b.sourceChangesName())
		documents = append(documents, b.sourceChangesName())
	}
	if err := takeFiles(ctx, b.container, dir, names, sizes); err != nil {
		return err
	}
	if err := b.verifyResults(ctx, dir, documents); err != nil {
		return err
	}
	if err := b.checkDocuments(); err != nil {
		return err
	}
	b.say("%d files", len(b.results))
	return b.container.Close(ctx)
}

// changesName is the name that dpkg-buildpackage gives the .changes.
func (b *build) changesName() string {
	arch := b.req.Arch
	switch b.buildType() {
	case "-A", "-g":
		arch = "all"
	case "-S":
		arch = "source"
	}
	return b.src.Name + "_" + b.src.Version.NoEpoch() + "_" + arch + ".changes"
}

// checkChanges compares what the build says of itself with what was asked: a
// build never chooses the name, version or suite it is published under.
func (b *build) checkChanges() error {
	c := b.changes
	switch {
	case c.Signed:
		return fault.New(fault.Build, "the build's .changes is signed; no key of yours can have done that")
	case c.Source != b.src.Name:
		return fault.New(fault.Build, "the build's .changes is for source %q, not %q", c.Source, b.src.Name)
	case len(c.Files) == 0:
		return fault.New(fault.Build, "the build's .changes lists no files")
	case b.req.Suite != "" && c.Distribution != b.suiteName():
		return fault.New(fault.Build, "the build's .changes is for %q, not %q", c.Distribution, b.suiteName())
	case c.SourceVersion.Compare(b.src.Version) != 0:
		return fault.New(fault.Build, "the build's .changes is for version %s, not %s", c.SourceVersion, b.src.Version)
	}
	return nil
}

// checkDocuments holds what the results say of the build against each other.
// Of the source, dpkg-buildpackage makes all anew but the upstream tarballs;
// the package had those in its hands, and must hand them out as they were.
func (b *build) checkDocuments() error {
	for _, f := range b.src.AllFiles() {
		r := b.find(f.Name)
		if r != nil && strings.Contains(f.Name, ".orig") && (r.Size != f.Size || r.SHA256 != f.SHA256) {
			return fault.New(fault.Build, "the build has changed its source file %q", f.Name)
		}
	}
	for _, r := range b.results {
		if filepath.Ext(r.Name) != ".buildinfo" {
			continue
		}
		raw, err := os.ReadFile(r.Path)
		if err != nil {
			return err
		}
		info, err := dsc.ReadBuildinfo(raw)
		if err == nil {
			err = info.Agrees(b.changes)
		}
		if err == nil && info.Signed {
			err = errors.New("it is signed; no key of yours can have done that")
		}
		if err != nil {
			return fault.New(fault.Build, "the build's %s: %w", r.Name, err)
		}
	}
	return nil
}

// isDocument reports whether dbuild reads a file of that name as a whole.
func isDocument(name string) bool {
	ext := filepath.Ext(name)
	return ext == ".changes" || ext == ".buildinfo" || ext == ".dsc"
}

// takeFiles copies regular files from the build area into dir, never through a
// link and never over an existing file. One that has not the size that sizes
// has for it is refused before it takes any space.
func takeFiles(ctx context.Context, c engine.Container, dir string, names []string, sizes map[string]int64) error {
	for _, n := range names {
		if err := deb.CheckFileName(n); err != nil {
			return fault.New(fault.Build, "the build names a file %q: %w", n, err)
		}
	}
	root, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	lim := engine.GetLimits{Files: maxResults, Bytes: maxResultBytes}
	err = c.GetFiles(ctx, buildRoot, names, lim, func(f engine.GotFile, r io.Reader) error {
		if size, ok := sizes[f.Name]; ok && f.Size != size {
			return fmt.Errorf("%q is not what the .changes lists: %d bytes, not %d", f.Name, f.Size, size)
		}
		if isDocument(f.Name) && f.Size > maxDocument {
			return fmt.Errorf("%q is longer than %d bytes", f.Name, maxDocument)
		}
		out, err := openOutput(root, f.Name, os.Geteuid(), os.Getegid())
		if err != nil {
			return err
		}
		_, err = io.Copy(out, r)
		return errors.Join(err, out.Close())
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, engine.ErrTooMuch):
		return fault.New(fault.Resource, "take results: %w", err)
	case errors.Is(err, unix.ENOSPC), ctx.Err() != nil:
		return err
	case errors.Is(err, engine.ErrLost):
		return EngineError(ctx, err)
	}
	return fault.New(fault.Build, "take results: %w", err)
}

// verifyResults compares size and SHA-256 of each file with the .changes; the
// documents are those that no other file lists.
func (b *build) verifyResults(ctx context.Context, dir string, documents []string) error {
	for _, f := range b.changes.Files {
		r, err := readResult(dir, f.Name)
		if err != nil {
			return err
		}
		if r.Size != f.Size || r.SHA256 != f.SHA256 {
			return fault.New(fault.Build, "%q is not what the .changes lists", f.Name)
		}
		b.results = append(b.results, r)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	for _, name := range documents {
		r, err := readResult(dir, name)
		if err != nil {
			return err
		}
		b.results = append(b.results, r)
	}
	if b.packed { // a tree's source package is a result, too
		for _, r := range b.sourceResults() {
			if b.find(r.Name) == nil {
				b.results = append(b.results, r)
			}
		}
	}
	return nil
}

// find returns the result of that name, or nil.
func (b *build) find(name string) *result {
	for i := range b.results {
		if b.results[i].Name == name {
			return &b.results[i]
		}
	}
	return nil
}

func readResult(dir, name string) (result, error) {
	path := filepath.Join(dir, name)
	size, sum, err := hashFile(path)
	return result{Name: name, Path: path, Size: size, SHA256: sum}, err
}

func hashFile(path string) (size int64, sum string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := sha256.New()
	if size, err = io.Copy(h, f); err != nil {
		return 0, "", err
	}
	return size, hex.EncodeToString(h.Sum(nil)), nil
}
