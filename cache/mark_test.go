package cache

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dbuild/engine"
	"dbuild/internal/fault"
)

func TestMeansOfCheck(t *testing.T) {
	for name, test := range map[string]struct {
		sealed  bool
		between Means
	}{"plain engine": {false, MeansID}, "sealing engine": {true, MeansSeal}} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, test.sealed)
			f.addBase()
			for i, step := range []struct {
				boot string
				want Means
			}{{"boot-1", test.between}, {"boot-2", MeansRehash}, {"boot-2", test.between}, {"", MeansRehash}} {
				f.open(f.dir, test.sealed, f.key, step.boot)
				if step.boot == "" {
					f.o.BootID = "" // the kernel does not tell
				}
				e, err := f.Base(ctx, policy())
				must(t, err)
				got, err := e.Check(ctx)
				must(t, err, e.Close())
				if got != step.want {
					t.Errorf("step %d: by %q, want %q", i, got, step.want)
				}
			}
		})
	}
}

// TestKilledUser has a process die while it holds an image: that image and
// those which share a layer with it are hashed before their next use, others
// are not.
func TestKilledUser(t *testing.T) {
	f := newFixture(t, true)
	base := f.addBase()
	deps := f.addDeps(base, "debhelper")
	sister := f.addDeps(base, "cmake")
	other := f.addBase("other")
	// A lock of another open file, which is what a dead process does not have.
	mark := filepath.Join(f.marksDir(), deps.Hash+".1")
	must(t, os.WriteFile(mark, nil, 0o600))
	holder, err := os.Open(mark)
	must(t, err, unix.Flock(int(holder.Fd()), unix.LOCK_EX))

	means := func(hash string) Means {
		t.Helper()
		e, err := f.Entry(ctx, hash)
		must(t, err)
		m, err := e.Check(ctx)
		must(t, err, e.Close())
		return m
	}
	f.open(f.dir, true, f.key, "boot-1")
	if got := means(deps.Hash); got != MeansSeal {
		t.Errorf("while it is in use: by %q", got)
	}
	must(t, holder.Close())
	f.open(f.dir, true, f.key, "boot-1")
	for hash, want := range map[string]Means{base.Hash: MeansRehash, deps.Hash: MeansRehash, sister.Hash: MeansRehash, other.Hash: MeansSeal} {
		if got := means(hash); got != want {
			t.Errorf("%.12s: by %q, want %q", hash, got, want)
		}
		if got := means(hash); got != MeansSeal {
			t.Errorf("%.12s again: by %q", hash, got)
		}
	}
	left, err := os.ReadDir(f.marksDir())
	must(t, err)
	if len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestKilledUserProcess is the same with a real process.
func TestKilledUserProcess(t *testing.T) {
	if dir := os.Getenv("DBUILD_TEST_MARK"); dir != "" {
		s := &Store{dir: dir}
		if _, err := s.newMark(os.Getenv("DBUILD_TEST_HASH")); err != nil {
			t.Fatal(err)
		}
		must(t, unix.Kill(os.Getpid(), unix.SIGKILL))
	}
	f := newFixture(t, false)
	base := f.addBase()
	c := exec.Command(os.Args[0], "-test.run=^TestKilledUserProcess$")
	c.Env = append(os.Environ(), "DBUILD_TEST_MARK="+f.dir, "DBUILD_TEST_HASH="+base.Hash)
	if err := c.Run(); err == nil {
		t.Fatal("it was not killed")
	}
	f.open(f.dir, false, f.key, "boot-1")
	e, err := f.Base(ctx, policy())
	must(t, err)
	defer e.Close()
	if m, err := e.Check(ctx); m != MeansRehash || err != nil {
		t.Errorf("by %q, error %v", m, err)
	}
}

func TestUnnamedMarkIsReaped(t *testing.T) {
	f := newFixture(t, false)
	path := filepath.Join(f.marksDir(), ".x.1.tmp")
	must(t, os.WriteFile(path, nil, 0o600))
	old := f.now.Add(-2 * Grace)
	must(t, os.Chtimes(path, old, old))
	f.open(f.dir, false, f.key, "boot-1")
	if n, err := f.Reap(ctx); n != 1 || err != nil {
		t.Errorf("reaped %d, %v", n, err)
	}
}

// TestRehashFindsWhatTheIDCannot changes a byte in the store of an engine that
// does not seal.
func TestRehashFindsWhatTheIDCannot(t *testing.T) {
	f := newFixture(t, false)
	base := f.addBase()
	e, err := f.Base(ctx, policy())
	must(t, err)
	rewrite(t, filepath.Join(f.fake.path(base.Image.ID), "etc/passwd"), flip)
	m, err := e.Check(ctx)
	must(t, err, e.Close())
	if m != MeansID {
		t.Errorf("by %q", m)
	}
	for name, again := range map[string]func(){
		"after a boot": func() { f.open(f.dir, false, f.key, "boot-2") },
		"after an unclean end": func() {
			must(t, os.WriteFile(filepath.Join(f.marksDir(), base.Hash+".9"), nil, 0o600))
			f.open(f.dir, false, f.key, "boot-1")
		},
	} {
		t.Run(name, func(t *testing.T) {
			again()
			e, err := f.Base(ctx, policy())
			must(t, err)
			defer e.Close()
			if _, err := e.Check(ctx); fault.ClassOf(err) != fault.Trust || !errors.Is(err, engine.ErrDamaged) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func BenchmarkMark(b *testing.B) {
	s := &Store{dir: b.TempDir()}
	must(b, os.Mkdir(s.marksDir(), 0o700))
	hash := hashOf([]byte(time.Now().String()))
	for b.Loop() {
		m, err := s.newMark(hash)
		must(b, err, m.remove())
	}
}
