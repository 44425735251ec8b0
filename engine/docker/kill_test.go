package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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

// lifeVar makes the test program lead the whole life of an engine, again and
// again until it is killed: DIR:STATE:TOOL.
const lifeVar = "DBUILD_DOCKER_TEST_LIFE"

// live does everything that leaves something with the daemon.
func live(where string) error {
	parts := strings.SplitN(where, ":", 3)
	tool, err := os.ReadFile(parts[2])
	if err != nil {
		return err
	}
	for turn := 0; ; turn++ {
		if err := liveOnce(parts[0], parts[1], tool, turn%2 == 1); err != nil {
			return err
		}
	}
}

func liveOnce(dir, state string, tool []byte, far bool) error {
	ctx := context.Background()
	e, err := Open(ctx, Options{Dir: dir, State: state, Agent: testAgent, Apart: far})
	if err != nil {
		return err
	}
	if _, err := e.Reap(ctx); err != nil {
		return err
	}
	im, err := e.Import(ctx, bytes.NewReader(enginetest.RootTar(tool)), engine.Config{Tag: "killed:" + state})
	if err != nil {
		return err
	}
	tree, err := e.Tree(ctx, "tree", filepath.Join(dir, "docker"))
	if err != nil {
		return err
	}
	c, err := e.Create(ctx, engine.Spec{
		Image: im.ID, Purpose: engine.PurposeDeps, Network: engine.NetworkNone, Areas: []string{"/area"},
		Trees: []engine.Mount{{Tree: tree, Target: "/run/tree"}},
	})
	if err != nil {
		return err
	}
	if _, err := c.Run(ctx, engine.Step{Argv: []string{enginetest.ToolPath, "write", "/new", "new"}}); err != nil {
		return err
	}
	if err := c.Quiesce(ctx); err != nil {
		return err
	}
	second, err := c.Commit(ctx, engine.Config{})
	if err != nil {
		return err
	}
	if err := c.Close(ctx); err != nil {
		return err
	}
	for _, id := range []engine.ImageID{second.ID, im.ID} {
		if err := e.Remove(ctx, id); err != nil {
			return err
		}
	}
	return e.Close()
}

// TestKilledAnywhere: whenever a process is killed, nothing but images with
// records is left with the daemon after the next start.
func TestKilledAnywhere(t *testing.T) {
	const kills = 30
	dir := t.TempDir()
	e := openAt(t, dir, "test-"+newID())
	program, err := e.agentProgram()
	if err != nil {
		t.Fatal(err)
	}
	tool := filepath.Join(t.TempDir(), "tool")
	if err := os.WriteFile(tool, enginetest.Payload(t), 0o755); err != nil {
		t.Fatal(err)
	}
	dice := rand.New(rand.NewPCG(1, 2)) // fixed, so that a failure comes again
	for kill := range kills {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), lifeVar+"="+dir+":"+e.state+":"+tool, agentVar+"="+program)
		var said bytes.Buffer
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		after := time.Duration(dice.Int64N(int64(1500 * time.Millisecond)))
		time.Sleep(after)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if said.Len() > 0 {
			t.Fatalf("kill %d: the process had failed: %s", kill, said.String())
		}
		// What the daemon was about when its client died may end later.
		var left []string
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			if _, err := e.Reap(t.Context()); err != nil {
				t.Fatalf("kill %d after %s: reap: %v", kill, after, err)
			}
			if left = leftovers(t, e); len(left) == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("kill %d after %s: left: %v", kill, after, left)
			}
		}
		removeRecorded(t, e)
	}
}

// leftovers lists what has this state's label and no record, and the files of
// dead processes.
func leftovers(t *testing.T, e *Engine) (all []string) {
	t.Helper()
	if n := containers(t, e); n > 0 {
		all = append(all, fmt.Sprint(n, " containers"))
	}
	volumes, err := e.api.VolumeList(t.Context(), client.VolumeListOptions{Filters: e.ours()})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range volumes.Items {
		all = append(all, "volume "+v.Name)
	}
	images, err := e.present(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	records, err := e.records()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if _, ok := images[r.Docker]; !ok {
			all = append(all, "record "+string(r.ID))
		}
		delete(images, r.Docker)
	}
	for image := range images {
		all = append(all, "image "+image)
	}
	for _, d := range []string{"owners", "programs"} {
		entries, err := os.ReadDir(filepath.Join(e.dir, d))
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			if entry.Name() != e.owner.id {
				all = append(all, d+"/"+entry.Name())
			}
		}
	}
	return all
}

// removeRecorded removes all images. A commit that ends only now makes one more,
// which the next Reap removes.
func removeRecorded(t *testing.T, e *Engine) {
	t.Helper()
	all, err := e.records()
	if err != nil {
		t.Fatal(err)
	}
	for i := len(all) - 1; i >= 0; i-- {
		err := e.Remove(t.Context(), all[i].ID)
		for deadline := time.Now().Add(10 * time.Second); errors.Is(err, engine.ErrInUse) && time.Now().Before(deadline); {
			time.Sleep(50 * time.Millisecond)
			if _, err := e.Reap(t.Context()); err != nil {
				t.Fatal(err)
			}
			err = e.Remove(t.Context(), all[i].ID)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
