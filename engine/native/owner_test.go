package native

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dbuild/engine"
	"dbuild/engine/enginetest"
)

// ownerVar makes the test program own a container in the given store until it
// is killed.
const ownerVar = "DBUILD_NATIVE_TEST_OWNER"

// ownerNamespaceVar tells it of the user's namespace that it is born in.
const ownerNamespaceVar = "DBUILD_NATIVE_TEST_NAMESPACE"

// own is the life of the process that is killed.
func own(dir string, image engine.ImageID) error {
	ctx := context.Background()
	e, err := Open(ctx, Options{Dir: dir, State: "test"})
	if err != nil {
		return err
	}
	spec := engine.Spec{Image: image, Purpose: engine.PurposeBuild, Network: engine.NetworkNone}
	spec.Limits.PIDs.Value = 100
	c, err := e.Create(ctx, spec)
	if err != nil {
		return err
	}
	fmt.Println(c.ID())
	_, err = c.Run(ctx, engine.Step{Argv: []string{enginetest.ToolPath, "sh"}, Stdin: strings.NewReader("daemon sleep 600s\nforks 3\nwarn ready\nsleep 600s\n"), Stdout: os.Stderr, Stderr: os.Stderr})
	return err
}

// TestKilledOwner: after SIGKILL of the process that owns a container there is
// no process, no mount and no control group of it, and Reap removes the rest.
func TestKilledOwner(t *testing.T) {
	e := open(t)
	im := importTool(t, e)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), ownerVar+"="+e.dir+":"+string(im.ID))
	if n, ok := insideUser(); ok {
		text, err := json.Marshal(n)
		if err != nil {
			t.Fatal(err)
		}
		cmd.Env = append(cmd.Env, ownerNamespaceVar+"="+string(text))
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	errs, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	id, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(e.dir, "containers", strings.TrimSpace(id))
	for lines := bufio.NewScanner(errs); lines.Scan() && lines.Text() != "ready"; {
	}
	namespace := agentNamespace(t, cmd.Process.Pid)
	before := containerProcesses(t, namespace)
	if len(before) < 5 {
		t.Errorf("processes of the container: %v", before)
	}
	if n, err := e.Reap(t.Context()); n != 0 || err != nil {
		t.Errorf("reap while the owner lives: %d, %v", n, err)
	}
	groups, _ := os.ReadFile(filepath.Join(dir, groupsFile))
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for deadline := time.Now().Add(5 * time.Second); len(containerProcesses(t, namespace)) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("processes live on: %v", containerProcesses(t, namespace))
		}
	}
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || bytes.Contains(mounts, []byte(e.dir)) {
		t.Errorf("a mount is left (%v)", err)
	}
	if err := e.Remove(t.Context(), im.ID); err != nil {
		t.Errorf("the dead container holds its image: %v", err)
	}
	if n, err := e.Reap(t.Context()); n != 1 || err != nil {
		t.Errorf("reap: %d, %v, want 1", n, err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the container's directory: %v", err)
	}
	for group := range strings.Lines(string(groups)) {
		if _, err := os.Stat(strings.TrimSpace(group)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("control group %q: %v", group, err)
		}
	}
	if n, err := e.Reap(t.Context()); n != 0 || err != nil {
		t.Errorf("second reap: %d, %v", n, err)
	}
}

// agentNamespace returns the process namespace of the container that a process
// keeps.
func agentNamespace(t *testing.T, parent int) string {
	t.Helper()
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	children, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range children {
		b, _ := os.ReadFile(file)
		for _, pid := range strings.Fields(string(b)) {
			if ns, err := os.Readlink("/proc/" + pid + "/ns/pid"); err == nil && ns != own {
				return ns
			}
		}
	}
	t.Fatalf("process %d has no container", parent)
	return ""
}

// containerProcesses lists the processes of a process namespace.
func containerProcesses(t *testing.T, namespace string) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, entry := range entries {
		if ns, err := os.Readlink("/proc/" + entry.Name() + "/ns/pid"); err == nil && ns == namespace {
			b, _ := os.ReadFile("/proc/" + entry.Name() + "/cmdline")
			found = append(found, entry.Name()+" "+string(b))
		}
	}
	return found
}

// TestOrphanedLayer: a layer without a record, as a crash in Commit leaves it,
// is reaped; one that is being made is not.
func TestOrphanedLayer(t *testing.T) {
	e, im := openWithImage(t)
	c, err := e.Create(t.Context(), engine.Spec{Image: im.ID, Purpose: engine.PurposeDeps, Network: engine.NetworkNone})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Quiesce(t.Context()); err != nil {
		t.Fatal(err)
	}
	made, err := c.Commit(t.Context(), engine.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(e.recordPath(made.ID)); err != nil {
		t.Fatal(err)
	}
	if n, err := e.Reap(t.Context()); n != 0 || err != nil {
		t.Errorf("reap while it is locked: %d, %v", n, err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, err := e.Reap(t.Context()); n != 1 || err != nil {
		t.Errorf("reap: %d, %v, want 1", n, err)
	}
	entries, err := os.ReadDir(filepath.Join(e.dir, "layers"))
	if err != nil || len(entries) != 1 || !slices.ContainsFunc(entries, func(d os.DirEntry) bool { return d.Name() == string(im.ID) }) {
		t.Errorf("layers %v (%v), want that of the image", entries, err)
	}
}

// TestTwoEngines: the store is shared; what one commits the other uses.
func TestTwoEngines(t *testing.T) {
	a, im := openWithImage(t)
	b, err := Open(t.Context(), Options{Dir: a.dir, State: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	c, err := b.Create(t.Context(), engine.Spec{Image: im.ID, Purpose: engine.PurposeBuild, Network: engine.NetworkNone})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Remove(t.Context(), im.ID); !errors.Is(err, engine.ErrInUse) {
		t.Errorf("remove under the other's container: %v, want ErrInUse", err)
	}
	if n, err := a.Reap(t.Context()); n != 0 || err != nil {
		t.Errorf("reap under the other: %d, %v", n, err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := a.Remove(t.Context(), im.ID); err != nil {
		t.Error(err)
	}
	if _, err := b.Image(t.Context(), im.ID); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("the other still has it: %v", err)
	}
}
