package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dbuild/internal/fault"
	"dbuild/internal/lock"
)

// ViewMount is where a container mounts the directory of a [View]; the view's
// sources list names it.
const ViewMount = "/run/dbuild/archive"

// viewTime is the time of sources.list: apt believes no cache that is older.
var viewTime = time.Unix(1, 0)

// View is a directory that a container mounts read-only at [ViewMount], with
// a part of the copy laid out as apt expects archives for file: URIs:
//
//	N/dists/SUITE/InRelease                           N is the index of the state
//	N/dists/SUITE/COMPONENT/binary-ARCH/Packages      uncompressed
//	N/FILENAME                                        package files, in each state of their archive root
//	keys/N.gpg                                        what verifies the state, perhaps others too
//	sources.list                                      one-line style, with signed-by=
//	preferences                                       apt_preferences(5), empty if no source has a pin
//	apt.conf                                          names the two, and what apt must know of the view
//	…                                                 what [View.AddFiles] adds
//
// apt is run with APT_CONFIG=/run/dbuild/archive/apt.conf. Its lists are then
// symbolic links into the view, good for every view of the same states at the
// same place. Files are hard links into the copy, which the container must not
// be able to write.
type View struct {
	Dir  string
	top  string // Dir and its lock
	lock *lock.Lock
}

// View lays out the indexes of sts for arch (several separated by commas, as
// in apt's arch option) and files for apt. The indexes must have been
// prefetched and the files fetched; files of other archive roots are left out.
// The caller closes the view after the last container that uses it is gone.
func (c *Copy) View(ctx context.Context, sts []*State, arch string, files []File) (*View, error) {
	if err := checkArches(arch); err != nil {
		return nil, err
	}
	v, err := c.newView(ctx)
	if err == nil {
		err = c.lay(ctx, v, sts, arch, files)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make archive view: %w", err), v.Close())
	}
	return v, nil
}

// lay fills an empty view.
func (c *Copy) lay(ctx context.Context, v *View, sts []*State, arch string, files []File) error {
	srcs := make([]Source, len(sts))
	for i, st := range sts {
		srcs[i] = st.Source
	}
	rings, err := openKeyrings(srcs)
	if err != nil {
		return err
	}
	var list, pins strings.Builder
	keys := newKeyFiles(v.Dir)
	for n, st := range sts {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := c.layState(v, n, st, strings.Split(arch, ",")); err != nil {
			return err
		}
		if err := c.layFiles(v, n, st, files); err != nil {
			return err
		}
		name, err := keys.add(n, rings[n].Export(st.Source.AllowedKeys...))
		if err != nil {
			return err
		}
		list.WriteString(c.sourcesLine(n, st, arch, name))
		pins.WriteString(st.pin())
	}
	for name, text := range map[string]string{"sources.list": list.String(), "preferences": pins.String(), "apt.conf": aptConf} {
		path := filepath.Join(v.Dir, name)
		if err := errors.Join(writeView(path, []byte(text)), os.Chtimes(path, viewTime, viewTime)); err != nil {
			return err
		}
	}
	return nil
}

// Close removes the view. It is safe to call twice and on nil.
func (v *View) Close() error {
	if v == nil || v.top == "" {
		return nil
	}
	top := v.top
	v.top = ""
	return errors.Join(os.RemoveAll(top), v.lock.Unlock())
}

// newView makes an empty view whose lock tells that it is in use. The lock of
// all views keeps [Copy.reapViews] away until that is so.
func (c *Copy) newView(ctx context.Context) (v *View, err error) {
	all, err := c.lock(ctx, "views", lock.Shared)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, all.Unlock()) }()
	top, err := os.MkdirTemp(filepath.Join(c.cache, "views"), "")
	if err != nil {
		return nil, err
	}
	v = &View{Dir: filepath.Join(top, "root"), top: top}
	v.lock, err = lock.Acquire(ctx, filepath.Join(top, "lock"), lock.Exclusive, nil)
	if err == nil {
		err = errors.Join(os.Chmod(top, 0o755), mkdir(v.Dir), mkdir(filepath.Join(v.Dir, "keys")))
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(top), v.lock.Unlock())
	}
	return v, nil
}

