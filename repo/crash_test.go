package repo

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dbuild/internal/fault"
	"dbuild/sign"
)

// What a helper process is told: where the repository is, which upload to
// publish, and before which change to die.
const (
	crashState = "DBUILD_TEST_CRASH_STATE"
	crashStep  = "DBUILD_TEST_CRASH_STEP"
)

// crashUploads are the state before and the publish that is disturbed: a
// rebuild with other bytes, a source, a new component and architecture.
func crashUploads(t testing.TB) (before, disturbed Upload) {
	before = upload(t, "2.10-3", append(source(t, "2.10-3", "orig", "one"), pkg{content: "first"}.build(t))...)
	before.Build = "build-1"
	disturbed = upload(t, "2.10-3", append(source(t, "2.10-3", "orig", "two"), pkg{content: "second"}.build(t),
		pkg{arch: "arm64"}.build(t), pkg{name: "hello-doc", source: "hello", arch: "all", section: "contrib/doc"}.build(t))...)
	disturbed.Changes.Data = []byte(strings.ReplaceAll(string(disturbed.Changes.Data), "devel optional hello-doc", "contrib/doc optional hello-doc"))
	disturbed.Build = "build-2"
	return before, disturbed
}

// crash is one publish that can be disturbed any number of times, each time in
// a copy of the same state.
type crash struct {
	template  string
	disturbed Upload
	old, new  listing
	signDebs  bool
}

func prepareCrash(t testing.TB, signDebs bool) crash {
	t.Helper()
	before, disturbed := crashUploads(t)
	c := crash{disturbed: disturbed, signDebs: signDebs}
	e := c.open(t, t.TempDir())
	e.publish(t, before)
	c.old = look(t, e.Dir(), "bookworm")
	// Writes the whole database into its main file.
	if err := e.db.Close(); err != nil {
		t.Fatal(err)
	}
	c.template = e.state
	e = c.open(t, c.state(t))
	e.publish(t, disturbed)
	c.new = look(t, e.Dir(), "bookworm")
	return c
}

func (c crash) open(t testing.TB, state string) *env {
	t.Helper()
	return openSigning(t, state, key(t), c.signDebs)
}

