package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"dbuild/engine"
	"dbuild/internal/atomicfile"
	"dbuild/internal/fault"
	"dbuild/internal/lock"
)

// Remove takes an image out of force and out of the engine; its statement is
// kept among the retired ones, since published files may lead to it. An image
// that is used or that others stand on is refused with [engine.ErrInUse]; a
// statement that is damaged or missing is no hindrance.
func (s *Store) Remove(ctx context.Context, hash string) (err error) {
	if !isHash(hash) {
		return fault.New(fault.Usage, "remove image: %q is no statement hash", hash)
	}
	use, err := s.unlist(ctx, hash)
	if err != nil {
		return fmt.Errorf("remove image %.12s: %w", hash, err)
	}
	defer func() { err = errors.Join(err, use.Unlock()) }()
	s.memo.forget(ctx, hash)
	// A damaged statement names no image; then Reap finds it.
	st, stErr := s.loadStatement(s.statementPath(hash), hash, "")
	if stErr != nil {
		s.report.Note("the statement of removed image %.12s is not kept: %v", hash, stErr)
		return removeFiles(s.statementPath(hash)+".asc", s.statementPath(hash))
	}
	if err := s.retire(hash, st.Engine.Seal); err != nil {
		return fmt.Errorf("remove image %.12s: %w", hash, err)
	}
	err = s.eng.Remove(ctx, engine.ImageID(st.Engine.Image))
	if err != nil && !errors.Is(err, engine.ErrNotFound) {
		return fmt.Errorf("remove image %.12s: %w", hash, err)
	}
	return nil
}

// unlist writes a head without the statement, and returns the lock that keeps
// others from using its image.
func (s *Store) unlist(ctx context.Context, hash string) (use *lock.Lock, err error) {
	l, err := s.lockHead(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Unlock()) }()
	h, err := s.readHead(ctx)
	if err != nil {
		return nil, err
	}
	if _, ok := h.find(hash); !ok {
		return nil, ErrNotFound
	}
	if i := slices.IndexFunc(h.Entries, func(e headEntry) bool { return e.Parent == hash }); i >= 0 {
		return nil, fault.New(fault.Locked, "image %.12s stands on it: %w", h.Entries[i].Statement, engine.ErrInUse)
	}
	use, free, err := lock.TryAcquire(s.usePath(hash), lock.Exclusive)
	if err != nil {
		return nil, err
	}
	if !free {
		return nil, fault.New(fault.Locked, "a container runs from it: %w", engine.ErrInUse)
	}
	h.Entries = slices.DeleteFunc(h.Entries, func(e headEntry) bool { return e.Statement == hash })
	if err := s.writeHead(ctx, h); err != nil {
		return nil, errors.Join(err, use.Unlock())
	}
	return use, nil
}

// retire moves a statement's files away; the seal has no further use.
func (s *Store) retire(hash, seal string) error {
	from, to := s.statementPath(hash), s.retiredPath(hash)
	var errs []error
	for _, ext := range []string{".asc", ""} {
		errs = append(errs, os.Rename(from+ext, to+ext))
	}
	if isHash(seal) {
		errs = append(errs, removeFiles(s.sealPath(seal)))
	}
	errs = append(errs, atomicfile.SyncDir(filepath.Dir(to)), atomicfile.SyncDir(filepath.Dir(from)))
	return errors.Join(errs...)
}

// removeFiles removes what is there of them.
func removeFiles(paths ...string) error {
	var errs []error
	for _, p := range paths {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Limits say what [Store.Expire] leaves.
type Limits struct {
	MaxAge  time.Duration // since the last use, or since it was made; 0: any
	MaxSize int64         // bytes of all layers together; 0: any
}

// Expire removes images that were not used for MaxAge, then those used longest
// ago until the rest fits in MaxSize, children before what they stand on. What
// is in use stays, and so does the newest base of its suite, architecture and
// variant that was not set aside. It returns the hashes of what it removed.
func (s *Store) Expire(ctx context.Context, lim Limits) (removed []string, err error) {
	items, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	total := int64(0)
	for _, it := range items {
		total += it.OwnSize
	}
	slices.SortStableFunc(items, func(a, b Item) int { return a.last().Compare(b.last()) })
	now := s.o.Now()
	for progress := true; progress; {
		progress = false
		for i, it := range items {
			old := lim.MaxAge > 0 && now.Sub(it.last()) > lim.MaxAge
			big := lim.MaxSize > 0 && total > lim.MaxSize
			if !old && !big || !expendable(items, it) {
				continue
			}
			switch err := s.Remove(ctx, it.Statement); {
			case err == nil:
				removed = append(removed, it.Statement)
				total -= it.OwnSize
			case !errors.Is(err, engine.ErrInUse) && !errors.Is(err, ErrNotFound):
				return removed, err
			}
			items = slices.Delete(items, i, i+1)
			progress = true
			break
		}
	}
	return removed, nil
}

// last is when the image was used last as far as is known.
func (it Item) last() time.Time {
	if it.LastUsed.After(it.Created) {
		return it.LastUsed
	}
	return it.Created
}

// expendable reports whether nothing stands on the image and, for a base,
// whether there is a newer one of its key.
func expendable(items []Item, it Item) bool {
	newer := false
	for _, other := range items {
		if other.parent == it.Statement {
			return false
		}
		newer = newer || other.Kind == KindBase && other.Suite == it.Suite && other.Arch == it.Arch && !other.Aside && other.Created.After(it.Created)
	}
	return it.Kind != KindBase || newer || it.Aside || it.Problem != ""
}
