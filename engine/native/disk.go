package native

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"dbuild/engine"
)

// errDiskLimit is the cause of a step's context that ended at the disk limit.
var errDiskLimit = errors.New("disk limit reached")

// diskWatch bounds what a container's own files take on the disk: the writable
// layer and /tmp. There is no quota that works on every file system and for
// every user, so it counts: often how much the file system has lost, which
// costs nothing, and the files themselves when that leaves room for doubt.
type diskWatch struct {
	dir   string
	limit int64

	used  int64 // when the files were counted last
	free  int64 // of the file system at that time
	count time.Duration
	at    time.Time
}

const (
	diskLook    = 100 * time.Millisecond // between two looks at the file system
	diskRecount = 5 * time.Second        // files are counted at least so often
	diskShare   = 20                     // but counting takes no more than a 20th of the time
)

// newDiskWatch returns nil where there is no limit.
func newDiskWatch(dir string, limit int64) *diskWatch {
	if limit <= 0 {
		return nil
	}
	return &diskWatch{dir: dir, limit: limit}
}

// watch ends the context that it returns, with errDiskLimit as its cause, when
// the container outgrows its limit. stop waits for the watching to end; it
// reports whether the limit was reached, be it between two looks.
func (w *diskWatch) watch(ctx context.Context) (_ context.Context, stop func() bool) {
	if w == nil {
		return ctx, func() bool { return false }
	}
	ctx, cancel := context.WithCancelCause(ctx)
	before := w.recount(ctx)
	done := make(chan struct{})
	quit := make(chan struct{})
	go func() {
		defer close(done)
		for tick := time.NewTicker(diskLook); ; {
			select {
			case <-quit:
				tick.Stop()
				return
			case <-tick.C:
				if w.doubtful() && w.recount(ctx) > max(w.limit, before) {
					cancel(errDiskLimit)
				}
			}
		}
	}()
	return ctx, func() bool {
		close(quit)
		<-done
		hit := errors.Is(context.Cause(ctx), errDiskLimit)
		if !hit && w.lost() > 0 && ctx.Err() == nil {
			hit = w.recount(ctx) > max(w.limit, before)
		}
		cancel(nil)
		return hit
	}
}

// lost is how much less is free than when the files were counted.
func (w *diskWatch) lost() int64 {
	var st unix.Statfs_t
	if unix.Statfs(w.dir, &st) != nil {
		return 0
	}
	return w.free - int64(st.Bavail)*int64(st.Bsize) //nolint:unconvert // 32 bits on arm
}

// doubtful tells when the files must be counted again: when they may have
// reached the limit, or because somebody else may have freed as much as they
// have taken.
func (w *diskWatch) doubtful() bool {
	since := time.Since(w.at)
	if since < diskShare*w.count {
		return false
	}
	return w.used+w.lost() > w.limit || since > diskRecount
}

// recount adds up the blocks of all files.
func (w *diskWatch) recount(ctx context.Context) int64 {
	start := time.Now()
	var st unix.Statfs_t
	if unix.Statfs(w.dir, &st) == nil {
		w.free = int64(st.Bavail) * int64(st.Bsize) //nolint:unconvert // 32 bits on arm
	}
	sum := blockSum{ended: ctx.Err, seen: map[uint64]bool{}}
	for _, name := range []string{"root", "tmp"} {
		sum.add(unix.AT_FDCWD, filepath.Join(w.dir, name), 0)
	}
	w.used, w.at = sum.bytes, time.Now()
	w.count = w.at.Sub(start)
	return w.used
}

// blockSum counts in a tree that changes under its hands: what vanishes or
// cannot be opened is passed over, no symlink is followed.
type blockSum struct {
	ended func() error // of the context
	bytes int64
	seen  map[uint64]bool // files with several names
}

// maxBlockDepth bounds the open directories.
const maxBlockDepth = 200

func (s *blockSum) add(parent int, name string, depth int) {
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	for s.ended() == nil {
		names, err := dir.Readdirnames(1024)
		for _, n := range names {
			var st unix.Stat_t
			if unix.Fstatat(fd, n, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
				continue
			}
			if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
				if s.seen[st.Ino] {
					continue
				}
				s.seen[st.Ino] = true
			}
			s.bytes += st.Blocks * 512
			if st.Mode&unix.S_IFMT == unix.S_IFDIR && depth < maxBlockDepth {
				s.add(fd, n, depth+1)
			}
		}
		if errors.Is(err, io.EOF) || len(names) == 0 {
			return
		}
	}
}

// diskExit is the exit of a step that was killed at the limit.
var diskExit = engine.Exit{Code: -1, Signal: int(unix.SIGKILL), Reason: engine.ReasonDisk}
