package docker

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"dbuild/engine"
	"dbuild/engine/enginetest"
	"dbuild/internal/report"
	"dbuild/internal/testenv"
)

// farDaemon starts a daemon in a mount namespace where dir is empty, and
// returns its address.
func farDaemon(t *testing.T, dir, driver string) string {
	t.Helper()
	root := t.TempDir()
	config := filepath.Join(root, "config.json")
	if err := os.WriteFile(config, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	const script = `mount --make-rprivate / && mount -t tmpfs tmpfs "$1" && cd "$2" && exec "$3" --config-file config.json \
--data-root "$2/data" --exec-root "$2/exec" --pidfile "$2/pid" -H "unix://$2/sock" \
--storage-driver "$4" --bridge none --iptables=false --ip-forward=false --ip-masq=false`
	cmd := exec.Command("/bin/sh", "-c", script, "sh", dir, root, testenv.NeedProgram(t, "dockerd"), driver)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Setpgid: true}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Error("the far daemon does not end")
			_ = cmd.Process.Kill()
		}
	})
	host := "unix://" + filepath.Join(root, "sock")
	for range 300 {
		if api, _, err := connect(t.Context(), host); err == nil {
			if err := api.Close(); err != nil {
				t.Fatal(err)
			}
			return host
		}
		select {
		case <-ended:
			t.Fatalf("the far daemon ended: %s", said.String())
		case <-time.After(100 * time.Millisecond):
		}
	}
	t.Fatalf("the far daemon does not answer: %s", said.String())
	return ""
}

// TestFarDaemon: a daemon that sees none of our files serves as well; what is
// added to a tree shows up in containers that have it; nothing is left.
func TestFarDaemon(t *testing.T) {
	needDocker(t)
	dir := t.TempDir()
	e := open(t)
	host := farDaemon(t, dir, e.info.Driver)
	far, err := Open(t.Context(), Options{Dir: dir, State: "test-" + newID(), Host: host, Agent: testAgent})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = far.Close() })
	im := importTool(t, far)
	if far.sight() != unproven {
		t.Errorf("sight is %d before the first container", far.sight())
	}
	things := t.TempDir()
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(things, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("early", "early")
	id, err := far.Tree(t.Context(), "things", things)
	if err != nil {
		t.Fatal(err)
	}
	c, err := far.Create(t.Context(), engine.Spec{
		Image: im.ID, Purpose: engine.PurposeShell, Network: engine.NetworkNone, Trees: []engine.Mount{{Tree: id, Target: "/run/things"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if far.sight() != apart {
		t.Errorf("sight is %d, want apart", far.sight())
	}
	step := func(ok bool, argv ...string) string {
		t.Helper()
		var out strings.Builder
		exit, err := c.Run(t.Context(), engine.Step{Argv: append([]string{enginetest.ToolPath}, argv...), Stdout: &out})
		if err != nil || exit.OK() != ok {
			t.Fatalf("%v: %+v, %v: %s", argv, exit, err, out.String())
		}
		return out.String()
	}
	if got := step(true, "read", "/run/things/early"); got != "early" {
		t.Errorf("early reads %q", got)
	}
	step(false, "read", "/run/things/late")
	step(false, "write", "/run/things/early", "changed")
	write("late", "late")
	if _, err := far.Tree(t.Context(), "things", things); err != nil {
		t.Fatal(err)
	}
	if got := step(true, "read", "/run/things/late"); got != "late" {
		t.Errorf("late reads %q", got)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := far.Remove(t.Context(), im.ID); err != nil {
		t.Error(err)
	}
	if err := far.Close(); err != nil {
		t.Error(err)
	}
	if left := everything(t, host); len(left) > 0 {
		t.Errorf("left with the daemon: %v", left)
	}
}

// everything lists what a daemon has.
func everything(t *testing.T, host string) (all []string) {
	t.Helper()
	api, _, err := connect(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = api.Close() }()
	ctx := context.Background()
	containers, err := api.ContainerList(ctx, client.ContainerListOptions{All: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range containers.Items {
		all = append(all, "container "+c.ID)
	}
	images, err := api.ImageList(ctx, client.ImageListOptions{All: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, im := range images.Items {
		all = append(all, "image "+im.ID)
	}
	volumes, err := api.VolumeList(ctx, client.VolumeListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range volumes.Items {
		all = append(all, "volume "+v.Name)
	}
	return all
}

// TestSSH: ssh://USER@HOST:PORT runs what the docker command runs.
func TestSSH(t *testing.T) {
	needDocker(t)
	docker := testenv.NeedProgram(t, "docker")
	dir := t.TempDir()
	said := filepath.Join(dir, "said")
	script := "#!/bin/sh\necho \"$*\" >> " + said + "\nexec env -u DOCKER_HOST " + docker + " system dial-stdio\n"
	if err := os.WriteFile(filepath.Join(dir, "ssh"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	e, err := Open(t.Context(), Options{Dir: t.TempDir(), State: "test-" + newID(), Host: "ssh://me@there:2222", Agent: testAgent})
	if err != nil {
		t.Fatal(err)
	}
	im := importTool(t, e)
	if _, err := e.Digest(t.Context(), im.ID); err != nil { // attaches to a container
		t.Error(err)
	}
	removeAll(t, e)
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	b, err := os.ReadFile(said)
	want := "-T -o ConnectTimeout=30 -l me -p 2222 -- there docker system dial-stdio\n"
	if err != nil || !strings.HasPrefix(string(b), want) {
		t.Errorf("ssh was called with %q (%v), want %q", b, err, want)
	}
	for _, bad := range []string{"ssh://-oProxyCommand=x", "ssh://", "ssh://a/b"} {
		if _, err := overSSH(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// warnings remembers what was warned about.
type warnings struct {
	report.Reporter
	said []string
}

func (w *warnings) Warn(format string, args ...any) {
	w.said = append(w.said, fmt.Sprintf(format, args...))
}

// TestWholeCopies: a storage driver that copies whole images is told about, and
// --engine auto does not choose it.
func TestWholeCopies(t *testing.T) {
	needDocker(t)
	host := farDaemon(t, t.TempDir(), "vfs")
	d, err := Look(t.Context(), host)
	if err != nil || !strings.Contains(d.Lacks, "vfs") {
		t.Errorf("lacks %q (%v)", d.Lacks, err)
	}
	w := &warnings{Reporter: report.Discard}
	e, err := Open(t.Context(), Options{Dir: t.TempDir(), State: "test-" + newID(), Host: host, Agent: testAgent, Report: w})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if len(w.said) != 1 || !strings.Contains(w.said[0], "storage driver vfs copies whole images") {
		t.Errorf("warnings: %q", w.said)
	}
}
