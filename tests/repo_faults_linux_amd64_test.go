package tests

import (
	"context"
	"crypto/md5" //nolint:gosec // the Files field of a .changes has MD5 sums
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dbuild/archive/archivetest"
	"dbuild/internal/state"
	"dbuild/internal/testenv"
	"dbuild/repo"
	"dbuild/sign"
)

// faultsVar asks for every fault instead of a sample: "all", or how many of
// each kind.
const faultsVar = "DBUILD_TEST_FAULTS"

// faultSample is how many calls of each command and kind are disturbed without
// that variable.
const faultSample = 4

// TestRepoFaults kills the verbs of repo at their state-changing system calls,
// and lets those calls fail as on a full disk. Wherever that was, clients see
// the old suite or the new one, what a command said was done is done, and the
// same command then works without a human.
func TestRepoFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("runs hundreds of processes; left out with -short")
	}
	testenv.NeedRoot(t) // as the state's owner, and for ptrace(2)
	apt := testenv.NeedProgram(t, "apt-get")
	b := newFaultBench(t, apt)
	for _, c := range b.commands {
		t.Run(c.name, func(t *testing.T) { b.disturb(t, c) })
	}
}

// faultCommand is a command that is disturbed, in a copy of a state.
type faultCommand struct {
	name  string
	state string   // the state before; "" for none
	args  []string // of repo
	once  bool     // when it is done, it may refuse to be done again
	warns bool     // it mends what the test broke, and says so
	// Before is run, undisturbed, in the same second: what is disturbed has to
	// wait for the next one.
	before []string
}

type faultBench struct {
	dbuild, apt string
	input       string // the files to add
	commands    []faultCommand
}

// newFaultBench makes the states that the commands start from.
func newFaultBench(t *testing.T, apt string) *faultBench {
	program, err := exec.LookPath("dbuild")
	if err != nil {
		t.Fatal(err)
	}
	b := &faultBench{dbuild: program, apt: apt, input: t.TempDir()}
	first := b.writeUpload(t, "first", "1.0-1", "amd64", "all")
	second := b.writeUpload(t, "second", "1.0-2", "amd64", "all", "arm64")
	other := b.writeUpload(t, "other", "1.0-1", "amd64")
	plain := b.makeState(t, repo.Suite{Name: "stable", Rules: repo.Rules{Immutable: true}}, 1, first)
	rebuilt := b.makeState(t, repo.Suite{Name: "stable"}, 1, first)
	old := b.makeState(t, repo.Suite{Name: "stable"}, 30, first)
	two := copyState(t, plain)
	if _, err := b.repo(t.Context(), two, "init", "next"); err != nil {
		t.Fatal(err)
	}
	snapped, bare := copyState(t, plain), copyState(t, plain)
	if _, err := b.repo(t.Context(), snapped, "snapshot", "-d", "stable", "stable-1"); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"repo/dists", "repo/suites", "dbuild.db", "dbuild.db-wal", "dbuild.db-shm"} {
		if err := os.RemoveAll(filepath.Join(bare, part)); err != nil {
			t.Fatal(err)
		}
	}
	lone := archivetest.Package{Name: "lone", Version: "1"}
	loose := filepath.Join(b.input, lone.FileName())
	write(t, loose, string(lone.Deb()))
	b.commands = []faultCommand{
		{name: "add to nothing", args: []string{"add", "-d", "stable", first}},
		{name: "add", state: plain, args: []string{"add", "-d", "stable", second}},
		{name: "add a rebuild", state: rebuilt, args: []string{"add", "-d", "stable", other}},
		{name: "remove", state: plain, args: []string{"remove", "-d", "stable", "tiny"}, once: true},
		{name: "gc", state: old, args: []string{"gc"}},
		{name: "add in the same second", state: plain, before: []string{"add", "-d", "stable", loose}, args: []string{"add", "-d", "stable", second}},
		{name: "init", state: plain, args: []string{"init", "--valid-for", "7", "next"}},
		{name: "copy", state: two, args: []string{"copy", "-d", "stable", "--to", "next", "--by-source", "tiny"}},
		{name: "snapshot", state: plain, args: []string{"snapshot", "-d", "stable", "stable-1"}, once: true},
		{name: "rollback", state: plain, args: []string{"rollback", "-d", "stable", "--generation", "1"}},
		{name: "drop", state: snapped, args: []string{"drop", "stable", "--force"}, once: true},
		{name: "drop a snapshot", state: snapped, args: []string{"drop", "stable-1"}, once: true},
		{name: "rebuild from the record", state: bare, args: []string{"rebuild"}, warns: true},
		{name: "publish", state: plain, args: []string{"publish", "--force"}},
		{name: "rebuild", state: plain, args: []string{"rebuild"}},
	}
	return b
}

