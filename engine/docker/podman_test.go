package docker

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/system"
	"golang.org/x/sys/unix"

	"dbuild/engine"
	"dbuild/engine/enginetest"
	"dbuild/internal/testenv"
)

// podmanService starts Podman's service on a socket and a store of its own and
// returns the socket. Both go away with the test.
func podmanService(t testing.TB) string {
	t.Helper()
	if os.Getenv(podmanUserVar) == "" {
		testenv.NeedRoot(t)
	}
	podman := testenv.NeedProgram(t, "podman")
	name := "dbuild-podman-"
	if os.Getuid() != 0 {
		name = "p" // Podman wants at most 50 bytes of --runroot
	}
	dir, err := os.MkdirTemp("", name)
	if err != nil {
		t.Fatal(err)
	}
	host := "unix://" + filepath.Join(dir, "sock")
	args := []string{
		"--log-level", "error", "--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--tmpdir", filepath.Join(dir, "tmp"),
		"--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "none", "--storage-driver", "overlay",
		"system", "service", "--time", "0", host,
	}
	cmd := exec.Command(podman, args...)
	cmd.Dir = dir // conmon leaves a file called oom where it runs
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	// A user's Podman is a process that waits for another one, and may end
	// without telling it; that keeps the log open.
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGTERM)
		_ = cmd.Wait()
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		killPause(t, dir)
		_ = unix.Unmount(filepath.Join(dir, "root", "overlay"), unix.MNT_DETACH)
		// A user cannot remove files of the subordinate ids; root does later.
		if err := os.RemoveAll(dir); err != nil && os.Getuid() == 0 {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("podman said: %s", log.Bytes())
		}
	})
	for range 200 {
		if _, err = Look(t.Context(), host); err == nil {
			return host
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("podman does not answer: %v\n%s", err, log.Bytes())
	return ""
}

// killPause ends the process that keeps a user's namespaces for the next call of
// Podman.
func killPause(t testing.TB, dir string) {
	t.Helper()
	if os.Getuid() == 0 {
		return
	}
	text, err := os.ReadFile(filepath.Join(dir, "tmp", "pause.pid"))
	if err != nil {
		t.Errorf("find the process that Podman leaves: %v", err)
		return
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid < 2 || unix.Kill(pid, unix.SIGKILL) != nil {
		t.Errorf("end the process that Podman leaves: %q, %v", text, err)
	}
}

func openPodman(t testing.TB, host string) *Engine {
	t.Helper()
	e, err := Open(t.Context(), Options{Kind: KindPodman, Dir: t.TempDir(), State: "test-" + newID(), Host: host, Agent: testAgent})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		removeAll(t, e)
		if err := e.Close(); err != nil {
			t.Errorf("close engine: %v", err)
		}
	})
	return e
}

// TestPodman is the suite on Podman as root.
func TestPodman(t *testing.T) {
	host := podmanService(t)
	enginetest.Run(t, func(t *testing.T) engine.Engine { return openPodman(t, host) })
}

// podmanUserVar tells the test program that an ordinary user runs it.
const podmanUserVar = "DBUILD_DOCKER_TEST_USER"

// TestPodmanAsUser is the suite on the Podman of an ordinary user.
func TestPodmanAsUser(t *testing.T) {
	testenv.NeedProgram(t, "podman")
	u := testenv.NeedUser(t)
	if os.Getuid() != 0 {
		t.Skip("needs root, to become the user")
	}
	program, err := staticAgent()
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"agent": program, "tool-" + runtime.GOARCH: enginetest.Payload(t)} {
		path := filepath.Join(u.Home, name)
		if err := errors.Join(os.WriteFile(path, content, 0o600), os.Chown(path, u.UID, u.GID)); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{
		podmanUserVar + "=1", agentVar + "=" + filepath.Join(u.Home, "agent"), enginetest.PayloadVar + "=" + u.Home,
		"XDG_RUNTIME_DIR=" + u.Home, testenv.NoSkipVar + "=podman",
	}
	out, err := u.Command(t.Context(), env, "/proc/self/exe", "-test.count=1", "-test.run=^TestPodman$", "-test.v").CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestPodman/steps")) {
		t.Errorf("suite as uid %d: %v\n%s", u.UID, err, out)
	}
}

// TestPodmanStore: the store has the same id each time, though Podman itself
// says another one, and what is not Podman is refused.
func TestPodmanStore(t *testing.T) {
	host := podmanService(t)
	first, err := openPodman(t, host).Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second, err := openPodman(t, host).Info(t.Context())
	if err != nil || first.ID != second.ID || first.Kind != KindPodman {
		t.Errorf("ids %q and %q, kind %q (%v)", first.ID, second.ID, first.Kind, err)
	}
	if Usable(context.Background()) == nil && Host(os.Getenv) != host {
		_, err := Open(t.Context(), Options{Kind: KindPodman, Dir: t.TempDir(), State: "x", Host: Host(os.Getenv), Agent: testAgent})
		if err == nil || errors.Is(err, engine.ErrUnsupported) {
			t.Errorf("docker as podman: %v", err)
		}
	}
}

// TestAdaptPodman: where Podman of a user cannot limit, it is not believed.
func TestAdaptPodman(t *testing.T) {
	for _, x := range []struct {
		version string
		user    bool
		limits  bool
	}{{"1", true, false}, {"2", true, true}, {"1", false, true}} {
		info := system.Info{ID: "another each time", CgroupVersion: x.version, PidsLimit: true, MemoryLimit: true}
		if adaptPodman(&info, x.user); info.PidsLimit != x.limits || info.MemoryLimit != x.limits || info.ID == "another each time" {
			t.Errorf("%+v: %+v", x, info)
		}
	}
}
