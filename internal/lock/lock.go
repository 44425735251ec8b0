// Package lock takes advisory locks between dbuild processes: flock on an open
// file, so that a killed holder lets go at once. Lock files are never removed.
//
// Order, to rule out deadlock: state (shared), archive, image key, layer
// (shared while used), repo.
package lock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dbuild/internal/fault"
)

// Patience is how long a waiter stays silent before it says for whom it waits.
const Patience = 2 * time.Second

// Mode says how a lock is held.
type Mode int

// The modes of a lock.
const (
	Shared    Mode = unix.LOCK_SH
	Exclusive Mode = unix.LOCK_EX
)

// Lock is a lock that is held until Unlock or the end of the process.
type Lock struct{ f *os.File }

// Acquire takes the lock at path, waiting until ctx ends. After [Patience] and
// then every ten seconds it calls waiting (when not nil) with the holder's
// process id as far as it is known.
func Acquire(ctx context.Context, path string, mode Mode, waiting func(holder string)) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	said := time.Now().Add(Patience)
	for pause := time.Millisecond; ; pause = min(pause*2, 100*time.Millisecond) {
		err := unix.Flock(int(f.Fd()), int(mode)|unix.LOCK_NB)
		if err == nil {
			break
		}
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %q: %w", path, err), f.Close())
		}
		if waiting != nil && time.Now().After(said) {
			waiting(holder(f))
			said = time.Now().Add(10 * time.Second)
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fault.New(fault.Locked, "wait for lock %q held by %s: %w", path, holder(f), ctx.Err()), f.Close())
		case <-time.After(pause):
		}
	}
	if mode == Exclusive {
		// Who holds it is a courtesy to waiters; the lock does not depend on it.
		_ = f.Truncate(0)
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return &Lock{f}, nil
}

// TryAcquire takes the lock only if nobody is in the way; ok tells.
func TryAcquire(path string, mode Mode) (l *Lock, ok bool, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, false, fmt.Errorf("open lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), int(mode)|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = nil
		}
		return nil, false, errors.Join(err, f.Close())
	}
	return &Lock{f}, true, nil
}

// Unlock lets go. It is safe to call twice and on nil.
func (l *Lock) Unlock() error {
	if l == nil || l.f == nil {
		return nil
	}
	f := l.f
	l.f = nil
	return f.Close()
}

func holder(f *os.File) string {
	b := make([]byte, 32)
	n, _ := f.ReadAt(b, 0)
	if pid := strings.TrimSpace(string(b[:n])); pid != "" {
		return "process " + pid
	}
	return "another dbuild"
}