// writeUpload writes a source and its packages with a .changes, and returns the
// path of that. content makes the bytes differ.
func (b *faultBench) writeUpload(t *testing.T, content, version string, archs ...string) string {
	t.Helper()
	dir := filepath.Join(b.input, content)
	files := archivetest.SourcePackage{Name: "tiny", Version: version, Files: map[string]string{"content": content}}.
		Build(t, archivetest.New(t))
	for _, a := range archs {
		name := map[string]string{"amd64": "tiny", "arm64": "tiny", "all": "tiny-doc"}[a]
		p := archivetest.Package{
			Name: name, Version: version, Architecture: a, Fields: "Source: tiny",
			Files: map[string]string{"usr/share/tiny/" + content: content},
		}
		files[p.FileName()] = p.Deb()
	}
	var sums, sums256 strings.Builder
	for _, name := range sortedNames(files) {
		data := files[name]
		write(t, filepath.Join(dir, name), string(data))
		fmt.Fprintf(&sums, "\n %x %d misc optional %s", md5.Sum(data), len(data), name) //nolint:gosec // see the import
		fmt.Fprintf(&sums256, "\n %x %d %s", sha256.Sum256(data), len(data), name)
	}
	changes := filepath.Join(dir, "tiny_"+version+"_"+archs[0]+".changes")
	write(t, changes, fmt.Sprintf("Format: 1.8\nDate: Wed, 01 Jan 2025 00:00:00 +0000\nSource: tiny\nBinary: tiny tiny-doc\n"+
		"Architecture: source %s\nVersion: %s\nDistribution: stable\nUrgency: low\nMaintainer: A <a@example.org>\n"+
		"Description:\n tiny - test\nChanges:\n tiny (%s) stable; urgency=low\n .\n   * Test.\nChecksums-Sha256:%s\nFiles:%s\n",
		strings.Join(archs, " "), version, version, sums256.String(), sums.String()))
	return changes
}

