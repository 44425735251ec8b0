package repo

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"dbuild/deb"
	"dbuild/internal/report"
	"dbuild/sign"
)

// clock is a clock that moves only by sleeping.
type clock struct {
	mu    sync.Mutex
	time  time.Time
	slept time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.time
}

func (c *clock) sleep(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.time, c.slept = c.time.Add(d), c.slept+d
	return ctx.Err()
}

func openDB(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(wal)&_pragma=busy_timeout(5000)&_pragma=synchronous(full)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := Migrate(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	return db
}

var testKey = sync.OnceValues(func() (*sign.Key, error) {
	return sign.Generate("dbuild test repository", time.Now().Add(-48*time.Hour))
})

func key(t testing.TB) *sign.Key {
	t.Helper()
	k, err := testKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// notes collects what a repository reports.
type notes struct {
	mu   sync.Mutex
	warn []string
}

func (n *notes) Warn(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.warn = append(n.warn, fmt.Sprintf(format, args...))
}

// env is a repository with its parts.
type env struct {
	*Repo
	state string
	clock *clock
	db    *sql.DB
}

// newEnv opens a repository in a new directory. Its clock stands still an hour
// ago, so that many generations fit before now.
func newEnv(t testing.TB) *env {
	t.Helper()
	return openEnv(t, t.TempDir())
}

func openEnv(t testing.TB, state string) *env {
	t.Helper()
	return openSigning(t, state, key(t), false)
}

// openSigning opens a repository that may sign packages, with a key that has
// taken over from the usual one if it is another.
func openSigning(t testing.TB, state string, own *sign.Key, signDebs bool) *env {
	t.Helper()
	c := &clock{time: time.Now().Add(-time.Hour)}
	db := openDB(t, filepath.Join(state, "dbuild.db"))
	o := Options{Now: c.now, SignDebs: signDebs}
	if own != key(t) {
		o.Also = []sign.Signer{key(t)}
	}
	r, err := Open(t.Context(), filepath.Join(state, "repo"), db, own, o)
	if err != nil {
		t.Fatal(err)
	}
	r.sleep = c.sleep
	return &env{r, state, c, db}
}

func (e *env) publish(t testing.TB, u Upload) Published {
	t.Helper()
	p, err := e.Publish(t.Context(), u)
	if err != nil {
		t.Fatalf("publish: %v", err)
	}
	return p
}

// listing is what a client sees of a suite: index path and file name to hash.
type listing map[string]string

// look reads a suite as a careful client does, by way of the link in dists:
// signatures, every row, every index by name and by hash, every file of the
// pool. It fails the test on anything that does not fit.
func look(t testing.TB, dir, suite string) listing {
	t.Helper()
	l, err := client{dir, suite}.read(t)
	if err != nil {
		t.Fatalf("the suite is broken: %v", err)
	}
	return l
}

type client struct{ dir, suite string }

func (c client) read(t testing.TB) (listing, error) {
	dists := filepath.Join(c.dir, "dists", c.suite)
	doc, err := os.ReadFile(filepath.Join(dists, "InRelease"))
	if err != nil {
		return nil, err
	}
	ring := key(t).Keyring()
	pol := sign.Policy{Now: time.Now()}
	text, _, err := ring.VerifyClearsigned(doc, pol)
	if err != nil {
		return nil, err
	}
	plain, err := os.ReadFile(filepath.Join(dists, "Release"))
	if err != nil {
		return nil, err
	}
	detached, err := os.ReadFile(filepath.Join(dists, "Release.gpg"))
	if err != nil {
		return nil, err
	}
	if _, err := ring.VerifyDetached(plain, detached, pol); err != nil {
		return nil, err
	}
	if !bytes.Equal(bytes.TrimSpace(plain), bytes.TrimSpace(text)) {
		return nil, errors.New("the two Release files differ")
	}
	rel, err := deb.ParseRelease(text)
	if err != nil {
		return nil, err
	}
	l := listing{}
	for p, row := range rel.Files {
		if err := c.readIndex(rel, p, row, l); err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
	}
	return l, nil
}

func (c client) readIndex(rel *deb.Release, p string, row deb.IndexFile, l listing) error {
	dists := filepath.Join(c.dir, "dists", c.suite)
	file := filepath.Join(dists, p)
	if !stored(p) {
		if _, err := os.Stat(file); err == nil {
			return errors.New("the uncompressed file is stored")
		}
		if _, gz := rel.Files[p+".gz"]; !gz {
			return errors.New("no gz")
		}
		if _, zst := rel.Files[p+".zst"]; !zst {
			return errors.New("no zst")
		}
		return nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	byHash, err := os.ReadFile(filepath.Join(dists, path.Dir(p), "by-hash/SHA256", row.SHA256))
	if err != nil {
		return err
	}
	if sha(b) != row.SHA256 || int64(len(b)) != row.Size || !bytes.Equal(b, byHash) {
		return errors.New("not the bytes that Release names")
	}
	plain, ok := rel.Files[strings.TrimSuffix(p, path.Ext(p))]
	if !ok {
		return errors.New("no row of the uncompressed index")
	}
	text, err := readCompressed(file, path.Ext(p), plain.Size)
	if err != nil {
		return err
	}
	if sha(text) != plain.SHA256 || int64(len(text)) != plain.Size {
		return errors.New("uncompressed: not the bytes that Release names")
	}
	return c.readStanzas(plain.Path, text, l)
}

func (c client) readStanzas(index string, text []byte, l listing) error {
	if _, ok := parseIndexPath(index); !ok {
		return nil // nothing of the pool
	}
	return deb.ScanStanzas(bytes.NewReader(text), func(b []byte, _ int64) error {
		b = slices.Clone(b)
		if strings.HasSuffix(index, "/Sources") {
			src, err := deb.ParseSourceEntry(b)
			if err != nil {
				return err
			}
			for _, f := range src.Files {
				if err := c.pooled(index, path.Join(src.Directory, f.Name), f.Size, f.SHA256, l); err != nil {
					return err
				}
			}
			return nil
		}
		p, err := deb.ParsePackage(b)
		if err != nil {
			return err
		}
		return c.pooled(index, p.Filename, p.Size, p.SHA256, l)
	})
}

func (c client) pooled(index, file string, size int64, sum string, l listing) error {
	b, err := os.ReadFile(filepath.Join(c.dir, file))
	if err != nil {
		return err
	}
	if int64(len(b)) != size || sha(b) != sum {
		return fmt.Errorf("%s: not the bytes that the index names", file)
	}
	l[index+" "+path.Base(file)] = sum
	return nil
}

// snapshot is every path of a tree with its type, mode, times and bytes.
func snapshot(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Base(p) == ".lock" {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		all[p] = fmt.Sprint(fi.Mode(), fi.ModTime(), nlink(fi))
		if fi.Mode().IsRegular() {
			all[p] += sha(readFile(t, p))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// warnOnly is a reporter that keeps warnings.
type warnOnly struct{ *notes }

func (warnOnly) Progress(report.Progress) {}
func (warnOnly) Note(string, ...any)      {}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// contextEndingAt returns a context that is cancelled when a step on a path
// that contains part is about to happen.
func contextEndingAt(t testing.TB, e *env, op, part string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(t.Context())
	e.before = func(o, p string) error {
		if o == op && strings.Contains(p, part) {
			cancel()
		}
		return nil
	}
	return ctx, cancel
}
