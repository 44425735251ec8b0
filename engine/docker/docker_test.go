package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"dbuild/agent"
	"dbuild/engine"
	"dbuild/engine/enginetest"
	"dbuild/internal/testenv"
)

func TestMain(m *testing.M) {
	agent.MaybeMain()
	if where := os.Getenv(ownerVar); where != "" {
		fmt.Fprintln(os.Stderr, own(where))
		os.Exit(1)
	}
	if where := os.Getenv(lifeVar); where != "" {
		fmt.Fprintln(os.Stderr, live(where))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// agentVar holds the path of the agent for a test program's child.
const agentVar = "DBUILD_DOCKER_TEST_AGENT"

// staticAgent builds the agent: the test program itself may need a loader.
var staticAgent = sync.OnceValues(func() ([]byte, error) {
	if path := os.Getenv(agentVar); path != "" {
		return os.ReadFile(path)
	}
	dir, err := os.MkdirTemp("", "dbuild-agent-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "agent")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "dbuild/agent/cmd/dbuild-agent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build agent: %w\n%s", err, out)
	}
	return os.ReadFile(path)
})

func testAgent() (io.ReadCloser, error) {
	b, err := staticAgent()
	return io.NopCloser(bytes.NewReader(b)), err
}

func needDocker(t testing.TB) {
	t.Helper()
	testenv.NeedRoot(t)
	if err := Usable(t.Context()); err != nil {
		testenv.Skip(t, "docker", "needs a docker daemon: %v", err)
	}
}

func open(t testing.TB) *Engine { return openAt(t, t.TempDir(), "test-"+newID()) }

// openAt opens an engine; its images are removed with the test.
func openAt(t testing.TB, dir, state string) *Engine {
	t.Helper()
	needDocker(t)
	e, err := Open(t.Context(), Options{Dir: dir, State: state, Agent: testAgent})
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

// removeAll removes every image of the state, children first, and complains
// about containers that are left.
func removeAll(t testing.TB, e *Engine) {
	ctx := context.Background()
	for progress := true; progress; {
		progress = false
		all, err := e.records()
		if err != nil {
			t.Error(err)
		}
		for _, r := range all {
			progress = e.Remove(ctx, r.ID) == nil || progress
		}
	}
	for _, tree := range e.trees {
		if tree.filler == nil {
			continue
		}
		if err := tree.filler.Close(ctx); err != nil {
			t.Error(err)
		}
	}
	if left, err := e.present(ctx); err != nil || len(left) > 0 {
		t.Errorf("images left: %v (%v)", left, err)
	}
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
	longest := 255
	if open(t).info.Driver == "fuse-overlayfs" {
		longest = 251 // it keeps a deletion as ".wh." and the name
	}
	enginetest.RunNames(t, longest, func(t *testing.T) engine.Engine { return open(t) })
}

// TestUnusable: each way in which there is no daemon is an error of class
// engine with a hint.
func TestUnusable(t *testing.T) {
	for _, host := range []string{"unix://" + filepath.Join(t.TempDir(), "missing.sock"), "tcp://127.0.0.1:1", "bad"} {
		_, err := Open(t.Context(), Options{Dir: t.TempDir(), State: "x", Host: host})
		if err == nil || !strings.Contains(fmt.Sprint(err), "docker") {
			t.Errorf("%q: %v", host, err)
		}
	}
	e := &Engine{agent: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("no program")), nil }}
	if _, err := e.agentProgram(); err == nil {
		t.Error("an agent that is no program was taken")
	}
	if err := checkStatic(dynamicProgram(t)); !errors.Is(err, engine.ErrUnsupported) {
		t.Errorf("dynamic agent: %v, want ErrUnsupported", err)
	}
}

func dynamicProgram(t *testing.T) []byte {
	b, err := os.ReadFile(testenv.NeedProgram(t, "ls"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
