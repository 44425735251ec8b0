package native

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"dbuild/engine"
	"dbuild/internal/atomicfile"
	"dbuild/internal/fault"
)

// Commit makes an image of the container's root: the writable layer is synced
// and renamed into the store, and the record written last.
func (c *container) Commit(ctx context.Context, cfg engine.Config) (engine.Image, error) {
	if err := c.order.Commit(); err != nil {
		return engine.Image{}, fmt.Errorf("commit container %q: %w", c.id, err)
	}
	r, err := c.toLayer(ctx, imageRecord{ID: engine.ImageID(newID()), Tag: cfg.Tag, Labels: cfg.Labels}, true)
	if err != nil {
		return engine.Image{}, fmt.Errorf("commit container %q: %w", c.id, err)
	}
	return r.image(), nil
}

// Keep makes the writable layer a kept image under the container's ID. It is
// not synced: a power cut may damage it, and nothing but a look at a failed
// build depends on it.
func (c *container) Keep(ctx context.Context) (engine.ImageID, error) {
	if err := c.order.Keep(); err != nil {
		return "", fmt.Errorf("keep container: %w", err)
	}
	r, err := c.toLayer(ctx, imageRecord{ID: engine.ImageID(c.id), Kept: true}, false)
	if err != nil {
		return "", fmt.Errorf("keep container %q: %w", c.id, err)
	}
	return r.ID, nil
}

// toLayer turns the container's directory into the layer of r. The lock stays
// on the directory all the way, so that no Reap takes the layer for a leftover
// before its record exists.
func (c *container) toLayer(ctx context.Context, r imageRecord, sync bool) (imageRecord, error) {
	if err := ctx.Err(); err != nil {
		return r, err
	}
	c.ending.Lock()
	defer c.ending.Unlock()
	if c.closed {
		return r, fault.New(fault.Internal, "container %q has ended", c.id)
	}
	r.V, r.Parent, r.Layers, r.Created = storeFormat, c.spec.Image, len(c.chain)+1, time.Now().UTC()
	var err error
	if r.Size, err = c.tidy(); err != nil {
		return r, err
	}
	if err := c.moveToStore(r.ID, sync); err != nil {
		return r, err
	}
	if err := c.engine.writeRecord(r); err != nil {
		return r, err
	}
	c.dir = ""
	// Others may use the image from now on, while this lock is held shared.
	if err := unix.Flock(int(c.lock.Fd()), unix.LOCK_SH); err != nil {
		return r, fmt.Errorf("share image: %w", err)
	}
	return r, nil
}

// tidy ends the container, leaves nothing but the writable layer, and of that
// only what belongs in an image; it returns the layer's size.
func (c *container) tidy() (int64, error) {
	if err := c.stop(); err != nil {
		return 0, err
	}
	root := filepath.Join(c.dir, "root")
	created := c.created
	if c.spec.Image == "" {
		created = nil // a root file system needs them, and nothing below it has them
	}
	if err := dropReplaced(root, created); err != nil {
		return 0, err
	}
	if err := c.keepOnlyRoot(); err != nil {
		return 0, err
	}
	return contentSize(root)
}

// moveToStore gives the directory its place as a layer. Until its record is
// written, Close removes it and Reap would.
func (c *container) moveToStore(id engine.ImageID, sync bool) error {
	layer := c.engine.layerDir(id)
	if err := os.Rename(c.dir, layer); err != nil {
		return err
	}
	c.dir = layer
	if !sync {
		return nil
	}
	if err := syncStore(c.lock); err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(layer))
}

// keepOnlyRoot removes what a container has beside its writable layer.
func (c *container) keepOnlyRoot() error {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() == "root" {
			continue
		}
		if err := removeTree(filepath.Join(c.dir, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// syncStore writes everything of the store's file system to the disk.
func syncStore(f *os.File) error {
	err := unix.Syncfs(int(f.Fd()))
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		err = errors.Join(engine.ErrNoSpace, err)
	}
	if err != nil {
		return fmt.Errorf("sync image store: %w", err)
	}
	return nil
}

// dropReplaced removes from a layer the files that engines write themselves,
// and mount points that the engine made and nobody used. Every path is opened
// beneath the layer without following symlinks; what cannot be reached that
// way is not the engine's.
func dropReplaced(root string, created []string) error {
	for _, name := range []string{"etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab", ".dockerenv"} {
		if err := removeBeneath(root, name, 0); err != nil {
			return err
		}
	}
	for _, name := range slices.Backward(created) {
		err := removeBeneath(root, strings.TrimPrefix(name, "/"), unix.AT_REMOVEDIR)
		if err != nil && !errors.Is(err, unix.ENOTEMPTY) {
			return err
		}
	}
	return nil
}

// removeBeneath removes one name; that it is not there, or not a plain path,
// is fine.
func removeBeneath(root, name string, flags int) error {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	}
	top, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: root, Err: err}
	}
	defer unix.Close(top)
	dir, err := unix.Openat2(top, filepath.Dir(name), &how)
	if err == nil {
		defer unix.Close(dir)
		err = unix.Unlinkat(dir, filepath.Base(name), flags)
	}
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EISDIR):
		return nil
	case err != nil:
		return &fs.PathError{Op: "remove", Path: filepath.Join(root, name), Err: err}
	}
	return nil
}

// contentSize adds up the bytes of content of regular files, hard links once.
func contentSize(root string) (int64, error) {
	var total int64
	linked := map[uint64]bool{}
	err := filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		if st.Nlink > 1 {
			if linked[st.Ino] {
				return nil
			}
			linked[st.Ino] = true
		}
		total += st.Size
		return nil
	})
	return total, err
}
