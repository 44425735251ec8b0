package native

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dbuild/agent"
	"dbuild/engine"
	"dbuild/engine/enginetest"
	"dbuild/internal/testenv"
)

func TestMain(m *testing.M) {
	agent.MaybeMain()
	enterAsUser()
	if dir, image, ok := strings.Cut(os.Getenv(ownerVar), ":"); ok {
		fmt.Fprintln(os.Stderr, own(dir, engine.ImageID(image)))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func open(t testing.TB) *Engine {
	t.Helper()
	testenv.NeedRoot(t)
	e, err := Open(t.Context(), Options{Dir: t.TempDir(), State: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close engine: %v", err)
		}
	})
	return e
}

// openWithImage opens an engine that holds the suite's root file system.
func openWithImage(t testing.TB) (*Engine, engine.Image) {
	t.Helper()
	e := open(t)
	return e, importTool(t, e)
}

func importTool(t testing.TB, e *Engine) engine.Image {
	t.Helper()
	im, err := e.Import(t.Context(), bytes.NewReader(enginetest.RootTar(enginetest.Payload(t))), engine.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return im
}

func TestEngine(t *testing.T) {
	testenv.NeedRoot(t)
	enginetest.Run(t, func(t *testing.T) engine.Engine { return open(t) })
}

// TestForeignCalls: the 32-bit entry into the kernel is open to a 32-bit
// payload only, and the deny list holds there as well.
func TestForeignCalls(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("needs amd64, which runs i386")
	}
	e := open(t)
	im, err := e.Import(t.Context(), bytes.NewReader(enginetest.RootTar(enginetest.PayloadFor(t, "386"))), engine.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, arch := range []string{"i386", "amd64"} {
		c, err := e.Create(t.Context(), engine.Spec{Image: im.ID, Purpose: engine.PurposeBuild, Network: engine.NetworkNone, Arch: arch})
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		step := engine.Step{Argv: []string{enginetest.ToolPath, "probe"}, User: engine.User{UID: 1000, GID: 1000}, Stdout: &out, Timeout: 20 * time.Second}
		exit, err := c.Run(t.Context(), step)
		if err != nil || exit.OK() != (arch == "i386") {
			t.Errorf("a 32-bit program in a container for %s: %+v, %v\n%s", arch, exit, err, out.String())
		}
		if arch == "i386" {
			// Go, like Debian's C library, makes its sockets with socketcall(2).
			sockets := step
			var made bytes.Buffer
			sockets.Argv, sockets.Stdout = []string{enginetest.ToolPath, "socket", "38", "40", "17", "1", "2"}, &made
			const want = "38 operation not permitted\n40 operation not permitted\n17 operation not permitted\n1 <nil>\n2 socket type not supported\n"
			if _, err := c.Run(t.Context(), sockets); err != nil || made.String() != want {
				t.Errorf("sockets: %v, %q, want %q", err, made.String(), want)
			}
		}
		for line := range strings.Lines(out.String()) {
			if name, rest, _ := strings.Cut(line, " "); strings.HasPrefix(rest, "reached") && name != "ptrace" && name != "process_vm_readv" && name != "x32" {
				t.Error(line)
			}
		}
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestClosedStore: nobody but the mapped root reaches a layer's files, and no
// stored file belongs to a real user.
func TestClosedStore(t *testing.T) {
	e, im := openWithImage(t)
	var st unix.Stat_t
	if err := unix.Stat(e.layerDir(im.ID), &st); err != nil || st.Mode&0o777 != 0o700 || int(st.Uid) != e.store.IDBase {
		t.Errorf("layer directory has mode %o, owner %d (%v)", st.Mode, st.Uid, err)
	}
	err := filepath.Walk(e.layerRoot(im.ID), func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		for _, id := range []uint32{st.Uid, st.Gid} {
			if int(id) < e.store.IDBase || int(id) >= e.store.IDBase+e.store.IDSize {
				t.Errorf("%q belongs to %d:%d", path, st.Uid, st.Gid)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestDamage: every kind of change to a stored file is found.
func TestDamage(t *testing.T) {
	for _, x := range []struct {
		name   string
		damage func(root string, base int) error
	}{
		{"content", func(root string, base int) error { return os.WriteFile(root+"/etc/plain", []byte("PLAIN\n"), 0o644) }},
		{"mode", func(root string, base int) error { return os.Chmod(root+"/etc/plain", 0o666) }},
		{"owner", func(root string, base int) error { return os.Chown(root+"/etc/plain", base+1, base) }},
		{"missing", func(root string, base int) error { return os.Remove(root + "/etc/plain") }},
		{"added", func(root string, base int) error { return unix.Mknod(root+"/etc/added", unix.S_IFREG|0o644, 0) }},
		{"replaced", func(root string, base int) error {
			return errors.Join(os.Remove(root+"/etc/plain"), os.Symlink("/etc/shadow", root+"/etc/plain"))
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			e, im := openWithImage(t)
			before, seal, err := e.Seal(t.Context(), im.ID, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := x.damage(e.layerRoot(im.ID), e.store.IDBase); err != nil {
				t.Fatal(err)
			}
			err = e.CheckSeal(t.Context(), im.ID, seal)
			if !errors.Is(err, engine.ErrDamaged) || !strings.Contains(err.Error(), "etc") {
				t.Errorf("check says %v, want ErrDamaged naming the file", err)
			}
			if after, err := e.Digest(t.Context(), im.ID); err == nil && after == before {
				t.Error("the digest is the same")
			}
		})
	}
}

// TestRemoveDeep: a tree nested far more deeply than is walked at once goes
// away, with directories whose owner closed them.
func TestRemoveDeep(t *testing.T) {
	top := t.TempDir()
	tree := filepath.Join(top, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(tree, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 25 * maxDepth {
		mode := uint32(0o755)
		if os.Geteuid() == 0 && i%100 == 0 {
			mode = 0 // only root gets into these
		}
		if err := unix.Mkdirat(fd, "d", mode); err != nil {
			t.Fatal(err)
		}
		if i%10 == 0 {
			if err := unix.Symlinkat("/", fd, "link"); err != nil {
				t.Fatal(err)
			}
		}
		next, err := unix.Openat(fd, "d", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		fd = next
	}
	unix.Close(fd)
	if err := removeTree(tree); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(top); err != nil || len(entries) != 0 {
		t.Errorf("left: %v (%v)", entries, err)
	}
	if err := removeTree(tree); err != nil {
		t.Errorf("removing what is not there: %v", err)
	}
}

// TestNoLeaks: a container leaves no descriptor, goroutine, process, file or
// control group behind.
func TestNoLeaks(t *testing.T) {
	e, im := openWithImage(t)
	life := func() {
		spec := engine.Spec{Image: im.ID, Purpose: engine.PurposeBuild, Network: engine.NetworkNone}
		spec.Limits.PIDs.Value = 1000
		c, err := e.Create(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		for _, tty := range []*engine.TTY{nil, {Rows: 1, Cols: 1}} {
			step := engine.Step{Argv: []string{enginetest.ToolPath, "cat"}, Stdin: strings.NewReader("x"), Stdout: &out, Idle: time.Minute, TTY: tty}
			if tty != nil {
				step.Argv[1] = "true"
			}
			if _, err := c.Run(t.Context(), step); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	count := func() (fds, goroutines int) {
		// What ends by itself gets a moment.
		time.Sleep(50 * time.Millisecond)
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries), runtime.NumGoroutine()
	}
	life()
	fds, goroutines := count()
	for range 30 {
		life()
	}
	if f, g := count(); f > fds || g > goroutines {
		t.Errorf("30 containers: descriptors %d to %d, goroutines %d to %d", fds, f, goroutines, g)
	}
	if entries, err := os.ReadDir(filepath.Join(e.dir, "containers")); err != nil || len(entries) != 0 {
		t.Errorf("containers left: %v (%v)", entries, err)
	}
}
