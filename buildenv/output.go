package buildenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"dbuild/internal/fault"
)

// writeOutputs puts every result into the output directory. All are copied
// before the first gets its name, so that an error leaves nothing; the .changes
// comes last, for those who wait for it.
func (b *build) writeOutputs(ctx context.Context) (err error) {
	var staged []*outFile
	defer func() {
		for _, f := range staged {
			err = errors.Join(err, f.close())
		}
	}()
	for _, r := range b.results {
		if strings.Contains(r.Name, ".orig") && b.holds(r) {
			continue // it came from there
		}
		f, err := b.copyOut(r)
		if err != nil {
			return err
		}
		staged = append(staged, f)
		b.res.Artifacts = append(b.res.Artifacts, Artifact{
			Name: r.Name, Path: filepath.Join(b.output.Name(), r.Name), Size: r.Size, SHA256: r.SHA256,
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	ordered := slices.Clone(staged)
	slices.SortStableFunc(ordered, func(x, y *outFile) int { return x.rank() - y.rank() })
	for _, f := range ordered {
		if err := f.commit(); err != nil {
			return err
		}
	}
	return nil
}

// holds reports whether the output directory has this very file already.
func (b *build) holds(r result) bool {
	_, sum, err := hashFile(filepath.Join(b.output.Name(), r.Name))
	return err == nil && sum == r.SHA256
}

func (b *build) copyOut(r result) (f *outFile, err error) {
	in, err := os.Open(r.Path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	f, err = newOutFile(b.output, r.Name, b.id, b.uid, b.gid)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(f.file, in); err != nil {
		return nil, errors.Join(fault.Wrap(outputClass(err), fmt.Errorf("write %q: %w", r.Name, err)), f.close())
	}
	return f, nil
}

// outFile is a result on its way into the output directory. It has no name
// (O_TMPFILE of open(2)) until it is whole, so that nothing is left of it when
// dbuild is killed; where the file system cannot do that it has a temporary one.
type outFile struct {
	dir  *os.File
	name string // its name in the end
	tmp  string // the temporary one
	file *os.File
	temp bool // tmp is there
}

func newOutFile(dir *os.File, name, id string, uid, gid int) (*outFile, error) {
	f := &outFile{dir: dir, name: name, tmp: "." + name + "." + id + ".tmp"}
	fd, err := unix.Openat(int(dir.Fd()), ".", unix.O_RDWR|unix.O_TMPFILE|unix.O_CLOEXEC, 0o644)
	if err != nil {
		f.file, err = openOutput(dir, f.tmp, uid, gid)
		f.temp = err == nil
		return f, err
	}
	f.file = os.NewFile(uintptr(fd), f.tmp)
	if err := f.file.Chown(uid, gid); err != nil {
		return nil, errors.Join(fmt.Errorf("give %q to its directory's owner: %w", name, err), f.file.Close())
	}
	return f, nil
}

// rank is the order in which files get their names.
func (f *outFile) rank() int {
	if strings.HasSuffix(f.name, ".changes") {
		return 1
	}
	return 0
}

// commit gives the file its name, which may be that of an older one.
func (f *outFile) commit() error {
	fd := int(f.dir.Fd())
	if !f.temp {
		err := f.link(f.name)
		if err == nil {
			return nil
		}
		if errors.Is(err, unix.EEXIST) {
			err = f.link(f.tmp)
		}
		if err != nil {
			return fault.Wrap(outputClass(err), fmt.Errorf("write %q: %w", f.name, err))
		}
		f.temp = true
	}
	if err := unix.Renameat(fd, f.tmp, fd, f.name); err != nil {
		return fault.Wrap(outputClass(err), fmt.Errorf("write %q: %w", f.name, err))
	}
	f.temp = false
	return nil
}

func (f *outFile) link(name string) error {
	return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.file.Fd()), int(f.dir.Fd()), name, unix.AT_SYMLINK_FOLLOW)
}

// close closes the file; one that did not get its name is gone.
func (f *outFile) close() error {
	err := f.file.Close()
	if f.temp {
		err = errors.Join(err, unix.Unlinkat(int(f.dir.Fd()), f.tmp, 0))
	}
	return err
}

// openOutput makes a file in the output directory by descriptor: never through
// a link, never over an existing file.
func openOutput(dir *os.File, name string, uid, gid int) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, fault.Wrap(outputClass(err), fmt.Errorf("write %q in %q: %w", name, dir.Name(), err))
	}
	f := os.NewFile(uintptr(fd), name)
	if err := f.Chown(uid, gid); err != nil {
		return nil, errors.Join(fmt.Errorf("give %q to its directory's owner: %w", name, err), f.Close())
	}
	return f, nil
}

// openNewLog makes stem.build in dir or, where that is taken, stem-2.build,
// stem-3.build and so on: two builds may start within the second that sbuild's
// names tell apart.
func openNewLog(dir *os.File, stem string, uid, gid int) (*os.File, error) {
	name := stem + ".build"
	for n := 2; ; n++ {
		f, err := openOutput(dir, name, uid, gid)
		if !errors.Is(err, unix.EEXIST) {
			return f, err
		}
		name = fmt.Sprintf("%s-%d.build", stem, n)
	}
}

func outputClass(err error) fault.Class {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fault.Resource
	}
	return fault.Usage
}
