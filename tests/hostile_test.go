package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"dbuild/archive/archivetest"
	"dbuild/deb"
	"dbuild/engine/docker"
	"dbuild/internal/testenv"
)

// The hostile suite builds packages that try to get out, to see or change what
// is not theirs, or to hand out what they should not, on every engine. The
// catalogue and what each check means are in docs/security.md; tests/hostile is
// the program that the packages carry.

// hostileEngine is one row of the suite: an engine and who runs dbuild.
type hostileEngine struct {
	name string
	env  []string                      // beside the state
	need func(*testing.T, *hostileRun) // skips where the engine is not there

	quick      bool   // containers take no time: run every case
	containers string // where in the state containers are, if they are
}

var hostileEngines = []hostileEngine{
	{name: "native", quick: true, containers: "images/containers", env: []string{"DBUILD_ENGINE=native"}, need: func(*testing.T, *hostileRun) {}},
	{name: "rootless", env: []string{"DBUILD_ENGINE=native"}, need: func(t *testing.T, r *hostileRun) {
		u, err := testenv.FindUser()
		if err != nil {
			testenv.Skip(t, "user", "%v", err)
		}
		r.user = &syscall.Credential{Uid: uint32(u.UID), Gid: uint32(u.GID)}
	}},
	{name: "docker", env: []string{"DBUILD_ENGINE=docker"}, need: func(t *testing.T, _ *hostileRun) {
		if err := docker.Usable(t.Context()); err != nil {
			testenv.Skip(t, "docker", "needs a docker daemon: %v", err)
		}
	}},
}

// hostileRun is one engine at work.
type hostileRun struct {
	hostileEngine
	host *hostileHost
	dir  string // of its packages, results and, below state, the state

	user    *syscall.Credential // who runs dbuild; nil: root
	limits  map[string]string   // of the result: which are enforced
	sleeper string              // seconds that processes sleep which its packages leave behind
}

func TestHostile(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedNetwork(t)
	h := newHostileHost(t)
	t.Run("twins", h.testTwins)
	for _, e := range hostileEngines {
		t.Run(e.name, func(t *testing.T) {
			r := &hostileRun{hostileEngine: e, host: h, dir: filepath.Join(h.dir, e.name), sleeper: h.newSleeper()}
			e.need(t, r)
			r.mkdir(t, r.dir) // before any of them looks at the host
			t.Parallel()
			// The first package makes the images that all others use.
			if !t.Run("escapes", r.testEscapes) {
				return
			}
			t.Run("results", r.testResults)
			if e.containers != "" {
				t.Run("full-disk", r.testFullDisk)
			}
			t.Run("images", r.testImages)
		})
	}
}

// mkdir makes a directory that belongs to whoever runs dbuild.
func (r *hostileRun) mkdir(t *testing.T, dir string) {
	t.Helper()
	err := os.MkdirAll(dir, 0o755)
	if err == nil && r.user != nil {
		err = os.Chown(dir, int(r.user.Uid), int(r.user.Gid))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// ending is how one run of dbuild ended.
type ending struct {
	exit   int
	stdout string
	stderr string
	took   time.Duration
	result struct {
		Status    string
		Class     string
		Log       string
		Limits    map[string]string
		Artifacts []struct{ Name, Path, SHA256 string }
		Error     *struct{ Message string }
	}
}

// hostileDeadline is how long any run may take. Nothing that a package does
// makes dbuild wait for longer than it was told to.
const hostileDeadline = 3 * time.Minute

// dbuild runs the program with the engine's settings. Its environment holds
// what must not be seen inside.
func (r *hostileRun) dbuild(t *testing.T, args ...string) ending {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hostileDeadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.host.dbuild, args...)
	cmd.Env = append(os.Environ(), "HOME="+r.dir, "DBUILD_STATE="+filepath.Join(r.dir, "state"), "DBUILD_MIRROR="+r.host.mirror.url)
	cmd.Env = append(append(cmd.Env, r.env...), secretEnvironment...)
	cmd.Dir = r.dir
	if r.user != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: r.user}
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	start := time.Now()
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("dbuild %q: %v\n%s", args, errors.Join(err, ctx.Err()), stderr.String())
	}
	o := ending{exit: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String(), took: time.Since(start)}
	if slices.Contains(args, "--json") {
		lines := strings.Split(strings.TrimSpace(o.stdout), "\n")
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &o.result); err != nil {
			t.Fatalf("dbuild %q: the last line is no result: %v\n%s\n%s", args, err, o.stdout, o.stderr)
		}
	}
	return o
}

// build builds a package; results go to out.
func (r *hostileRun) build(t *testing.T, out, source string, args ...string) ending {
	t.Helper()
	r.mkdir(t, out)
	argv := append([]string{"build", "--json", "--allow-expired", "--no-repo", "--keyring", r.host.mirror.keys, "-d", localSuite, "-o", out}, args...)
	return r.dbuild(t, append(argv, source)...)
}

// hostilePackage is the build dependency whose postinst is hostile.
const hostilePackage = "dbuild-hostile-dependency"

// where the dependency has its things; its programs must be below "bin".
const planted = "/usr/lib/dbuild-hostile"

