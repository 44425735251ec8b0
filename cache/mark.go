package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// mark is the file in-use/HASH.N that says that a process has the image open.
// Its owner holds a lock on it and removes it when it closes the image; one that
// nobody holds was left by a process that was killed. It is not synced: after a
// power cut every image is hashed anyway.
type mark struct {
	f    *os.File
	path string
}

func (s *Store) marksDir() string { return filepath.Join(s.dir, "in-use") }

// newMark makes a mark. It has its name only once it is locked, so that nobody
// takes it for one that was left.
func (s *Store) newMark(hash string) (_ *mark, err error) {
	f, err := os.CreateTemp(s.marksDir(), "."+hash+".*.tmp")
	if err != nil {
		return nil, fmt.Errorf("mark image as used: %w", err)
	}
	m := &mark{f, f.Name()}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("mark image as used: %w", err), m.remove())
		}
	}()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, err
	}
	name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(m.path), "."), ".tmp")
	path := filepath.Join(s.marksDir(), name)
	if err := os.Rename(m.path, path); err != nil {
		return nil, err
	}
	m.path = path
	return m, nil
}

// remove says that the image is no longer in use. It is safe to call twice and
// on nil.
func (m *mark) remove() error {
	if m == nil || m.f == nil {
		return nil
	}
	f := m.f
	m.f = nil
	err := os.Remove(m.path) // before the lock is let go
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, f.Close())
}

// readMarks looks for marks of killed processes. Their images, what these stand
// on and all that stands on the same are hashed at their next use.
func (s *Store) readMarks(ctx context.Context) error {
	entries, err := os.ReadDir(s.marksDir())
	if err != nil {
		return err
	}
	for _, entry := range entries {
		hash, _, _ := strings.Cut(entry.Name(), ".")
		if hash == "" {
			continue // not locked yet; see reapFiles
		}
		if err := s.readMark(ctx, filepath.Join(s.marksDir(), entry.Name()), hash); err != nil {
			return err
		}
	}
	return nil
}

// readMark looks at one mark, which its owner may remove at any time.
func (s *Store) readMark(ctx context.Context, path, hash string) (err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	m := &mark{f, path}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return f.Close()
	}
	var st unix.Stat_t
	if err == nil {
		err = unix.Fstat(int(f.Fd()), &st)
	}
	if err != nil || st.Nlink == 0 {
		return errors.Join(err, f.Close())
	}
	if err := s.distrust(ctx, hash); err != nil {
		return errors.Join(err, f.Close())
	}
	return m.remove()
}

// distrust has an image and all that shares a layer with it hashed before the
// next use.
func (s *Store) distrust(ctx context.Context, hash string) error {
	h, err := s.readHead(ctx)
	if err != nil {
		// Whoever asks for an image is told. Whatever mends it, no check of
		// before counts.
		return s.memo.forgetAllVerified(ctx)
	}
	s.report.Note("image %.12s was in use by a dbuild that was killed", hash)
	base := h.baseOf(hash)
	for _, c := range h.Entries {
		if h.baseOf(c.Statement) != base {
			continue
		}
		if err := s.memo.forgetVerified(ctx, c.Statement); err != nil {
			return err
		}
	}
	return nil
}

// baseOf returns the statement at the end of a chain.
func (h *head) baseOf(hash string) string {
	for range maxChain {
		c, ok := h.find(hash)
		if !ok || c.Parent == "" {
			break
		}
		hash = c.Parent
	}
	return hash
}
