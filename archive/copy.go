package archive

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"dbuild/internal/fault"
	"dbuild/internal/lock"
	"dbuild/internal/report"
)

// Options of a [Copy]. The zero value is usable.
type Options struct {
	Report       report.Reporter  // nil: discard
	Now          func() time.Time // nil: time.Now
	Offline      bool             // never touch the network
	AllowExpired bool             // accept a Release past its Valid-Until, with a warning
	MaxAge       time.Duration    // a copy that was checked more recently is used without asking
	HTTP         *http.Client     // nil: own, with the environment's proxy settings; redirects are checked in any case
	Parallel     int              // connections; 0: 8
	Cache        string           // where by-hash, pool and views lie, which can be made again; "": below the copy
}

// Copy is the partial, verified local copy of the archives in use. Any number
// of processes may have the same directory open, and its methods are safe for
// concurrent use. Below the directory, or in [Options].Cache:
//
//	releases/SHA256     verified InRelease files, byte for byte
//	suites/NAME.json    which of them is in force for a source, and the highest Date seen
//	by-hash/SHA256      uncompressed indexes
//	pool/xx/SHA256      package files
//	views/              what containers have mounted now
//	locks/
//
// A file in by-hash and pool has the content that its name says from the moment
// on which it is there. It is not synced when it is made, since it can be
// fetched again: what was written before the machine last started is hashed
// once more at its first use after that (see [Copy.have]), which finds what a
// power loss cut off or zeroed. The records in suites and releases are synced.
//
// Files are readable by all, since containers run under other user ids; the
// directory itself is closed to others.
type Copy struct {
	dir      string
	cache    string
	opt      Options
	client   client
	parallel int
	boot     time.Time // when this machine started
}

// Open opens the copy in dir, creates it if needed and removes views that a
// killed process left.
func Open(dir string, o Options) (*Copy, error) {
	if o.Report == nil {
		o.Report = report.Discard
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &Copy{dir: dir, cache: o.Cache, opt: o, parallel: o.Parallel, boot: bootTime()}
	if c.parallel <= 0 {
		c.parallel = 8
	}
	if o.HTTP == nil {
		o.HTTP = newHTTPClient(c.parallel)
	}
	c.client = client{http: guardRedirects(o.HTTP), limits: defaultLimits(), offline: o.Offline}
	if c.cache == "" {
		c.cache = dir
	}
	for _, top := range []string{dir, c.cache} {
		if err := os.MkdirAll(top, 0o700); err != nil {
			return nil, fmt.Errorf("open archive copy: %w", err)
		}
	}
	for _, sub := range []string{
		filepath.Join(dir, "releases"), filepath.Join(dir, "suites"), filepath.Join(dir, "locks"),
		filepath.Join(c.cache, "by-hash"), filepath.Join(c.cache, "pool"), filepath.Join(c.cache, "views"),
	} {
		if err := mkdir(sub); err != nil {
			return nil, fmt.Errorf("open archive copy: %w", err)
		}
	}
	return c, c.reapViews()
}

// mkdir makes a directory that containers can look into, whatever the umask.
func mkdir(dir string) error {
	err := os.Mkdir(dir, 0o755)
	if err == nil {
		return os.Chmod(dir, 0o755)
	}
	if os.IsExist(err) {
		return nil
	}
	return err
}

// Path returns where the pool keeps the file with this SHA-256 (lower-case
// hex), whether it is there or not.
func (c *Copy) Path(sha256 string) string {
	if checkSHA256(sha256) != nil {
		return filepath.Join(c.cache, "pool", "invalid")
	}
	return filepath.Join(c.cache, "pool", sha256[:2], sha256)
}

func (c *Copy) indexPath(sha256 string) string   { return filepath.Join(c.cache, "by-hash", sha256) }
func (c *Copy) releasePath(sha256 string) string { return filepath.Join(c.dir, "releases", sha256) }

// lock takes one of the copy's locks for a short step.
func (c *Copy) lock(ctx context.Context, name string, mode lock.Mode) (*lock.Lock, error) {
	return lock.Acquire(ctx, filepath.Join(c.dir, "locks", name), mode, func(holder string) {
		c.opt.Report.Note("waiting for the archive copy, held by %s", holder)
	})
}

// checkSHA256 accepts a lower-case hex SHA-256.
func checkSHA256(s string) error {
	if len(s) != 64 || strings.Trim(s, "0123456789abcdef") != "" {
		return fault.New(fault.Input, "not a SHA-256: %q", s)
	}
	return nil
}

// bootTime returns when the machine started, or now if it cannot be told,
// which only makes us check more.
func bootTime() time.Time {
	data, _ := os.ReadFile("/proc/stat")
	for line := range strings.Lines(string(data)) {
		if s, ok := strings.CutPrefix(line, "btime "); ok {
			if sec, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64); err == nil {
				return time.Unix(sec, 0)
			}
		}
	}
	return time.Now()
}
