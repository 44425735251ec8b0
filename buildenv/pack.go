package buildenv

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"dbuild/dsc"
	"dbuild/engine"
	"dbuild/internal/fault"
)

// vcsDirs are never part of a source package: dpkg-source leaves them out in
// every format but 1.0, and they can be larger than the source.
var vcsDirs = map[string]bool{".git": true, ".hg": true, ".svn": true, ".bzr": true, "CVS": true, "_darcs": true}

// pack makes the .dsc of a source tree with dpkg-source -b in a container of
// its own: of the base image, or with --clean-source of the deps image after
// the clean target ran there. The source is then as good as one that was given
// as .dsc.
func (b *build) pack(ctx context.Context) (err error) {
	image, hit, check := b.base, b.res.Base.Hit, b.baseCheck
	if b.req.CleanSource {
		image, hit, check = b.deps, b.res.Deps.Hit, b.depsCheck
	}
	if err := b.checkImage(hit, check); err != nil {
		return err
	}
	c, err := b.Engine.Create(ctx, b.spec(image.Image.ID, engine.PurposeBuild))
	if err != nil {
		return EngineError(ctx, fmt.Errorf("create container for the source tree: %w", err))
	}
	defer func() { err = errors.Join(err, c.Close(context.WithoutCancel(ctx))) }()
	b.log.Printf("Pack source tree\n----------------\n")
	if err := b.putTree(ctx, c); err != nil {
		return err
	}
	tree := path.Join(buildRoot, b.treeName())
	if b.req.CleanSource {
		if err := b.userStep(ctx, c, tree, "dpkg-buildpackage", "--sanitize-env", "-us", "-uc", "-T", "clean"); err != nil {
			return err
		}
	}
	if err := b.userStep(ctx, c, buildRoot, "dpkg-source", "-b", b.treeName()); err != nil {
		return fault.WithHint(err, "see the log %s", b.res.Log)
	}
	if err := c.Quiesce(ctx); err != nil {
		return err
	}
	return b.takeSource(ctx, c)
}

// takeSource takes the new .dsc and its files out and reads them as strictly
// as a foreign one.
func (b *build) takeSource(ctx context.Context, c engine.Container) error {
	dir := filepath.Join(b.dir, "source")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	name := b.src.ID() + ".dsc"
	if err := takeFiles(ctx, c, dir, []string{name}, nil); err != nil {
		return err
	}
	path := filepath.Join(dir, name)
	names, err := dsc.ListedFiles(path)
	if err != nil {
		return err
	}
	if err := takeFiles(ctx, c, dir, names, nil); err != nil {
		return err
	}
	packed, err := dsc.Read(ctx, path, dsc.Options{Now: b.Now()})
	if err != nil {
		return err
	}
	if packed.ID() != b.src.ID() {
		return fault.New(fault.Input, "the tree packs as %s, its changelog says %s", packed.ID(), b.src.ID())
	}
	packed.Packaging, packed.Component = b.src.Packaging, b.src.Component
	b.src, b.packed = packed, true
	return nil
}

// putTree sends the tree, and the orig tarballs that belong to it.
func (b *build) putTree(ctx context.Context, c engine.Container) error {
	origs, err := b.origs(ctx)
	if err != nil {
		return err
	}
	h := sha256.New()
	err = stream(ctx, c, h, func(tw *tar.Writer) error { return b.writeTree(ctx, tw, origs) })
	b.treeHash = hex.EncodeToString(h.Sum(nil))
	return err
}

// writeTree writes what a source tree is packed from.
func (b *build) writeTree(ctx context.Context, tw *tar.Writer, origs []dsc.File) error {
	root := strings.TrimPrefix(buildRoot, "/")
	if err := putDirs(tw, "build", root); err != nil {
		return err
	}
	if err := putSourceFiles(tw, root, origs); err != nil {
		return err
	}
	if err := putDirectory(ctx, tw, b.src.Tree, path.Join(root, b.treeName())); err != nil {
		return err
	}
	return tw.Close()
}

// putDirectory writes a host directory without following any link out of it.
// Links stay links: they mean something only inside the container.
func putDirectory(ctx context.Context, tw *tar.Writer, dir, target string) (err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fault.New(fault.Input, "open source tree %q: %w", dir, err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	return fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return fault.New(fault.Input, "read source tree: %w", err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if d.IsDir() && vcsDirs[d.Name()] {
			return fs.SkipDir
		}
		return putEntry(tw, root, name, path.Join(target, name))
	})
}

func putEntry(tw *tar.Writer, root *os.Root, name, target string) (err error) {
	fi, err := root.Lstat(name)
	if err != nil {
		return fault.New(fault.Input, "read source tree: %w", err)
	}
	u := builder()
	h := &tar.Header{Name: target, Mode: int64(fi.Mode().Perm()), Uid: u.UID, Gid: u.GID, ModTime: fi.ModTime().Truncate(time.Second)}
	switch {
	case fi.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, target+"/"
		return tw.WriteHeader(h)
	case fi.Mode()&fs.ModeSymlink != 0:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = root.Readlink(name); err != nil {
			return err
		}
		return tw.WriteHeader(h)
	case !fi.Mode().IsRegular():
		return fault.New(fault.Input, "source tree: %q is neither a file, a directory nor a link", name)
	}
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h.Typeflag, h.Size = tar.TypeReg, fi.Size()
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.Copy(tw, io.LimitReader(f, h.Size))
	if err == nil && n != h.Size {
		err = fault.New(fault.Input, "source tree: %q changed while it was read", name)
	}
	return err
}
