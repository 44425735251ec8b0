package tests

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dbuild/dsc"
	"dbuild/internal/testenv"
)

// TestBuildFaults kills dbuild at state-changing system calls of its own while
// it makes a base image, an image of build dependencies and a package, and lets
// those calls fail as on a full disk. Wherever that was, nothing keeps running
// or mounted, no damaged image is used, what was handed out is whole, and the
// same command then works without a human and gives the same bytes.
func TestBuildFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("builds dozens of times; left out with -short")
	}
	testenv.NeedRoot(t)
	testenv.NeedNetwork(t)
	testenv.NeedUserNamespaces(t)
	b := newBuildFaultBench(t)
	build := b.offline("-o", b.out, b.tree)
	create := b.offline("create", "-d", "bookworm")
	t.Run("build", func(t *testing.T) { b.disturb(t, 2, build, []string{"clean", "--cache-size", "1M"}, 2) })
	t.Run("create", func(t *testing.T) {
		b.disturb(t, 1, create, []string{"clean", "--images"}, 1)
		b.mustRun(t, build...)
		b.checkOutputs(t)
	})
	b.mustRun(t, "clean", "--images")
	if got := b.entries(t, "images/layers"); len(got) != 0 {
		t.Errorf("layers that nobody knows: %q", got)
	}
}

// buildFaultBench is one state that is disturbed again and again, as a person's
// would be.
type buildFaultBench struct {
	dbuild           string
	dir              string // holds all below
	state, out, tree string
	debs             map[string]string // name → SHA-256 of an undisturbed build
}

func newBuildFaultBench(t *testing.T) *buildFaultBench {
	program, err := exec.LookPath("dbuild")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(os.Getenv(workRootVar), "faults-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil { // mapped users pass through it
		t.Fatal(err)
	}
	b := &buildFaultBench{
		dbuild: program, dir: dir,
		state: filepath.Join(dir, "state"), out: filepath.Join(dir, "out"), tree: filepath.Join(dir, "tree"),
	}
	if err := os.Mkdir(b.out, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unpackTree("testdata/source/tiny.txtar", b.tree); err != nil {
		t.Fatal(err)
	}
	control := filepath.Join(b.tree, "debian/control")
	text, err := os.ReadFile(control)
	if err != nil {
		t.Fatal(err)
	}
	write(t, control, strings.Replace(string(text), "Standards-Version", "Build-Depends: hello\nStandards-Version", 1))
	// Now all that is needed is there; from here on nothing is downloaded.
	b.mustRun(t, "--allow-expired", "-o", b.out, b.tree)
	b.debs = b.packages(t)
	if n := b.images(t); len(b.debs) != 2 || n != 2 {
		t.Fatalf("undisturbed: packages %q, %d images", b.debs, n)
	}
	return b
}

// offline is a command that uses only what was fetched before.
func (b *buildFaultBench) offline(args ...string) []string {
	return append(args, "--offline", "--allow-expired")
}

func (b *buildFaultBench) argv(args ...string) []string {
	return append(append([]string{b.dbuild}, args...), "--state", b.state)
}

func (b *buildFaultBench) env() []string {
	return append(os.Environ(), "HOME="+b.dir, "DBUILD_ENGINE=native", "LC_ALL=C.UTF-8", "GOMAXPROCS=2")
}

func (b *buildFaultBench) mustRun(t *testing.T, args ...string) {
	t.Helper()
	argv := b.argv(args...)
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Env = b.env()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// images is how many images are in force.
func (b *buildFaultBench) images(t *testing.T) int {
	t.Helper()
	argv := b.argv("images", "list", "--json")
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Env = b.env()
	out, err := cmd.Output()
	var list []struct{ Digest string }
	if err = errors.Join(err, json.Unmarshal(out, &list)); err != nil {
		t.Fatalf("images list: %v\n%s", err, out)
	}
	return len(list)
}

// entries are the names in a directory of the state.
func (b *buildFaultBench) entries(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(b.state, dir))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// packages are the binary packages in the output directory with their hashes.
func (b *buildFaultBench) packages(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(b.out, "*.deb"))
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]string{}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		sums[filepath.Base(f)] = fmt.Sprintf("%x", sha256.Sum256(data))
	}
	return sums
}

// checkOutputs tells whether everything was handed out.
func (b *buildFaultBench) checkOutputs(t *testing.T) {
	t.Helper()
	if diff := cmp.Diff(b.debs, b.packages(t)); diff != "" {
		t.Errorf("packages (-undisturbed +now):\n%s", diff)
	}
	b.checkChanges(t)
}

