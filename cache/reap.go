package cache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"dbuild/engine"
	"dbuild/internal/atomicfile"
	"dbuild/internal/lock"
)

// Grace is how old a file must be before [Store.Reap] takes it: the
// process that made it may be about to list it.
const Grace = time.Hour

// LabelState is the label of images that carries the state's random id.
const LabelState = "dbuild.state"

// Reap removes what killed processes left: seals that nothing names, unfinished
// files, and images of this state that no statement names; statements that are
// not in force are retired. It does nothing while another process makes an
// image, and leaves files younger than [Grace]. It returns how many things it
// removed.
func (s *Store) Reap(ctx context.Context) (n int, err error) {
	locks, free, err := s.quiet()
	defer func() {
		for _, l := range locks {
			err = errors.Join(err, l.Unlock())
		}
	}()
	if err != nil || !free {
		return 0, err
	}
	h, err := s.readHead(ctx)
	if err != nil {
		return 0, err
	}
	keep := make(map[string]bool)
	images := make(map[engine.ImageID]bool)
	whole := true
	for _, c := range h.Entries {
		st, err := s.loadListed(h, c.Statement)
		if err != nil {
			// Its image and seal cannot be told; nothing of the kind is taken.
			whole = false
			s.report.Warn("%v", err)
		}
		keep[c.Statement+".json"], keep[c.Statement+".json.asc"] = true, true
		keep[st.Engine.Seal+".seal"] = true
		images[engine.ImageID(st.Engine.Image)] = true
	}
	if !whole {
		return 0, nil
	}
	if n, err = s.reapFiles(keep); err != nil {
		return n, err
	}
	m, err := s.reapImages(ctx, images)
	return n + m, err
}

// quiet takes the locks that keep images from being made and listed; free is
// false if one is held.
func (s *Store) quiet() (locks []*lock.Lock, free bool, err error) {
	for _, name := range []string{"making", "head"} {
		l, free, err := lock.TryAcquire(filepath.Join(s.dir, "locks", name), lock.Exclusive)
		if err != nil || !free {
			return locks, false, err
		}
		locks = append(locks, l)
	}
	return locks, true, nil
}

// reapFiles removes old files that are not to be kept.
func (s *Store) reapFiles(keep map[string]bool) (n int, err error) {
	for _, dir := range []string{s.dir, filepath.Join(s.dir, "statements"), filepath.Join(s.dir, "retired"), s.marksDir()} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return n, fmt.Errorf("reap images: %w", err)
		}
		for _, e := range entries {
			name := e.Name()
			unfinished := strings.HasPrefix(name, ".") && strings.HasSuffix(name, ".tmp")
			if !unfinished && (filepath.Base(dir) != "statements" || keep[name]) || e.IsDir() {
				continue
			}
			info, err := e.Info()
			if err != nil || s.o.Now().Sub(info.ModTime()) < Grace {
				continue
			}
			if err := s.reapFile(dir, name); err != nil {
				return n, fmt.Errorf("reap images: %w", err)
			}
			n++
		}
	}
	return n, nil
}

// reapFile removes a file. A statement and its signature are kept among the
// retired ones instead: published files may lead to them.
func (s *Store) reapFile(dir, name string) error {
	hash, statement := strings.CutSuffix(strings.TrimSuffix(name, ".asc"), ".json")
	if filepath.Base(dir) != "statements" || !statement || !isHash(hash) {
		return os.Remove(filepath.Join(dir, name))
	}
	err := os.Rename(filepath.Join(dir, name), filepath.Join(s.dir, "retired", name))
	return errors.Join(err, atomicfile.SyncDir(filepath.Join(s.dir, "retired")))
}

// reapImages removes images of this state that no statement in force names.
// Two rounds and more take children before parents.
func (s *Store) reapImages(ctx context.Context, named map[engine.ImageID]bool) (n int, err error) {
	if s.o.State == "" {
		return 0, nil
	}
	images, err := s.eng.Images(ctx)
	if err != nil {
		return 0, fmt.Errorf("reap images: %w", err)
	}
	for progress := true; progress; {
		progress = false
		for _, img := range images {
			if named[img.ID] || img.Config.Labels[LabelState] != s.o.State {
				continue
			}
			err := s.eng.Remove(ctx, img.ID)
			switch {
			case err == nil:
				n++
				progress = true
				named[img.ID] = true
			case errors.Is(err, engine.ErrInUse), errors.Is(err, engine.ErrNotFound):
			default:
				return n, fmt.Errorf("reap images: %w", err)
			}
		}
	}
	return n, nil
}
