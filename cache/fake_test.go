package cache

import (
	"archive/tar"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"dbuild/engine"
	"dbuild/internal/report"
	"dbuild/internal/tree"
	"dbuild/sign"
)

// fakeEngine keeps layers as plain directories. It does not seal.
type fakeEngine struct {
	engine.Engine // what tests do not need panics
	dir           string
	mu            sync.Mutex
	images        map[engine.ImageID]engine.Image
	digests       int // how often everything was hashed
	imports       int
}

func newFake(t testing.TB) *fakeEngine {
	return &fakeEngine{dir: t.TempDir(), images: make(map[engine.ImageID]engine.Image)}
}

func ids() tree.IDMap { return tree.IDMap{HostUID: os.Geteuid(), HostGID: os.Getegid(), Size: 1} }

func (f *fakeEngine) Info(context.Context) (engine.Info, error) {
	return engine.Info{Kind: "fake", ID: "fake-1", Arch: "amd64"}, nil
}

func (f *fakeEngine) path(id engine.ImageID) string { return filepath.Join(f.dir, string(id)) }

// chain returns the layers of an image, lowest first.
func (f *fakeEngine) chain(id engine.ImageID) (dirs []string) {
	if parent := f.images[id].Parent; parent != "" {
		dirs = f.chain(parent)
	}
	return append(dirs, f.path(id))
}

func (f *fakeEngine) stack(ctx context.Context, id engine.ImageID) (stack tree.Stack, err error) {
	for _, dir := range f.chain(id) {
		_, seal, err := tree.Read(ctx, dir, ids(), 1)
		if err != nil {
			return nil, err
		}
		stack = append(stack, seal)
	}
	return stack, nil
}

func (f *fakeEngine) Digest(ctx context.Context, id engine.ImageID) (tree.Digest, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.digests++
	stack, err := f.stack(ctx, id)
	return stack.Manifest().Digest(), err
}

func (f *fakeEngine) Export(ctx context.Context, id engine.ImageID, w io.Writer) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	stack, err := f.stack(ctx, id)
	if err != nil {
		return err
	}
	_, err = tree.WriteTar(ctx, w, stack.Manifest(), tree.Layers{Dirs: f.chain(id), Map: ids()}, tree.TarOptions{})
	return err
}

func (f *fakeEngine) Image(_ context.Context, id engine.ImageID) (engine.Image, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	img, ok := f.images[id]
	if !ok {
		return img, fmt.Errorf("image %q: %w", id, engine.ErrNotFound)
	}
	return img, nil
}

func (f *fakeEngine) Images(context.Context) (all []engine.Image, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, img := range f.images {
		all = append(all, img)
	}
	return all, nil
}

func (f *fakeEngine) Remove(_ context.Context, id engine.ImageID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.images[id]; !ok {
		return engine.ErrNotFound
	}
	for _, img := range f.images {
		if img.Parent == id {
			return engine.ErrInUse
		}
	}
	delete(f.images, id)
	return nil
}

// sealingEngine is a fakeEngine that seals.
type sealingEngine struct{ *fakeEngine }

func (f sealingEngine) Seal(ctx context.Context, id engine.ImageID, parent []byte) (tree.Digest, []byte, error) {
	var stack tree.Stack
	var err error
	if parent != nil {
		if stack, err = tree.UnmarshalStack(parent); err != nil {
			return "", nil, err
		}
	}
	_, seal, err := tree.Read(ctx, f.path(id), ids(), 1)
	if err != nil {
		return "", nil, err
	}
	stack = append(stack, seal)
	return stack.Manifest().Digest(), stack.Marshal(), nil
}

func (f sealingEngine) CheckSeal(ctx context.Context, id engine.ImageID, seal []byte) error {
	stack, err := tree.UnmarshalStack(seal)
	if err != nil {
		return err
	}
	dirs := f.chain(id)
	if len(dirs) != len(stack) {
		return engine.ErrDamaged
	}
	for i, s := range stack {
		if _, err := s.Check(ctx, dirs[i], ids(), 1); err != nil {
			return errors.Join(engine.ErrDamaged, err)
		}
	}
	return nil
}

// reporter collects what is reported.
type reporter struct {
	report.Reporter
	mu   sync.Mutex
	text []string
}

func (n *reporter) Note(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.text = append(n.text, fmt.Sprintf(format, args...))
}

func (n *reporter) Warn(format string, args ...any) { n.Note(format, args...) }

func (n *reporter) has(part string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Contains(strings.Join(n.text, "\n"), part)
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// fixture is a store with its surroundings.
type fixture struct {
	*Store
	t     testing.TB
	fake  *fakeEngine
	key   *sign.Key
	db    *sql.DB
	notes *reporter
	now   time.Time
}

func openDB(t testing.TB) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "dbuild.db")+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)&_pragma=synchronous(off)")
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	return db
}

func newKey(t testing.TB) *sign.Key {
	t.Helper()
	key, err := sign.Generate("dbuild images test", time.Unix(1_700_000_000, 0))
	must(t, err)
	return key
}

// newFixture makes an empty store; sealed says whether its engine seals.
func newFixture(t testing.TB, sealed bool) *fixture {
	t.Helper()
	f := &fixture{t: t, fake: newFake(t), key: newKey(t), db: openDB(t), notes: &reporter{}, now: time.Now()}
	f.open(t.TempDir(), sealed, f.key, "boot-1")
	return f
}

