// Package state opens dbuild's state directory: who may own it, which layout it
// has, its random id, its SQLite file and its locks. What the folders below it
// hold is each package's own business; docs/formats.md has the map.
package state

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"modernc.org/sqlite" // the pure-Go driver, so that no C compiler is needed
	sqlite3 "modernc.org/sqlite/lib"

	"dbuild/internal/atomicfile"
	"dbuild/internal/fault"
	"dbuild/internal/lock"
)

// Format is the version of the layout that this dbuild writes. A state of a
// newer format is refused with class locked.
const Format = 1

// folders are made on first use, with their modes: the repository can be served
// as it is, images must be searchable by the mapped root, the rest is private.
var folders = []struct {
	name string
	mode fs.FileMode
}{
	{"keys", 0o700}, {"archive", 0o711}, {"images", 0o711}, {"builds", 0o700},
	{"statements", 0o700}, {"repo", 0o755}, {"locks", 0o700},
}

// State is an open state directory. It is safe for concurrent use.
type State struct {
	Dir string
	ID  string // random, fixed at creation; labels everything made outside
	DB  *sql.DB

	shared *lock.Lock
}

// DefaultDir returns /var/lib/dbuild for root and $XDG_DATA_HOME/dbuild (or
// ~/.local/share/dbuild) for a user.
func DefaultDir(uid int, getenv func(string) string) (string, error) {
	if uid == 0 {
		return "/var/lib/dbuild", nil
	}
	if dir := getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "dbuild"), nil
	}
	home := getenv("HOME")
	if !filepath.IsAbs(home) {
		return "", fault.WithHint(fault.New(fault.Usage, "no state directory: HOME is not set"), "give one with --state DIR")
	}
	return filepath.Join(home, ".local/share/dbuild"), nil
}

// CacheDir returns where a user's state at [DefaultDir] keeps what can be fetched
// again: $XDG_CACHE_HOME/dbuild (or ~/.cache/dbuild); "" for root, whose state
// holds everything.
func CacheDir(uid int, getenv func(string) string) string {
	if uid == 0 {
		return ""
	}
	if dir := getenv("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "dbuild")
	}
	if home := getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".cache/dbuild")
	}
	return ""
}

// Open opens the state directory at dir, making it on first use. It refuses a
// directory that belongs to another user or that others can write, and a
// newer format. The state lock is held shared until Close.
func Open(ctx context.Context, dir string, waiting func(holder string)) (_ *State, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, fault.Wrap(fault.Usage, err)
	}
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	if err := checkOwner(dir); err != nil {
		return nil, err
	}
	for _, f := range folders {
		if err := mkdir(filepath.Join(dir, f.name), f.mode); err != nil {
			return nil, err
		}
	}
	s := &State{Dir: dir}
	if s.shared, err = lock.Acquire(ctx, s.Path("locks", "state"), lock.Shared, waiting); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := s.readFormat(ctx, waiting); err != nil {
		return nil, err
	}
	if s.DB, err = openDB(ctx, s.Path("dbuild.db")); err != nil {
		return nil, err
	}
	return s, nil
}

// Path returns the path of something below the state directory.
func (s *State) Path(elem ...string) string {
	return filepath.Join(append([]string{s.Dir}, elem...)...)
}

// Close closes the database and lets the state lock go. It may be called twice.
func (s *State) Close() error {
	var err error
	if s.DB != nil {
		err = s.DB.Close()
		s.DB = nil
	}
	return errors.Join(err, s.shared.Unlock())
}

// Alone waits until no other process has the state open and keeps others out
// until Close. What was read before may have changed meanwhile.
func (s *State) Alone(ctx context.Context, waiting func(holder string)) (err error) {
	if err := s.shared.Unlock(); err != nil {
		return err
	}
	s.shared, err = lock.Acquire(ctx, s.Path("locks", "state"), lock.Exclusive, waiting)
	return err
}

// BootID returns the kernel's id of this boot, or "" where there is none.
func BootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// makeDir makes the state directory and its parents.
func makeDir(dir string) error {
	if _, err := os.Lstat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return stateError(dir, err)
	}
	return mkdir(dir, 0o711)
}

func mkdir(dir string, mode fs.FileMode) error {
	err := os.Mkdir(dir, mode)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil {
		err = os.Chmod(dir, mode) // the umask may have taken bits away
	}
	if err != nil {
		return stateError(dir, err)
	}
	return nil
}