// state is a fresh copy of the state before.
func (c crash) state(t testing.TB) string {
	t.Helper()
	dir := memoryDir(t)
	if err := os.CopyFS(dir, os.DirFS(c.template)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// memoryDir is a directory in memory where there is one: a kill is survived
// without the disk, and hundreds of publishes need not wait for it.
func memoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "dbuild-repo-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// check is what must hold wherever a publish ended: a client sees the
// old suite or the new one, the same publish then works without repair, and
// Collect leaves nothing that is not needed.
func (c crash) check(t *testing.T, state string) {
	t.Helper()
	seen := look(t, filepath.Join(state, "repo"), "bookworm")
	if !cmp.Equal(seen, c.old) && !cmp.Equal(seen, c.new) {
		t.Fatalf("neither old nor new: %s", cmp.Diff(c.old, seen))
	}
	e := c.open(t, state)
	e.publish(t, c.disturbed)
	if diff := cmp.Diff(c.new, look(t, e.Dir(), "bookworm")); diff != "" {
		t.Fatalf("after the second try (-want +got):\n%s", diff)
	}
	if _, err := e.Collect(t.Context(), e.clock.now()); err != nil {
		t.Fatal(err)
	}
	look(t, e.Dir(), "bookworm")
	for p := range snapshot(t, e.Dir()) {
		if strings.HasSuffix(p, ".tmp") {
			t.Errorf("left behind: %s", p)
		}
	}
}

var errStopped = errors.New("stopped by the test")

// TestEveryStepMayFail lets each change of a publish fail, as on a full disk,
// once alone and once with all that come after, as if the process were gone.
func TestEveryStepMayFail(t *testing.T) {
	for _, after := range []string{"full disk", "nothing works any more", "signed packages"} {
		t.Run(after, func(t *testing.T) {
			c := prepareCrash(t, after == "signed packages")
			for k := 1; ; k++ {
				state := c.state(t)
				e := c.open(t, state)
				n, failed := 0, ""
				e.before = func(op, path string) error {
					n++
					if n == k || n > k && after != "full disk" {
						failed += " " + op + " " + path
						return fmt.Errorf("%w: %w", errStopped, syscall.ENOSPC)
					}
					return nil
				}
				_, err := e.Publish(t.Context(), c.disturbed)
				if failed == "" {
					if err != nil {
						t.Fatal(err)
					}
					if k < 20 {
						t.Fatalf("a publish of only %d steps", k)
					}
					return
				}
				// What is not tidied after all is done is no failure.
				tidying := err == nil && (strings.HasPrefix(failed, " remove "+shardDir("bookworm")) || strings.Contains(failed, " "+recordDir("bookworm")))
				if !tidying && (!errors.Is(err, errStopped) || fault.ClassOf(err) != fault.Resource) {
					t.Errorf("step %d,%s: %v", k, failed, err)
				}
				e.before = nil
				c.check(t, state)
				if t.Failed() {
					t.Fatalf("at step %d:%s", k, failed)
				}
			}
		})
	}
}

// TestKilledAtEveryStep kills a process ahead of each change of its publish.
func TestKilledAtEveryStep(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a process for each step; left out with -short")
	}
	c := prepareCrash(t, false)
	for k := 1; ; k++ {
		state := c.state(t)
		if err := key(t).Save(filepath.Join(state, "key")); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrashHelper$", "-test.v")
		cmd.Env = append(os.Environ(), crashState+"="+state, crashStep+"="+strconv.Itoa(k))
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err == nil {
			if k < 20 {
				t.Fatalf("a publish of only %d steps", k)
			}
			return
		}
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("helper: %v\n%s", err, out)
		}
		c.check(t, state)
		if t.Failed() {
			t.Fatalf("at step %d", k)
		}
	}
}

// TestCrashHelper is the process that TestKilledAtEveryStep kills.
func TestCrashHelper(t *testing.T) {
	state := os.Getenv(crashState)
	if state == "" {
		t.Skip("is run by TestKilledAtEveryStep")
	}
	k, err := strconv.Atoi(os.Getenv(crashStep))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := sign.Load(filepath.Join(state, "key"))
	if err != nil {
		t.Fatal(err)
	}
	_, disturbed := crashUploads(t)
	r, err := Open(t.Context(), filepath.Join(state, "repo"), openDB(t, filepath.Join(state, "dbuild.db")), signer, Options{
		Now: func() time.Time { return time.Now().Add(-30 * time.Minute) },
	})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	r.before = func(string, string) error {
		if n++; n == k {
			if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			select {}
		}
		return nil
	}
	if _, err := r.Publish(t.Context(), disturbed); err != nil {
		t.Fatal(err)
	}
}

// TestShortFilesAreNotTrusted cuts the files that an unfinished publish left,
// as a power cut may.
func TestShortFilesAreNotTrusted(t *testing.T) {
	c := prepareCrash(t, false)
	state := c.state(t)
	before := snapshot(t, filepath.Join(state, "repo"))
	e := openEnv(t, state)
	e.before = func(op, path string) error {
		if op == "rename" && path == "dists/bookworm" {
			return errStopped
		}
		return nil
	}
	if _, err := e.Publish(t.Context(), c.disturbed); !errors.Is(err, errStopped) {
		t.Fatal(err)
	}
	cut := 0
	for p := range snapshot(t, e.Dir()) {
		if fi, err := os.Lstat(p); err == nil && fi.Mode().IsRegular() && before[p] == "" && nlink(fi) == 1 {
			cut++
			if err := os.Truncate(p, fi.Size()/2); err != nil {
				t.Fatal(err)
			}
		}
	}
	if cut < 5 {
		t.Fatalf("only %d files to cut", cut)
	}
	e.before = nil
	c.check(t, state)
}