// open opens the store again, perhaps with another key or after a reboot.
func (f *fixture) open(dir string, sealed bool, key *sign.Key, boot string) {
	f.t.Helper()
	var eng engine.Engine = f.fake
	if sealed {
		eng = sealingEngine{f.fake}
	}
	s, err := Open(ctx, dir, eng, key, Options{
		Report: f.notes, Now: func() time.Time { return f.now }, DB: f.db, BootID: boot, State: "state-1", Tool: "dbuild test"})
	must(f.t, err)
	f.Store = s
}

// image stores a layer with these files and returns it as an engine would.
func (f *fixture) image(parent engine.ImageID, files ...string) engine.Image {
	f.t.Helper()
	f.fake.mu.Lock()
	defer f.fake.mu.Unlock()
	id := engine.ImageID(fmt.Sprintf("img-%d", len(f.fake.images)+1))
	dir := f.fake.path(id)
	must(f.t, os.Mkdir(dir, 0o755))
	if parent == "" {
		for _, d := range []string{"dev", "proc", "sys", "run", "tmp", "etc"} {
			must(f.t, os.Mkdir(filepath.Join(dir, d), 0o755))
		}
	}
	for _, name := range files {
		full := filepath.Join(dir, name)
		must(f.t, os.MkdirAll(filepath.Dir(full), 0o755), os.WriteFile(full, []byte("content of "+name), 0o644))
	}
	img := engine.Image{ID: id, Parent: parent, Size: 1000, Created: f.now,
		Config: engine.Config{Tag: "tag-" + string(id), Labels: map[string]string{LabelState: "state-1"}}}
	f.fake.images[id] = img
	return img
}

const archiveKey = "4D64FEC119C2029067D6E791F8D2585B8783D481"

func policy() Policy {
	return Policy{Suite: "bookworm", Suites: []string{"bookworm", "bookworm-security"}, Components: []string{"main"},
		Arch: "amd64", HostArch: "amd64", Variant: "buildd", Recipe: "1", Keys: []string{archiveKey}}
}

func baseStatement() Statement {
	return Statement{Suite: "bookworm", Components: []string{"main"}, Arch: "amd64", HostArch: "amd64", Variant: "buildd", Recipe: "1",
		Archive: []Archive{
			{URL: "http://a.test/debian", Suite: "bookworm", Date: time.Unix(1_700_000_000, 5), InRelease: strings.Repeat("a", 64), SignedBy: archiveKey},
			{URL: "http://a.test/security", Suite: "bookworm-security", Date: time.Unix(1_700_000_000, 0), InRelease: strings.Repeat("b", 64), SignedBy: archiveKey},
		},
		Packages: []Package{pkg("dpkg"), pkg("base-files")}}
}

func pkg(name string) Package {
	return Package{Name: name, Version: "1.0-1", Arch: "amd64", SHA256: strings.Repeat("c", 64)}
}

// addBase puts a base in force and closes it.
func (f *fixture) addBase(files ...string) *Entry {
	f.t.Helper()
	e, err := f.AddBase(ctx, f.image("", append(files, "etc/passwd")...), baseStatement())
	must(f.t, err, e.Close())
	return e
}

func (f *fixture) addDeps(parent *Entry, names ...string) *Entry {
	f.t.Helper()
	st := Statement{Packages: append([]Package{}, parent.Statement.Packages...), Steps: []string{"install " + strings.Join(names, " ")}}
	for _, n := range names {
		st.Packages = append(st.Packages, pkg(n))
	}
	e, err := f.AddDeps(ctx, parent, f.image(parent.Image.ID, "usr/lib/"+strings.Join(names, "-")), st)
	must(f.t, err, e.Close())
	return e
}

func (e *Entry) depsKey() string { return DepsKey(e.Statement.Packages, e.Statement.Recipe) }

// check is Entry.Check without the means.
func check(e *Entry) error {
	_, err := e.Check(ctx)
	return err
}

// Import unpacks a tar as the user who runs the tests.
func (f *fakeEngine) Import(_ context.Context, r io.Reader, cfg engine.Config) (engine.Image, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.imports++
	id := engine.ImageID(fmt.Sprintf("imported-%d", f.imports))
	root := f.path(id)
	if err := os.Mkdir(root, 0o755); err != nil {
		return engine.Image{}, err
	}
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return engine.Image{}, err
		}
		path := filepath.Join(root, h.Name)
		switch h.Typeflag {
		case tar.TypeDir:
			if err := os.MkdirAll(path, 0o755); err != nil {
				return engine.Image{}, err
			}
		case tar.TypeReg:
			data, err := io.ReadAll(t)
			if err == nil {
				err = errors.Join(os.WriteFile(path, data, 0o600), os.Chmod(path, h.FileInfo().Mode().Perm()), os.Chtimes(path, h.ModTime, h.ModTime))
			}
			if err != nil {
				return engine.Image{}, err
			}
		}
	}
	f.images[id] = engine.Image{ID: id, Size: 1000, Created: time.Now(), Config: cfg}
	return f.images[id], nil
}