// reapViews removes the views of processes that ended without closing them.
func (c *Copy) reapViews() error {
	all, ok, err := lock.TryAcquire(filepath.Join(c.dir, "locks", "views"), lock.Exclusive)
	if err != nil || !ok {
		return err
	}
	views, err := os.ReadDir(filepath.Join(c.cache, "views"))
	for _, e := range views {
		err = errors.Join(err, reapView(filepath.Join(c.cache, "views", e.Name())))
	}
	return errors.Join(err, all.Unlock())
}

// reapView removes a view that nobody holds. One without a lock file was never
// finished, or is being removed by its owner.
func reapView(top string) error {
	name := filepath.Join(top, "lock")
	if _, err := os.Lstat(name); errors.Is(err, os.ErrNotExist) {
		return os.RemoveAll(top)
	}
	l, ok, err := lock.TryAcquire(name, lock.Exclusive)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if ok {
		err = errors.Join(err, os.RemoveAll(top))
	}
	return errors.Join(err, l.Unlock())
}

// layState links the Release and the indexes of one state.
func (c *Copy) layState(v *View, n int, st *State, arches []string) error {
	dir := filepath.Join(v.Dir, strconv.Itoa(n), filepath.FromSlash(st.Source.dir()))
	if st.InRelease != nil {
		if err := link(c.releasePath(st.SHA256), filepath.Join(dir, "InRelease")); err != nil {
			return err
		}
	} else {
		err := errors.Join(link(c.releasePath(st.SHA256), filepath.Join(dir, "Release")),
			link(c.releasePath(st.SHA256)+".gpg", filepath.Join(dir, "Release.gpg")))
		if err != nil {
			return err
		}
	}
	names, err := st.indexes(arches)
	if err != nil {
		return err
	}
	for _, name := range names {
		row := st.Release.Files[name]
		old := c.indexPath(row.SHA256)
		if err := c.linkChecked(old, row.SHA256, row.Size, filepath.Join(dir, filepath.FromSlash(name))); err != nil {
			return fmt.Errorf("index %q: %w", name, err)
		}
	}
	return nil
}

// layFiles links those of files that lie below the archive root of st.
func (c *Copy) layFiles(v *View, n int, st *State, files []File) error {
	for _, f := range files {
		if f.URL != st.Source.fileURL(f.Filename) {
			continue
		}
		name := filepath.FromSlash(path.Clean(f.Filename))
		if !filepath.IsLocal(name) {
			return fault.New(fault.Input, "unsafe file name %q", f.Filename)
		}
		if err := c.linkChecked(c.Path(f.SHA256), f.SHA256, f.Size, filepath.Join(v.Dir, strconv.Itoa(n), name)); err != nil {
			return fmt.Errorf("file %s: %w", f.Name, err)
		}
	}
	return nil
}

// linkChecked links a file of the copy that is still good.
func (c *Copy) linkChecked(old, sum string, size int64, name string) error {
	ok, err := c.have(old, sum, size)
	if err == nil && !ok {
		err = fmt.Errorf("not in the copy: %w", os.ErrNotExist)
	}
	if err != nil {
		return err
	}
	return link(old, name)
}

// link gives old a second name, and the directories it needs. Where hard links
// are not to be had the bytes are copied.
func link(old, name string) error {
	err := os.Link(old, name)
	if errors.Is(err, os.ErrNotExist) {
		if err := mkdirAll(filepath.Dir(name)); err != nil {
			return err
		}
		err = os.Link(old, name)
	}
	switch {
	case err == nil, errors.Is(err, os.ErrExist):
		return nil
	case errors.Is(err, unix.EMLINK), errors.Is(err, unix.EPERM), errors.Is(err, unix.EXDEV), errors.Is(err, unix.ENOTSUP):
		return copyFile(old, name)
	}
	return err
}

func mkdirAll(dir string) error {
	err := mkdir(dir)
	if errors.Is(err, os.ErrNotExist) {
		if err := mkdirAll(filepath.Dir(dir)); err != nil {
			return err
		}
		err = mkdir(dir)
	}
	return err
}

func copyFile(old, name string) error {
	in, err := os.Open(old)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Chmod(0o644), out.Close())
}

// writeView writes a small file that containers can read, whatever the umask.
func writeView(name string, data []byte) error {
	const mode fs.FileMode = 0o644
	if err := os.WriteFile(name, data, mode); err != nil {
		return err
	}
	return os.Chmod(name, mode)
}
