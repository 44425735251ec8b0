package docker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"dbuild/engine"
	"dbuild/engine/enginetest"
)

// ownerVar makes the test program own a container of the given image in the
// given store until it is killed: DIR:STATE:IMAGE.
const ownerVar = "DBUILD_DOCKER_TEST_OWNER"

// own is the life of the process that is killed.
func own(where string) error {
	ctx := context.Background()
	parts := strings.SplitN(where, ":", 3)
	e, err := Open(ctx, Options{Dir: parts[0], State: parts[1], Agent: testAgent})
	if err != nil {
		return err
	}
	if _, err := e.importEmpty(ctx); err != nil { // as if killed before its record
		return err
	}
	c, err := e.Create(ctx, engine.Spec{Image: engine.ImageID(parts[2]), Purpose: engine.PurposeBuild, Network: engine.NetworkNone})
	if err != nil {
		return err
	}
	_, err = c.Run(ctx, engine.Step{
		Argv: []string{enginetest.ToolPath, "sh"}, Stdin: strings.NewReader("daemon sleep 600s\nwarn ready\nsleep 600s\n"),
		Stdout: os.Stderr, Stderr: os.Stderr,
	})
	return err
}

// TestKilledOwner: after SIGKILL of the process that owns a container it ends
// by itself, and Reap of its state, and of no other, removes what is left.
func TestKilledOwner(t *testing.T) {
	dir := t.TempDir()
	e := openAt(t, dir, "test-"+newID())
	other := openAt(t, t.TempDir(), "test-"+newID())
	im := importTool(t, e)
	program, err := e.agentProgram()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), ownerVar+"="+dir+":"+e.state+":"+string(im.ID), agentVar+"="+program)
	errs, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := ""
	for lines := bufio.NewScanner(errs); lines.Scan() && lines.Text() != "ready"; {
		said += lines.Text() + "\n"
	}
	if n := containers(t, e); n != 1 {
		t.Fatalf("%d containers; the owner said %q", n, said)
	}
	if n, err := e.Reap(t.Context()); n != 0 || err != nil {
		t.Errorf("reap while the owner lives: %d, %v", n, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for deadline := time.Now().Add(20 * time.Second); containers(t, e) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the container lives on without its owner")
		}
	}
	if n, err := other.Reap(t.Context()); n != 0 || err != nil {
		t.Errorf("reap of another state: %d, %v", n, err)
	}
	if n, err := e.Reap(t.Context()); n != 1 || err != nil {
		t.Errorf("reap: %d, %v, want the image without a record", n, err)
	}
	if n, err := e.Reap(t.Context()); n != 0 || err != nil {
		t.Errorf("second reap: %d, %v", n, err)
	}
	if entries, err := os.ReadDir(filepath.Join(e.dir, "owners")); err != nil || len(entries) != 1 {
		t.Errorf("owners left: %v (%v)", entries, err)
	}
}

func containers(t *testing.T, e *Engine) int {
	t.Helper()
	list, err := e.api.ContainerList(t.Context(), client.ContainerListOptions{All: true, Filters: e.ours()})
	if err != nil {
		t.Fatal(err)
	}
	return len(list.Items)
}

// TestLostImage: an image that somebody took away from docker is not found,
// and its record goes with the next Reap.
func TestLostImage(t *testing.T) {
	e := open(t)
	im := importTool(t, e)
	if err := e.discard(t.Context(), string(im.ID)); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Image(t.Context(), im.ID); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("lost image: %v, want ErrNotFound", err)
	}
	if all, err := e.Images(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("images %v (%v)", all, err)
	}
	if _, err := e.Reap(t.Context()); err != nil {
		t.Fatal(err)
	}
	if all, err := e.records(); err != nil || len(all) != 0 {
		t.Errorf("records %v (%v)", all, fmt.Sprint(err))
	}
}

// TestDamagedRecord: a record that was replaced by another image's is not
// believed, stops nothing but the use of its image, and can be removed.
func TestDamagedRecord(t *testing.T) {
	e := open(t)
	one, other := importTool(t, e), importTool(t, e)
	if one.ID == other.ID {
		t.Fatal("both are one image")
	}
	path := func(id engine.ImageID) string {
		name, _ := recordName(id)
		return e.recordPath(name)
	}
	data, err := os.ReadFile(path(other.ID))
	if err == nil {
		err = os.WriteFile(path(one.ID), data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Image(t.Context(), one.ID); !errors.Is(err, engine.ErrDamaged) {
		t.Errorf("image: %v, want ErrDamaged", err)
	}
	if c, err := e.Create(t.Context(), engine.Spec{Image: one.ID, Purpose: engine.PurposeBuild, Network: engine.NetworkNone}); !errors.Is(err, engine.ErrDamaged) {
		t.Errorf("create: %v, %v, want ErrDamaged", c, err)
	}
	maker := e.owner // which dies
	e.owner, err = newOwner(filepath.Join(e.dir, "owners"))
	if err := errors.Join(err, maker.close()); err != nil {
		t.Fatal(err)
	}
	if n, err := e.Reap(t.Context()); n != 0 || err != nil {
		t.Errorf("reap: %d, %v", n, err)
	}
	if err := e.Remove(t.Context(), one.ID); err != nil {
		t.Error(err)
	}
	if all, err := e.Images(t.Context()); err != nil || len(all) != 1 || all[0].ID != other.ID {
		t.Errorf("images %v (%v)", all, err)
	}
}

// TestForeignName: a name that a person gave an image does not keep it.
func TestForeignName(t *testing.T) {
	e := open(t)
	im := importTool(t, e)
	if err := e.Tag(t.Context(), im.ID, "named:"+newID()); err != nil {
		t.Fatal(err)
	}
	name := "dbuild-test/foreign:" + newID()
	if _, err := e.api.ImageTag(t.Context(), client.ImageTagOptions{Source: string(im.ID), Target: name}); err != nil {
		t.Fatal(err)
	}
	if err := e.Remove(t.Context(), im.ID); err != nil {
		t.Error(err)
	}
	if _, err := e.api.ImageInspect(t.Context(), name); err == nil {
		t.Error("the image is still there")
	}
}
