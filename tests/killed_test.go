package tests

import (
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// killSeed makes the moments of a run the same as those of the last; it is in
// the script's log.
const killSeed = 20261121

// cmdKilled runs a program to its end once, and then N times until a random
// moment at which it gets SIGKILL. After the next start of dbuild, by the same
// user, nothing of it is left: no process, mount, control group or container.
func cmdKilled(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) >= 3, "killed N STATE prog args…")
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	state, argv := ts.MkAbs(args[1]), args[2:]
	clean := []string{"dbuild", "clean", "-q", "--state", state}
	if argv[0] == "asuser" {
		clean = append([]string{"asuser"}, clean...)
	}
	start := time.Now()
	ts.Check(ts.Exec(argv[0], argv[1:]...))
	whole := time.Since(start)
	ts.Logf("seed %d, %d moments in %s", killSeed, n, whole)
	random := rand.New(rand.NewPCG(killSeed, 0))
	for i := range n {
		moment := time.Duration(random.Int64N(int64(whole)))
		killAt(ts, argv, moment)
		// All of it dies by itself, on a busy machine not at once.
		for deadline := time.Now().Add(10 * time.Second); len(livingBelow(ts, state)) > 0 && time.Now().Before(deadline); {
			time.Sleep(10 * time.Millisecond)
		}
		ts.Check(ts.Exec(clean[0], clean[1:]...))
		left, err := mountsBelow(state)
		ts.Check(err)
		left = append(left, livingBelow(ts, state)...)
		left = append(left, containersOf(ts, state)...)
		left = append(left, groupsOf(ts, state)...)
		if len(left) > 0 {
			ts.Fatalf("kill %d, after %s of %s, left: %s", i, moment, whole, strings.Join(left, "; "))
		}
	}
}

func livingBelow(ts *testscript.TestScript, state string) []string {
	found, err := processesBelow(state)
	ts.Check(err)
	return found
}

// killAt starts a program with the script's environment and kills it.
func killAt(ts *testscript.TestScript, argv []string, after time.Duration) {
	path := ""
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if p, err := exec.LookPath(filepath.Join(dir, argv[0])); err == nil {
			path = p
			break
		}
	}
	cmd := exec.Command(path, argv[1:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "PATH="+ts.Getenv("PATH"))
	for _, name := range []string{"HOME", "DBUILD_STATE", "DBUILD_ENGINE", "TMPDIR"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	cmd.WaitDelay = 10 * time.Second
	ts.Check(cmd.Start())
	time.Sleep(after)
	if err := cmd.Process.Signal(syscall.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
		ts.Check(err)
	}
	_ = cmd.Wait()
}

// containersOf lists the native engine's containers of a state.
func containersOf(ts *testscript.TestScript, state string) (found []string) {
	entries, err := os.ReadDir(filepath.Join(state, "images/containers"))
	ts.Check(err)
	for _, e := range entries {
		found = append(found, "container "+e.Name())
	}
	return found
}

// groupsOf lists control groups that carry the state's id.
func groupsOf(ts *testscript.TestScript, state string) (found []string) {
	_, id, ok := strings.Cut(strings.TrimSpace(ts.ReadFile(filepath.Join(state, "format"))), " ")
	if !ok {
		ts.Fatalf("state %q has no id", state)
	}
	err := filepath.WalkDir("/sys/fs/cgroup", func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(d.Name(), id) {
			found = append(found, "control group "+path)
		}
		return nil // groups of others come and go
	})
	ts.Check(err)
	return found
}