// checkChanges holds each .changes that was handed out against its files.
func (b *buildFaultBench) checkChanges(t *testing.T) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(b.out, "*.changes"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		changes, err := dsc.ReadChanges(text)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		for _, f := range changes.Files {
			data, err := os.ReadFile(filepath.Join(b.out, f.Name))
			if err != nil || fmt.Sprintf("%x", sha256.Sum256(data)) != f.SHA256 {
				t.Errorf("%s lists %s, which is not as it says (%v)", filepath.Base(file), f.Name, err)
			}
		}
	}
}

// disturb disturbs a command at a sample of its calls, size for each kind of
// fault. forget makes dbuild forget what the command made; afterwards the state
// must have so many images.
func (b *buildFaultBench) disturb(t *testing.T, size int, args, forget []string, images int) {
	b.mustRun(t, forget...)
	tr := &tracer{dir: b.dir, threads: true, skip: isNoise}
	if r := tr.run(t, b.argv(args...), b.env()); r.exit != 0 {
		t.Fatalf("undisturbed: exit status %d\n%s", r.exit, r.output)
	}
	t.Logf("%d state-changing calls", len(tr.calls))
	if len(tr.calls) < 20 {
		t.Fatalf("only %q", tr.calls)
	}
	count := map[faultMode]int{}
	for _, at := range faultPoints(t, size, len(tr.calls)) {
		for _, mode := range []faultMode{faultKill, faultOnce, faultFull} {
			if b.disturbAt(t, args, forget, images, mode, at) {
				count[mode]++
			}
		}
	}
	t.Logf("disturbed: %v", count)
	if !t.Failed() && count[faultKill] == 0 {
		t.Errorf("too few faults: %v", count)
	}
}

// isNoise picks the calls that come by the hundred, all alike: lines of a log,
// and what removes the scratch of a container or of apt's view of an archive.
func isNoise(call, path string) bool {
	switch call {
	case "write":
		return filepath.Base(path) == "log" || filepath.Ext(path) == ".build"
	case "unlinkat":
		return strings.Contains(path, "/images/containers/") || strings.Contains(path, "/archive/views/")
	}
	return false
}

func (b *buildFaultBench) disturbAt(t *testing.T, args, forget []string, images int, mode faultMode, at int) (hit bool) {
	b.mustRun(t, forget...)
	if err := os.RemoveAll(b.out); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(b.out, 0o755); err != nil {
		t.Fatal(err)
	}
	tr := &tracer{dir: b.dir, threads: true, skip: isNoise, mode: mode, at: at}
	r := tr.run(t, b.argv(args...), b.env())
	if !r.hit {
		return false
	}
	t.Logf("%s, %s at call %d (%s): exit status %d", args[0], mode, at, tr.calls[at-1], r.exit)
	failed := t.Failed()
	if r.exit > 0 && r.exit != 15 {
		t.Errorf("exit status %d is not that of a full disk\n%s", r.exit, r.output)
	}
	b.checkChanges(t)
	if r.exit == 0 && args[0] == "-o" {
		b.checkOutputs(t)
	}
	b.mustRun(t, "clean")
	b.checkQuiet(t)
	b.mustRun(t, "images", "verify")
	b.mustRun(t, args...)
	if args[0] == "-o" {
		b.checkOutputs(t)
		b.mustRun(t, "repo", "verify")
	}
	b.mustRun(t, "clean")
	if got := b.images(t); got != images {
		t.Errorf("%d images in force after the command ran again, want %d", got, images)
	}
	if got := b.entries(t, "images/containers"); len(got) != 0 {
		t.Errorf("containers after the command ran again: %q", got)
	}
	if hidden, err := filepath.Glob(filepath.Join(b.out, ".*")); err != nil || len(hidden) != 0 {
		t.Errorf("left in the output directory: %q (%v)", hidden, err)
	}
	if t.Failed() && !failed {
		t.Errorf("that was: %s", r.output)
	}
	return true
}

// checkQuiet waits until nothing runs or is mounted for the state: a container
// ends when its stream does.
func (b *buildFaultBench) checkQuiet(t *testing.T) {
	t.Helper()
	var found []string
	for range 50 {
		var err error
		if found, err = leftBelow(b.state); err != nil {
			t.Fatal(err)
		}
		if len(found) == 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("left behind: %s", strings.Join(found, ", "))
}