func stateError(dir string, err error) error {
	class := fault.Usage
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		class = fault.Resource
	}
	return fault.WithHint(fault.New(class, "make state directory %q: %w", dir, err), "choose another place with --state DIR")
}

func checkOwner(dir string) error {
	fi, err := os.Lstat(dir)
	if err != nil {
		return stateError(dir, err)
	}
	if !fi.IsDir() {
		return fault.New(fault.Usage, "state %q is not a directory", dir)
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fault.WithHint(fault.New(fault.Usage, "state %q belongs to uid %d, not to uid %d", dir, st.Uid, os.Geteuid()),
			"run dbuild as that user, or choose another place with --state DIR")
	}
	if fi.Mode().Perm()&0o022 != 0 {
		return fault.WithHint(fault.New(fault.Usage, "state %q can be written by others (mode %04o)", dir, fi.Mode().Perm()),
			"chmod go-w %s", dir)
	}
	return nil
}

// readFormat reads the format file, or writes it in a new state.
func (s *State) readFormat(ctx context.Context, waiting func(string)) error {
	path := s.Path("format")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s.writeFormat(ctx, path, waiting)
	}
	if err != nil {
		return fault.Wrap(fault.Usage, err)
	}
	version, id, ok := strings.Cut(strings.TrimSpace(string(b)), " ")
	n, err := strconv.Atoi(version)
	if !ok || err != nil || len(id) != 32 {
		return fault.WithHint(fault.New(fault.Trust, "state %q: the file %q is damaged", s.Dir, "format"),
			"move the state away, or choose another place with --state DIR")
	}
	if n > Format {
		return fault.WithHint(fault.New(fault.Locked, "state %q has format %d; this dbuild knows up to %d", s.Dir, n, Format),
			"use the newer dbuild that wrote it, or choose another place with --state DIR")
	}
	s.ID = id
	return nil
}

// writeFormat gives a new state its id; only one of several processes does.
func (s *State) writeFormat(ctx context.Context, path string, waiting func(string)) error {
	l, err := lock.Acquire(ctx, s.Path("locks", "format"), lock.Exclusive, waiting)
	if err != nil {
		return err
	}
	defer func() { _ = l.Unlock() }()
	if _, err := os.Lstat(path); err == nil {
		return s.readFormat(ctx, waiting)
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails, see crypto/rand
	s.ID = hex.EncodeToString(id[:])
	return atomicfile.Write(path, []byte(strconv.Itoa(Format)+" "+s.ID+"\n"), 0o600)
}

// openDB opens the SQLite file in WAL mode. Its tables belong to the packages
// that use them.
func openDB(ctx context.Context, path string) (*sql.DB, error) {
	q := url.Values{"_pragma": {"busy_timeout(20000)", "journal_mode(wal)", "synchronous(normal)", "foreign_keys(on)"}, "_txlock": {"immediate"}}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode())
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", path, err)
	}
	var version int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		err = fmt.Errorf("read %q: %w", path, err)
		if damaged(err) {
			err = fault.WithHint(fault.Wrap(fault.Trust, err), "it can be made anew from the files beside it: move it away")
		}
		return nil, errors.Join(err, db.Close())
	}
	if version > Format {
		return nil, errors.Join(fault.New(fault.Locked, "%q has format %d; this dbuild knows up to %d", path, version, Format), db.Close())
	}
	if version < Format {
		if _, err := db.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", Format)); err != nil {
			return nil, errors.Join(fmt.Errorf("write %q: %w", path, err), db.Close())
		}
	}
	return db, nil
}

// damaged tells whether an error says that the bytes of a database are wrong,
// and not that they could not be read.
func damaged(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && (e.Code()&0xff == sqlite3.SQLITE_CORRUPT || e.Code()&0xff == sqlite3.SQLITE_NOTADB)
}

// The driver keeps no errno, so a full disk looks like other trouble with it.
func init() {
	fault.Recognize(func(err error) (fault.Class, bool) {
		var e *sqlite.Error
		if !errors.As(err, &e) {
			return "", false
		}
		switch e.Code() & 0xff {
		case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM:
			return fault.Resource, true
		case sqlite3.SQLITE_BUSY:
			return fault.Locked, true
		}
		return "", false
	})
}