// addHostilePackage puts the dependency into the mirror. What its postinst
// starts and leaves running must be dead when the image is made.
func addHostilePackage(m *mirror, params, sleeper string, program []byte) {
	script := `#!/bin/sh
set -e
cd ` + planted + `
HOSTILE_STAGE=deps bin/hostile params run d report
bin/hostile params calls d | tee -a report
HOSTILE_STAGE=deps bin/hostile params run p report
` + leaveBehind(sleeper) + "\n"
	m.archive.AddPackage(localSuite, "main", archivetest.Package{
		Name: hostilePackage, Version: "1.0", Architecture: deb.HostArch(),
		Scripts: map[string]string{"postinst": script},
		Files: map[string]string{
			planted[1:] + "/bin/hostile": string(program),
			planted[1:] + "/params":      params,
		},
	})
	for name, script := range map[string]string{"dbuild-hostile-sleeps": "sleep 100000", "dbuild-hostile-kills": "kill -9 -1; sleep 100000"} {
		m.archive.AddPackage(localSuite, "main", archivetest.Package{
			Name: name, Version: "1.0", Architecture: deb.HostArch(), Scripts: map[string]string{"postinst": "#!/bin/sh\n" + script + "\n"},
		})
	}
	m.archive.SetDates(localSuite, time.Now().Add(-time.Second), time.Time{})
	m.archive.Publish(localSuite)
}

// leaveBehind is a shell command that starts a daemon with all of the step's
// streams open.
func leaveBehind(seconds string) string {
	return `(setsid sh -c 'trap "" HUP TERM INT; exec sleep ` + seconds + `' &)`
}

// testEscapes runs every probe in the clean target, in the postinst of a build
// dependency and in the build.
func (r *hostileRun) testEscapes(t *testing.T) {
	h := r.host
	tree := filepath.Join(r.dir, "escapes", "tree")
	writeTree(t, tree, map[string]string{
		"debian/control": dependOn(t, hostilePackage+", fakeroot"),
		"debian/rules":   strings.Replace(escapesRules, "SLEEPER", leaveBehind(r.sleeper), 1),
		"hostile":        string(h.program),
		"params":         h.params,
	})
	for _, name := range []string{"debian/rules", "hostile"} {
		if err := os.Chmod(filepath.Join(tree, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	before := h.look(t)
	inputs := hashTree(t, tree)
	out := filepath.Join(r.dir, "escapes", "out")
	o := r.build(t, out, tree, "--clean-source", "-j2", "--memory", "8G")
	if o.exit != 0 {
		t.Fatalf("exit %d\n%s\n%s", o.exit, o.stdout, o.stderr)
	}
	r.limits = o.result.Limits
	log := readText(t, o.result.Log)
	report := readText(t, filepath.Join(out, "report_1.0.txt"))
	var lines []string
	for line := range strings.Lines(log) {
		if strings.HasPrefix(line, "HOSTILE ") || strings.HasPrefix(line, "CALL ") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	h.judge(t, lines, "c", "d", "p", "b")
	h.judgeCalls(t, lines, 2, "d", "b")
	// The results say what the log says.
	for _, line := range lines {
		if !strings.Contains(report, line+"\n") {
			t.Errorf("not in the results: %s", line)
		}
	}
	h.compare(t, before)
	if after := hashTree(t, tree); after != inputs {
		t.Error("the source tree has changed")
	}
	var names []string
	for _, e := range mustReadDir(t, out) {
		names = append(names, e.Name())
	}
	for _, name := range names {
		if !strings.HasPrefix(name, "tiny") && name != "report_1.0.txt" {
			t.Errorf("handed out %q", name)
		}
	}
	r.clean(t)
}

// escapesRules is the debian/rules of the package. dpkg-buildpackage calls
// clean once more before the build, in the build's own container.
const escapesRules = `#!/usr/bin/make -f
clean:
	test -e report.clean || HOSTILE_STAGE=clean ./hostile params run c report.clean

build:
	HOSTILE_STAGE=build ./hostile params run b report.build
	./hostile params calls b | tee -a report.build

binary: build
	cat report.clean ` + planted + `/report report.build >../report_1.0.txt
	dpkg-distaddfile report_1.0.txt misc optional
	install -d debian/tiny/DEBIAN
	dpkg-gencontrol -ptiny -Pdebian/tiny
	touch -d '2106-02-07 06:28:15 UTC' debian/tiny/DEBIAN/control
	dpkg-deb --root-owner-group --build debian/tiny ..
	touch -d '2106-02-07 06:28:15 UTC' ../tiny_1.0_*.deb
	SLEEPER
.PHONY: clean build binary
`

// clean fails when something that works for the state is left, or a process
// that a package left behind.
func (r *hostileRun) clean(t *testing.T) {
	t.Helper()
	left, err := leftBelow(r.dir + "/state")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range append(left, sleepers(t, r.sleeper)...) {
		t.Errorf("left behind: %s", l)
	}
}

// sleepers lists processes that sleep for a number of seconds.
func sleepers(t *testing.T, seconds string) (found []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range all {
		if data, _ := os.ReadFile(file); string(data) == "sleep\x00"+seconds+"\x00" {
			found = append(found, file)
		}
	}
	return found
}

// testImages: what the packages did to their containers is in no image.
func (r *hostileRun) testImages(t *testing.T) {
	if o := r.dbuild(t, "images", "verify"); o.exit != 0 {
		t.Errorf("images verify: exit %d\n%s\n%s", o.exit, o.stdout, o.stderr)
	}
	r.clean(t)
}
