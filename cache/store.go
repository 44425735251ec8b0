package cache

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"dbuild/engine"
	"dbuild/internal/fault"
	"dbuild/internal/lock"
	"dbuild/internal/report"
	"dbuild/sign"
)

// ErrNotFound says that no image fits: it has to be made.
var ErrNotFound = errors.New("no image fits")

// Options are the surroundings of a store.
type Options struct {
	Report report.Reporter  // nil: nothing is reported
	Now    func() time.Time // nil: time.Now
	// DB holds the tables memo and image_use, which [Open] makes. Nil: no
	// memo, every check is a full one, and an old head is not noticed.
	DB *sql.DB
	// BootID tells boots of the machine apart; "": the kernel's own.
	BootID string
	// Keys is the directory with the public keys that are known beside the image
	// key; see [Keys]. "": none.
	Keys Keys
	// State is the random id of the state, which images carry in the label
	// "dbuild.state"; [Store.Reap] touches only those. "": it reaps none.
	State string
	// Tool goes into statements: name and version of dbuild.
	Tool string
}

// Store is the set of images of one engine. Its methods are safe for
// concurrent use, also by several processes.
type Store struct {
	dir    string
	eng    engine.Engine
	info   engine.Info
	key    *sign.Key
	o      Options
	report report.Reporter
	memo   *memo
}

// Open opens the store in dir, which must exist and belong to the caller
// alone, for one engine. key is the image key.
func Open(ctx context.Context, dir string, eng engine.Engine, key *sign.Key, o Options) (*Store, error) {
	info, err := eng.Info(ctx)
	if err != nil {
		return nil, err
	}
	s := &Store{dir: dir, eng: eng, info: info, key: key, o: o, report: o.Report}
	if s.report == nil {
		s.report = report.Discard
	}
	if s.o.Now == nil {
		s.o.Now = time.Now
	}
	if s.o.BootID == "" {
		// Where the kernel does not tell, every use counts as the first.
		id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		if err == nil {
			s.o.BootID = strings.TrimSpace(string(id))
		}
	}
	for _, sub := range []string{"statements", "retired", "locks", "in-use"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("open image store: %w", err)
		}
	}
	if s.memo, err = openMemo(ctx, o.DB, key, s.report); err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	if err := s.readMarks(ctx); err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	return s, nil
}

func (s *Store) statementPath(hash string) string {
	return filepath.Join(s.dir, "statements", hash+".json")
}

func (s *Store) retiredPath(hash string) string {
	return filepath.Join(s.dir, "retired", hash+".json")
}

func (s *Store) sealPath(hash string) string {
	return filepath.Join(s.dir, "statements", hash+".seal")
}

// engineName is how head and statements name the engine.
func (s *Store) engineName() string { return s.info.Kind + ":" + s.info.ID }

// lockHead serialises changes of head.
func (s *Store) lockHead(ctx context.Context) (*lock.Lock, error) {
	return lock.Acquire(ctx, filepath.Join(s.dir, "locks", "head"), lock.Exclusive, s.waiting("the list of images"))
}

// usePath is the lock file that stands for a statement while its image is in
// use. That two images could share one only delays a removal.
func (s *Store) usePath(hash string) string {
	return filepath.Join(s.dir, "locks", "use-"+hash[:4])
}

// Making is held by a process from before it makes an image until the image is
// listed, so that [Store.Reap] takes no image that is on its way.
type Making struct{ all, one *lock.Lock }

// MakeLock waits until no other process makes the image of this kind and key;
// waiting, if not nil, is told now and then for whom. Who gets it looks for the
// image again before making it. The caller unlocks.
func (s *Store) MakeLock(ctx context.Context, kind Kind, key string, waiting func(holder string)) (*Making, error) {
	name := "make-" + hashOf([]byte(string(kind) + "\x00" + key))[:3]
	one, err := lock.Acquire(ctx, filepath.Join(s.dir, "locks", name), lock.Exclusive, waiting)
	if err != nil {
		return nil, err
	}
	all, err := lock.Acquire(ctx, filepath.Join(s.dir, "locks", "making"), lock.Shared, waiting)
	if err != nil {
		return nil, errors.Join(err, one.Unlock())
	}
	return &Making{all, one}, nil
}

// Unlock lets others make this image, if it is still missing.
func (m *Making) Unlock() error { return errors.Join(m.all.Unlock(), m.one.Unlock()) }

func (s *Store) waiting(what string) func(string) {
	return func(holder string) { s.report.Warn("waiting for %s and %s", holder, what) }
}

// trust makes an error of class trust about one file of the store, unless the
// machine merely ran out of something.
func trust(path string, err error) error {
	if fault.ClassOf(err) == fault.Resource {
		return fmt.Errorf("image statement %q: %w", path, err)
	}
	err = fault.New(fault.Trust, "image statement %q: %w", path, err)
	help := "dbuild clean --images forgets all images, and the next build makes them again"
	if hash, ok := strings.CutSuffix(filepath.Base(path), ".json"); ok {
		help = fmt.Sprintf("dbuild images remove -r %.12s drops this one", hash)
	}
	return fault.WithHint(err, "if you did not do this, find out who did; %s", help)
}