func sortedNames(files map[string][]byte) (names []string) {
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// makeState makes a state whose suite has n generations, all older than the
// grace time, and what a killed publish leaves.
func (b *faultBench) makeState(t *testing.T, suite repo.Suite, n int, changes string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	s, err := state.Open(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Add(-48 * time.Hour)
	key, err := sign.Generate("dbuild local repository", now)
	if err != nil {
		t.Fatal(err)
	}
	if err := key.Save(s.Path("keys", "repo.asc")); err != nil {
		t.Fatal(err)
	}
	if err := repo.Migrate(t.Context(), s.DB); err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(t.Context(), s.Path("repo"), s.DB, key, repo.Options{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.CreateSuite(t.Context(), suite); err != nil {
		t.Fatal(err)
	}
	uploads, err := repo.ReadUploads(suite.Name, []string{changes})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		now = now.Add(time.Second)
		if i%2 == 1 {
			if _, err := r.Remove(t.Context(), repo.Selection{Suite: suite.Name, Names: []string{"tiny-doc"}}); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if _, err := r.Publish(t.Context(), uploads[0]); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// copyState is a fresh copy of a state, in memory where there is a place: a kill
// is survived without the disk.
func copyState(t *testing.T, from string) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "dbuild-tests-")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	to := filepath.Join(dir, "state")
	if from != "" {
		// Hard links among the indexes are part of it.
		if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	return to
}

// env is the environment of a command.
func (b *faultBench) env() []string {
	return []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + b.input, "LC_ALL=C.UTF-8"}
}

// argv is a verb of repo in a state.
func (b *faultBench) argv(stateDir string, args ...string) []string {
	return append(append([]string{b.dbuild, "repo"}, args...), "--state", stateDir)
}

// repo runs a verb of repo and returns its output.
func (b *faultBench) repo(ctx context.Context, stateDir string, args ...string) (string, error) {
	argv := b.argv(stateDir, args...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = b.env()
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("repo %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// seen is what a client sees of the repository: the Release file of each suite
// without its dates, and the names in the pool.
func seen(t *testing.T, stateDir string) (releases map[string]string, pool []string) {
	t.Helper()
	releases = map[string]string{}
	dists := filepath.Join(stateDir, "repo/dists")
	entries, err := os.ReadDir(dists)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dists, e.Name(), "Release"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if !strings.HasPrefix(line, "Date:") && !strings.HasPrefix(line, "Valid-Until:") {
				releases[e.Name()] += line
			}
		}
	}
	root := filepath.Join(stateDir, "repo")
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if strings.HasPrefix(rel, "pool/") || strings.HasPrefix(rel, "builds/") || strings.HasSuffix(rel, ".tmp") || strings.HasSuffix(rel, ".new") {
			pool = append(pool, rel)
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return releases, pool
}

// outcome is what the command does when nothing disturbs it.
type outcome struct {
	old, new map[string]string
	pool     []string // after a collection
	calls    []string
}

func (b *faultBench) undisturbed(t *testing.T, c faultCommand) (o outcome) {
	t.Helper()
	dir := copyState(t, c.state)
	b.runBefore(t, c, dir)
	o.old, _ = seen(t, dir)
	tr := &tracer{dir: dir}
	if r := tr.run(t, b.argv(dir, c.args...), b.env()); r.exit != 0 {
		t.Fatalf("undisturbed: exit status %d\n%s", r.exit, r.output)
	}
	o.calls = tr.calls
	o.new, _ = seen(t, dir)
	if _, err := b.repo(t.Context(), dir, "gc"); err != nil {
		t.Fatal(err)
	}
	_, o.pool = seen(t, dir)
	return o
}

func (b *faultBench) runBefore(t *testing.T, c faultCommand, dir string) {
	if c.before == nil {
		return
	}
	if _, err := b.repo(t.Context(), dir, c.before...); err != nil {
		t.Error(err)
	}
}

// disturb runs a command once for each of its calls, or a sample of them, and
// each kind of fault.
func (b *faultBench) disturb(t *testing.T, c faultCommand) {
	o := b.undisturbed(t, c)
	t.Logf("%d state-changing calls", len(o.calls))
	if len(o.calls) < 20 {
		t.Fatalf("only %q", o.calls)
	}
	type point struct {
		mode faultMode
		at   int
	}
	points := make(chan point)
	var wg sync.WaitGroup
	var mu sync.Mutex
	count := map[faultMode]int{}
	for range 3 {
		wg.Go(func() {
			for p := range points {
				hit := b.disturbAt(t, c, o, p.mode, p.at)
				mu.Lock()
				if hit {
					count[p.mode]++
				}
				mu.Unlock()
			}
		})
	}
	for _, mode := range []faultMode{faultKill, faultOnce, faultFull} {
		for _, at := range faultPoints(t, faultSample, len(o.calls)) {
			points <- point{mode, at}
		}
	}
	close(points)
	wg.Wait()
	t.Logf("disturbed: %v", count)
	if !t.Failed() && count[faultKill] < faultSample/2 {
		t.Errorf("too few faults: %v", count)
	}
}

// faultPoints are the calls to disturb, of n: size, or as the variable says.
func faultPoints(t *testing.T, size, n int) []int {
	switch v := os.Getenv(faultsVar); v {
	case "":
	case "all":
		size = n
	default:
		if _, err := fmt.Sscan(v, &size); err != nil {
			t.Fatalf("%s: %v", faultsVar, err)
		}
	}
	points := rand.New(rand.NewPCG(1, uint64(n))).Perm(n) //nolint:gosec // the same sample each time
	points = points[:min(size, n)]
	slices.Sort(points)
	for i := range points {
		points[i]++
	}
	return points
}

// disturbAt disturbs one call and checks what is left; hit is false if the
// process ended before it came to that call.
func (b *faultBench) disturbAt(t *testing.T, c faultCommand, o outcome, mode faultMode, at int) (hit bool) {
	dir := copyState(t, c.state)
	defer os.RemoveAll(filepath.Dir(dir))
	b.runBefore(t, c, dir)
	tr := &tracer{dir: dir, mode: mode, at: at}
	r := tr.run(t, b.argv(dir, c.args...), b.env())
	if !r.hit {
		return false
	}
	where := fmt.Sprintf("%s, %s at call %d (%s), exit status %d:", c.name, mode, at, tr.calls[at-1], r.exit)
	fail := func(format string, args ...any) {
		t.Errorf("%s %s\n%s", where, fmt.Sprintf(format, args...), r.output)
	}
	now, _ := seen(t, dir)
	isNew := cmp.Equal(now, o.new)
	switch {
	case !isNew && !cmp.Equal(now, o.old):
		fail("neither old nor new: %s", cmp.Diff(o.old, now))
	case r.exit == 0 && !isNew:
		fail("it said that it was done")
	case r.exit > 0 && r.exit != 15 && mode != faultKill:
		fail("not the exit status of a full disk")
	}
	if len(now) > 0 {
		if _, err := b.repo(t.Context(), dir, "verify"); err != nil {
			fail("%v", err)
		}
	}
	if at%8 == 0 && now["stable"] != "" {
		if err := b.update(t, dir); err != nil {
			fail("%v", err)
		}
	}
	if out, err := b.repo(t.Context(), dir, c.args...); err != nil && !(c.once && isNew) {
		fail("again: %v", err)
	} else if strings.Contains(out, "W: ") && !c.warns {
		fail("again: %s", out)
	}
	for _, args := range [][]string{{"gc"}, {"verify"}} {
		if _, err := b.repo(t.Context(), dir, args...); err != nil {
			fail("then: %v", err)
		}
	}
	now, pool := seen(t, dir)
	if diff := cmp.Diff(o.new, now); diff != "" {
		fail("again: not what it is undisturbed (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(o.pool, pool); diff != "" {
		fail("again: not the files of an undisturbed run (-want +got):\n%s", diff)
	}
	if at%8 == 0 && now["stable"] != "" {
		if err := b.update(t, dir); err != nil {
			fail("%v", err)
		}
	}
	return true
}

// update runs a real apt with every check on against the repository: it must
// find no fault with it.
func (b *faultBench) update(t *testing.T, stateDir string) error {
	root := filepath.Join(filepath.Dir(stateDir), "apt")
	for _, dir := range []string{"etc/preferences.d", "etc/apt.conf.d", "state/lists/partial", "cache/archives/partial", "log"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	repository := filepath.Join(stateDir, "repo")
	write(t, filepath.Join(root, "etc/sources.list"), fmt.Sprintf("deb [signed-by=%s/key.asc] copy:%s stable main\ndeb-src [signed-by=%s/key.asc] copy:%s stable main\n",
		repository, repository, repository, repository))
	write(t, filepath.Join(root, "status"), "")
	write(t, filepath.Join(root, "apt.conf"), strings.ReplaceAll(`Dir "ROOT"; Dir::State "ROOT/state"; Dir::State::status "ROOT/status";
Dir::Cache "ROOT/cache"; Dir::Etc "ROOT/etc"; Dir::Log "ROOT/log"; APT::Architecture "amd64"; APT::Architectures { "amd64"; };
APT::Sandbox::User ""; Acquire::Check-Valid-Until "true"; Acquire::Check-Date "true"; APT::Update::Error-Mode "any"; quiet "0";
Acquire::Languages "none";
`, "ROOT", root))
	cmd := exec.CommandContext(t.Context(), b.apt, "update")
	cmd.Env = append(b.env(), "APT_CONFIG="+filepath.Join(root, "apt.conf"))
	out, err := cmd.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if err == nil && (strings.HasPrefix(line, "W:") || strings.HasPrefix(line, "E:") || strings.HasPrefix(line, "N:") || strings.HasPrefix(line, "Err:")) {
			err = fmt.Errorf("it complains")
		}
	}
	if err != nil {
		return fmt.Errorf("apt-get update: %w\n%s", err, out)
	}
	return nil
}
