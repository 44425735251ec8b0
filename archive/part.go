package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"dbuild/internal/fault"
	"dbuild/internal/lock"
)

// buffers are reused by all transfers.
var buffers = sync.Pool{New: func() any { b := make([]byte, 128<<10); return &b }}

// part is a file that is being fetched, under its final name with ".part".
// Whoever holds the flock on it writes it; a lock file apart would not follow
// the rename that gives the file its final name. A killed process leaves it for
// the next one to go on with.
type part struct {
	f     *os.File
	final string
	n     int64     // bytes in f
	sum   hash.Hash // of these
}

// maxWait bounds the wait for another process that fetches the same file but
// makes no headway. Its own limits end a stalled transfer long before.
const maxWait = 10 * time.Minute

// claim opens the part of final and waits until nobody else writes it. It
// returns nil when there turns out to be nothing left to do, which done tells.
func (c *Copy) claim(ctx context.Context, final, name string, done func() (bool, error)) (*part, error) {
	start := time.Now()
	said, size := start.Add(lock.Patience), int64(-1)
	for pause := time.Millisecond; ; pause = min(pause*2, 100*time.Millisecond) {
		f, ok, err := tryClaim(final + ".part")
		if err != nil {
			return nil, fmt.Errorf("fetch %s: %w", name, err)
		}
		if ok {
			p := &part{f: f, final: final, sum: sha256.New()}
			have, err := done()
			if err != nil || have {
				return nil, errors.Join(err, p.drop())
			}
			return p, nil
		}
		if info, err := os.Stat(final + ".part"); err == nil && info.Size() != size {
			size, start = info.Size(), time.Now()
		}
		if now := time.Now(); now.After(said) {
			c.opt.Report.Note("waiting for another process that fetches %s", name)
			said = now.Add(10 * time.Second)
		}
		if time.Since(start) > maxWait {
			return nil, fault.New(fault.Locked, "fetch %s: another process holds it without headway", name)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// tryClaim opens and locks path unless another holds the lock. The file that
// it locked is the one that has the name then: a holder that finished in
// between has renamed or removed it.
func tryClaim(path string) (f *os.File, ok bool, err error) {
	f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o644)
	if err != nil {
		return nil, false, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
		return nil, false, f.Close()
	}
	if err != nil {
		return nil, false, errors.Join(err, f.Close())
	}
	mine, err := f.Stat()
	if err != nil {
		return nil, false, errors.Join(err, f.Close())
	}
	named, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && !os.SameFile(mine, named) {
		return nil, false, f.Close()
	}
	return f, err == nil, err
}

// resume takes in what an earlier attempt left, if that is less than limit.
func (p *part) resume(limit int64) error {
	info, err := p.f.Stat()
	if err != nil {
		return err
	}
	if info.Size() == 0 || info.Size() >= limit {
		return p.reset()
	}
	if _, err := p.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	p.sum.Reset()
	p.n, err = io.Copy(p.sum, p.f)
	return err
}

// reset empties the part.
func (p *part) reset() error {
	p.n = 0
	p.sum.Reset()
	if err := p.f.Truncate(0); err != nil {
		return err
	}
	_, err := p.f.Seek(0, io.SeekStart)
	return err
}

// Write appends, and keeps the hash.
func (p *part) Write(b []byte) (int, error) {
	n, err := p.f.Write(b)
	p.sum.Write(b[:n])
	p.n += int64(n)
	return n, err
}

func (p *part) sha256() string { return hex.EncodeToString(p.sum.Sum(nil)) }

// install gives the file its final name and lets go of it.
func (p *part) install() error {
	if err := p.f.Chmod(0o644); err != nil {
		return errors.Join(err, p.f.Close())
	}
	return errors.Join(os.Rename(p.f.Name(), p.final), p.f.Close())
}

// leave lets go and keeps what is there for the next attempt.
func (p *part) leave() error { return p.f.Close() }

// drop removes the part and lets go of it.
func (p *part) drop() error { return errors.Join(os.Remove(p.f.Name()), p.f.Close()) }
