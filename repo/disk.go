package repo

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// disk makes every change to the repository's files, so that a test can stop
// before each one. Paths are relative to root. Directories get mode 0755 and
// files 0644 whatever the umask is, because the repository is there to be
// served.
//
// It remembers what it changed, so that sync can make just that durable. A
// syncfs would be a little faster on an idle machine but waits for everything
// that a build has left unwritten on the same file system.
type disk struct {
	root string
	// before, when set, is called ahead of each change; its error prevents it.
	before func(op, path string) error
	// unsynced are the files whose bytes and the directories whose names are
	// not durable yet.
	unsynced map[string]bool
}

func (d *disk) path(rel string) string { return filepath.Join(d.root, rel) }

// changed notes that rel and the names on the way to it must become durable.
// Parents that an earlier, killed process made are among them.
func (d *disk) changed(rel string) {
	for d.unsynced[rel] = true; rel != "."; {
		rel = filepath.Dir(rel)
		d.unsynced[rel] = true
	}
}

func (d *disk) step(op, path string) error {
	if d.before == nil {
		return nil
	}
	return d.before(op, path)
}

// mkdir makes one directory; one that is there is fine.
func (d *disk) mkdir(rel string) error {
	if fi, err := os.Lstat(d.path(rel)); err == nil && fi.IsDir() {
		return nil
	}
	if err := d.step("mkdir", rel); err != nil {
		return err
	}
	if err := os.Mkdir(d.path(rel), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	d.changed(rel)
	return os.Chmod(d.path(rel), 0o755)
}

// mkdirAll makes a directory and its parents up to the root, and the root's.
func (d *disk) mkdirAll(rel string) error {
	if fi, err := os.Lstat(d.path(rel)); err == nil && fi.IsDir() {
		return nil
	}
	if rel == "." {
		if err := os.MkdirAll(filepath.Dir(d.root), 0o755); err != nil {
			return err
		}
	} else if err := d.mkdirAll(filepath.Dir(rel)); err != nil {
		return err
	}
	return d.mkdir(rel)
}

// write makes or replaces a file in one step, not yet durable.
func (d *disk) write(rel string, data []byte) error {
	return d.copy(rel, bytes.NewReader(data))
}

// copy is write from a reader.
func (d *disk) copy(rel string, r io.Reader) (err error) {
	tmp := temporary(rel)
	f, err := d.create(tmp)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err == nil {
		err = d.rename(tmp, rel)
	}
	if err != nil {
		return errors.Join(err, d.remove(tmp))
	}
	return nil
}

// create makes a new file for writing under a temporary name. One that a killed
// process left there is removed.
func (d *disk) create(tmp string) (*os.File, error) {
	if err := d.step("write", tmp); err != nil {
		return nil, err
	}
	if err := os.Remove(d.path(tmp)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return os.OpenFile(d.path(tmp), os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o644)
}

// writeCache writes a file that nobody waits for to be durable: whoever reads
// it checks it.
func (d *disk) writeCache(rel string, data []byte) error {
	if err := d.step("write", rel); err != nil {
		return err
	}
	tmp := d.path(rel) + ".tmp"
	if err := os.WriteFile(tmp, data, 0o644); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return os.Rename(tmp, d.path(rel))
}

// writeDurable is write with the bytes and the name on disk when it returns.
func (d *disk) writeDurable(rel string, data []byte) (err error) {
	tmp := temporary(rel)
	f, err := d.create(tmp)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err == nil {
		err = d.rename(tmp, rel)
	}
	if err != nil {
		return errors.Join(err, d.remove(tmp))
	}
	return d.fsync(filepath.Dir(rel))
}

// temporary is the name under which a file is written. It is free to be used
// again: only the holder of the repository's lock writes.
func temporary(rel string) string {
	return filepath.Join(filepath.Dir(rel), "."+filepath.Base(rel)+".tmp")
}

// link gives a file a second name, which must be free.
func (d *disk) link(from, to string) error {
	if err := d.step("link", to); err != nil {
		return err
	}
	if err := os.Link(d.path(from), d.path(to)); err != nil {
		return err
	}
	d.changed(to)
	return nil
}

// linkFrom is link for a file outside, whose mode becomes 0644.
func (d *disk) linkFrom(path, to string) error {
	if err := d.step("link", to); err != nil {
		return err
	}
	if err := os.Link(path, d.path(to)); err != nil {
		return err
	}
	d.changed(to)
	return os.Chmod(d.path(to), 0o644)
}

func (d *disk) rename(from, to string) error {
	if err := d.step("rename", to); err != nil {
		return err
	}
	if err := os.Rename(d.path(from), d.path(to)); err != nil {
		return err
	}
	d.changed(to)
	return nil
}

func (d *disk) symlink(target, rel string) error {
	if err := d.step("symlink", rel); err != nil {
		return err
	}
	if err := os.Symlink(target, d.path(rel)); err != nil {
		return err
	}
	d.changed(filepath.Dir(rel))
	return nil
}

// remove deletes a file, link or empty directory; one that is gone is fine.
func (d *disk) remove(rel string) error {
	if err := d.step("remove", rel); err != nil {
		return err
	}
	if err := os.Remove(d.path(rel)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// removeAll deletes a tree; one that is gone is fine.
func (d *disk) removeAll(rel string) error {
	if err := d.step("remove", rel); err != nil {
		return err
	}
	return os.RemoveAll(d.path(rel))
}

// date sets a file's time of last change.
func (d *disk) date(rel string, t time.Time) error {
	return os.Chtimes(d.path(rel), t, t)
}

// sync makes everything durable that was changed through d so far. The calls
// run side by side, so that a journaling file system commits them together.
func (d *disk) sync() error {
	if len(d.unsynced) == 0 {
		return nil
	}
	if err := d.step("sync", "."); err != nil {
		return err
	}
	var g errgroup.Group
	g.SetLimit(16)
	for rel := range d.unsynced {
		g.Go(func() error { return d.fsync(rel) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	clear(d.unsynced)
	return nil
}

func (d *disk) fsync(rel string) error {
	f, err := os.Open(d.path(rel))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a temporary name, renamed or removed since
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// nlink is how many names a file has.
func nlink(fi fs.FileInfo) uint64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Nlink) //nolint:unconvert // 32 bits on arm64
	}
	return 1
}
