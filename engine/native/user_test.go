package native

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dbuild/engine"
	"dbuild/engine/enginetest"
	"dbuild/internal/fault"
	"dbuild/internal/testenv"
	"dbuild/internal/userns"
)

// asUserVar makes the test program, which an ordinary user runs, root of a user
// namespace.
const asUserVar = "DBUILD_NATIVE_TEST_USER"

func enterAsUser() {
	userns.Continue()
	if _, inside := userns.Inside(); inside || os.Getenv(asUserVar) == "" {
		return
	}
	if os.Getenv(ownerVar) != "" { // started by the copy, in whose namespace it is
		var n userns.Namespace
		if err := json.Unmarshal([]byte(os.Getenv(ownerNamespaceVar)), &n); err != nil {
			panic(err)
		}
		insideUser = func() (userns.Namespace, bool) { return n, true }
		return
	}
	code, err := userns.Enter()
	if err != nil {
		fmt.Fprintln(os.Stderr, err, fault.HintOf(err))
		code = 1
	}
	os.Exit(code)
}

// TestAsUser runs all tests of this package once more for a user without root.
func TestAsUser(t *testing.T) {
	if within() != "" {
		t.Skip("runs as the user")
	}
	u := testenv.NeedUser(t)
	payloads := t.TempDir()
	for _, goarch := range []string{"386", "amd64", "arm64"} {
		if err := os.WriteFile(filepath.Join(payloads, "tool-"+goarch), enginetest.PayloadFor(t, goarch), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// Go's own directories are closed to others.
	own := filepath.Join(u.Home, "payloads")
	err := os.CopyFS(own, os.DirFS(payloads))
	if err == nil {
		err = filepath.WalkDir(own, func(path string, _ fs.DirEntry, err error) error {
			return errors.Join(err, os.Lchown(path, u.UID, u.GID))
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-test.count=1", "-test.skip=^TestAsUser$"}
	if testing.Verbose() {
		args = append(args, "-test.v")
	}
	env := []string{asUserVar + "=1", enginetest.PayloadVar + "=" + own, testenv.RootVar + "=1", testenv.NoSkipVar + "=root,userns"}
	cmd := u.Command(t.Context(), env, "/proc/self/exe", args...)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "PASS") {
		t.Errorf("tests as uid %d: %v\n%s", u.UID, err, out)
	} else if testing.Verbose() {
		t.Logf("%s", out)
	}
}

// TestUserIDs: in the store of a user nothing belongs to the user, and in a
// container no id stands for the user.
func TestUserIDs(t *testing.T) {
	if within() == "" {
		t.Skip("runs as a user, in TestAsUser")
	}
	e, im := openWithImage(t)
	if e.store.IDBase != 1 {
		t.Fatalf("container ids begin at %d: the user's own is 0", e.store.IDBase)
	}
	c, err := e.Create(t.Context(), engine.Spec{Image: im.ID, Purpose: engine.PurposeDeps, Network: engine.NetworkNone})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	var maps strings.Builder
	for _, name := range []string{"uid_map", "gid_map"} {
		if _, err := c.Run(t.Context(), engine.Step{Argv: []string{enginetest.ToolPath, "cat", "/proc/self/" + name}, Stdout: &maps}); err != nil {
			t.Fatal(err)
		}
	}
	for line := range strings.Lines(maps.String()) {
		if f := strings.Fields(line); len(f) != 3 || f[0] != "0" || f[1] != "1" || f[2] != "65536" {
			t.Errorf("map %q", line)
		}
	}
}

// TestProcessesWithoutGroups: a fork bomb is bounded where no control group can
// be made, too.
func TestProcessesWithoutGroups(t *testing.T) {
	e, im := openWithImage(t)
	e.cgroups = cgroups{}
	for _, user := range []engine.User{{UID: 1000, GID: 1000}, engine.Root} {
		spec := engine.Spec{Image: im.ID, Purpose: engine.PurposeBuild, Network: engine.NetworkNone}
		spec.Limits.PIDs.Value = 60
		c, err := e.Create(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		for argument, want := range map[string]bool{"5": true, "200": false} {
			var out strings.Builder
			exit, err := c.Run(t.Context(), engine.Step{Argv: []string{enginetest.ToolPath, "forks", argument}, User: user, Stdout: &out})
			if err != nil || exit.OK() != want {
				t.Errorf("%s processes as %d: %+v, %v\n%s", argument, user.UID, exit, err, out.String())
			}
			if err := c.Quiesce(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
