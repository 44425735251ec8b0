package repo

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"dbuild/internal/lock"
	"dbuild/internal/report"
	"dbuild/sign"
)

// The grace that clients get which still read an older generation (Debian's
// wiki asks for a day; Launchpad does the same).
const (
	DefaultGrace       = 24 * time.Hour
	DefaultGenerations = 20
)

// DefaultSignWithin leaves a person the time to type a passphrase.
const DefaultSignWithin = 5 * time.Minute

// Options are the settings of a repository. The zero value is ready to use.
type Options struct {
	Now    func() time.Time // nil: time.Now
	Report report.Reporter  // nil: report.Discard
	// Grace is how long a superseded generation, its indexes and its packages
	// stay at least; zero: [DefaultGrace].
	Grace time.Duration
	// Generations is how many superseded generations stay at least, however
	// old; zero: [DefaultGenerations].
	Generations int
	// Also are keys that sign beside the repository's own while it takes over
	// from them, and are in key.asc. Before are keys whose time is over: what
	// they signed can be read, and no client is told of them.
	Also, Before []sign.Signer
	// SignDebs adds a signature to the copy of each .deb that comes into the pool,
	// the member _gpgorigin that debsig-verify reads: by the repository's own key,
	// or by DebKey if a gpg-agent has that, since its signatures differ each time.
	SignDebs bool
	DebKey   *sign.Key
	// SignWithin is how long the keys may take to sign a generation; zero:
	// [DefaultSignWithin].
	SignWithin time.Duration
}

// Repo is an open repository. It is safe for concurrent use; writers, also
// those of other processes, take turns by way of a lock file.
type Repo struct {
	dir        string
	db         *sql.DB
	keys       []sign.Signer // that sign, the repository's own first
	retired    []sign.Signer
	debKey     *sign.Key // nil: .debs are not signed
	signWithin time.Duration
	handover   time.Duration
	warned     sync.Once // of keys that expire soon
	now        func() time.Time
	sleep      func(context.Context, time.Duration) error
	report     report.Reporter
	grace      time.Duration
	keep       int
	compressor func() (*compressor, error)
	before     func(op, path string) error // for tests, see disk
}

// Open opens the repository in dir ($STATE/repo), and makes dir with mode 0755
// and key.asc on first use. db is the state's database, in which [Migrate]
// has made this package's tables; key signs every generation. A key that is
// not the one of key.asc replaces it, with a warning, because from now on it
// is the one that clients need.
func Open(ctx context.Context, dir string, db *sql.DB, key sign.Signer, o Options) (*Repo, error) {
	r := &Repo{
		dir: dir, db: db, keys: append([]sign.Signer{key}, o.Also...), retired: o.Before, now: o.Now, sleep: sleep, report: o.Report,
		signWithin: o.SignWithin, handover: handover, grace: o.Grace, keep: o.Generations, compressor: sync.OnceValues(newCompressor),
	}
	if o.SignDebs {
		r.debKey = o.DebKey
		if own, ok := key.(*sign.Key); ok {
			r.debKey = own
		}
	}
	if r.now == nil {
		r.now = time.Now
	}
	if r.report == nil {
		r.report = report.Discard
	}
	if r.signWithin == 0 {
		r.signWithin = DefaultSignWithin
	}
	if r.grace == 0 {
		r.grace = DefaultGrace
	}
	if r.keep == 0 {
		r.keep = DefaultGenerations
	}
	d := disk{root: dir, unsynced: map[string]bool{}}
	if err := d.mkdirAll("."); err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	if err := r.writeKey(ctx); err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	return r, nil
}

// Dir returns the repository's directory, the root of its URLs.
func (r *Repo) Dir() string { return r.dir }

// Fingerprint is that of the repository's own key.
func (r *Repo) Fingerprint() string { return r.keys[0].Fingerprint() }

// PublicKeys are the public parts of the keys that sign, as in key.asc.
func (r *Repo) PublicKeys() []byte { return sign.PublicArmored(r.keys) }

// ring holds every key that may have signed a generation.
func (r *Repo) ring() (*sign.Keyring, error) {
	return sign.ParseKeyring(sign.PublicArmored(slices.Concat(r.keys, r.retired)))
}

// writeKey puts the public key where people and web servers find it.
func (r *Repo) writeKey(ctx context.Context) error {
	path := filepath.Join(r.dir, "key.asc")
	armored := r.PublicKeys()
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil && bytes.Equal(old, armored) {
		return nil
	}
	if err == nil {
		ring, err := sign.ParseKeyring(old)
		known := func(k sign.Signer) bool { return err == nil && slices.Contains(ring.Fingerprints(), k.Fingerprint()) }
		if !slices.ContainsFunc(r.keys, known) {
			r.report.Warn("%s held another key; clients need the new one, %s", path, r.keys[0].Fingerprint())
		}
	}
	return r.write(ctx, func(w *writer) error { return w.disk.writeDurable("key.asc", armored) })
}

func (r *Repo) path(rel string) string { return filepath.Join(r.dir, rel) }

// writer is the repository while this goroutine is the only one that changes
// it.
type writer struct {
	*Repo
	disk *disk
}

// write runs fn under the repository's lock.
func (r *Repo) write(ctx context.Context, fn func(*writer) error) (err error) {
	l, err := lock.Acquire(ctx, r.path(".lock"), lock.Exclusive, func(holder string) {
		r.report.Note("waiting for the repository, in use by %s", holder)
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Unlock()) }()
	return fn(&writer{r, &disk{root: r.dir, before: r.before, unsynced: map[string]bool{}}})
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
