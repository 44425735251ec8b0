package tests

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"dbuild/engine/docker"
)

// cmdPodman starts Podman's service on a socket and a store of its own, which
// are gone after the script.
func cmdPodman(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: podman")
	}
	dir, err := os.MkdirTemp("", "dbuild-podman-") // short: a socket's path is
	ts.Check(err)
	host := "unix://" + filepath.Join(dir, "sock")
	cmd := exec.Command(program(ts, "podman"),
		"--log-level", "error", "--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--tmpdir", filepath.Join(dir, "tmp"),
		"--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "none", "--storage-driver", "overlay",
		"system", "service", "--time", "0", host)
	cmd.Dir = dir // conmon leaves a file called oom where it runs
	ts.Check(cmd.Start())
	ts.Defer(func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		_ = cmd.Wait()
		_ = unix.Unmount(filepath.Join(dir, "root", "overlay"), unix.MNT_DETACH)
		_ = os.RemoveAll(dir)
	})
	for range 200 {
		if _, err = docker.Look(context.Background(), host); err == nil {
			ts.Setenv("CONTAINER_HOST", host)
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("podman does not answer: %v", err)
}
