package tests

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
)

// want ends the script unless a command got the arguments that it takes.
func want(ts *testscript.TestScript, neg, ok bool, usage string) {
	if neg {
		ts.Fatalf("%s cannot be negated", strings.Fields(usage)[0])
	}
	if !ok {
		ts.Fatalf("usage: %s", usage)
	}
}

func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) >= 2, "exits N prog args…")
	code, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != code {
		ts.Fatalf("exit code %d, want %d", got, code)
	}
}

// shared holds the states that several scripts use: making a base image takes
// seconds, and that it can be used by several at once is part of what is tested.
var shared sync.Map // suite → func() (string, error)

func cmdSharedState(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 1, "sharedstate SUITE")
	suite := args[0]
	once, _ := shared.LoadOrStore(suite, sync.OnceValues(func() (string, error) {
		dir := filepath.Join(os.Getenv(workRootVar), "shared-"+suite)
		argv := []string{"create", "--engine", "native", "--state", dir, "--allow-expired", "-d", suite}
		if err := ts.Exec("dbuild", argv...); err != nil {
			return dir, fmt.Errorf("make base image of %s: %w", suite, err)
		}
		return dir, nil
	}))
	dir, err := once.(func() (string, error))()
	ts.Check(err)
	ts.Setenv("STATE", dir)
	ts.Setenv("DBUILD_STATE", dir)
}

func cmdReplace(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 3, "replace FILE OLD NEW")
	oldText, newText := unescape(ts, args[1]), unescape(ts, args[2])
	path := ts.MkAbs(args[0])
	data, err := os.ReadFile(path)
	ts.Check(err)
	if !strings.Contains(string(data), oldText) {
		ts.Fatalf("%s does not contain %q", args[0], oldText)
	}
	ts.Check(os.WriteFile(path, []byte(strings.ReplaceAll(string(data), oldText, newText)), 0o644)) // an existing file keeps its mode
}

// unescape reads Go's escapes, so that a script can name any byte.
func unescape(ts *testscript.TestScript, s string) string {
	text, err := strconv.Unquote(`"` + strings.ReplaceAll(s, `"`, `\"`) + `"`)
	ts.Check(err)
	return text
}

// event is the part of a JSON event that all have.
type event struct {
	V     int    `json:"v"`
	Time  string `json:"time"`
	Event string `json:"event"`
}

func cmdJSONLines(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 1, "jsonlines FILE")
	lines := strings.Split(strings.TrimSuffix(ts.ReadFile(args[0]), "\n"), "\n")
	for i, line := range lines {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			ts.Fatalf("line %d is not JSON: %v: %q", i+1, err, line)
		}
		if e.V != 1 || e.Time == "" || e.Event == "" {
			ts.Fatalf("line %d lacks v, time or event: %q", i+1, line)
		}
		if last := i == len(lines)-1; (e.Event == "result") != last {
			ts.Fatalf("line %d of %d is %q: the result is the last line and no other", i+1, len(lines), e.Event)
		}
	}
}

func cmdResult(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 2 || len(args) == 3, "result FILE PATH [VALUE]")
	got := resultField(ts, args[0], args[1])
	switch {
	case len(args) == 3 && got != args[2]:
		ts.Fatalf("%s is %q, want %q", args[1], got, args[2])
	case len(args) == 2 && got == "":
		ts.Fatalf("%s is empty", args[1])
	}
}

func cmdResultEnv(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 3, "resultenv VAR FILE PATH")
	ts.Setenv(args[0], resultField(ts, args[1], args[2]))
}

// resultField returns a field of the last line of a file of events as text;
// the parts of its path are parted by "/".
func resultField(ts *testscript.TestScript, file, path string) string {
	lines := strings.Split(strings.TrimSpace(ts.ReadFile(file)), "\n")
	decoder := json.NewDecoder(strings.NewReader(lines[len(lines)-1]))
	decoder.UseNumber()
	var value any
	ts.Check(decoder.Decode(&value))
	for part := range strings.SplitSeq(path, "/") {
		next, ok := step(value, part)
		if !ok {
			ts.Fatalf("result has no %q (at %q)", path, part)
		}
		value = next
	}
	switch v := value.(type) {
	case nil:
		return ""
	case map[string]any, []any:
		text, err := json.Marshal(v)
		ts.Check(err)
		return string(text)
	default:
		return fmt.Sprint(v)
	}
}

// step goes one part down a path: to a field, or in a list to the item with that
// number or name.
func step(value any, part string) (any, bool) {
	switch v := value.(type) {
	case map[string]any:
		next, ok := v[part]
		return next, ok
	case []any:
		for i, item := range v {
			object, _ := item.(map[string]any)
			if part == strconv.Itoa(i) || object["name"] == part {
				return item, true
			}
		}
	}
	return nil, false
}

func cmdAptRoot(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 2, "aptroot SUITE DIR")
	dir := ts.MkAbs(args[1])
	sources := aptSources(ts, args[0])
	argv := append([]string{
		"--quiet", "--mode=root", "--variant=apt", "--format=directory",
		`--aptopt=Acquire::Check-Valid-Until "false"`, args[0], dir,
	}, sources...)
	ts.Check(ts.Exec(program(ts, "mmdebstrap"), argv...))
	// What mmdebstrap had to be told about the mirror must not hide anything.
	ts.Check(os.RemoveAll(filepath.Join(dir, "etc/apt/apt.conf.d/99mmdebstrap")))
}

func cmdInRoot(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: inroot DIR prog args…")
	}
	argv := append([]string{"--mount", "--pid", "--fork", "--net", "--mount-proc=" + ts.MkAbs(args[0]) + "/proc", "chroot", ts.MkAbs(args[0])}, args[1:]...)
	err := ts.Exec(program(ts, "unshare"), argv...)
	if neg && err == nil {
		ts.Fatalf("unexpected success")
	}
	if !neg {
		ts.Check(err)
	}
}

func cmdClean(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 1, "clean DIR")
	left, err := leftBelow(ts.MkAbs(args[0]))
	ts.Check(err)
	for _, l := range left {
		ts.Fatalf("left behind: %s", l)
	}
}

// leftBelow lists what is mounted or working below a directory.
func leftBelow(dir string) ([]string, error) {
	mounts, err := mountsBelow(dir)
	if err != nil {
		return nil, err
	}
	processes, err := processesBelow(dir)
	return append(mounts, processes...), err
}

// mountsBelow lists what is mounted below a directory.
func mountsBelow(dir string) (found []string, err error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, dir+"/") {
			found = append(found, "mount "+strings.TrimSpace(line))
		}
	}
	return found, err
}

// processesBelow lists processes that work for a state: those that have mounts
// below it in their own namespace, or name it in their arguments.
func processesBelow(dir string) (found []string, err error) {
	all, err := filepath.Glob("/proc/[0-9]*")
	for _, proc := range all {
		if proc == fmt.Sprintf("/proc/%d", os.Getpid()) {
			continue
		}
		for _, file := range []string{"mountinfo", "cmdline"} {
			data, err := os.ReadFile(filepath.Join(proc, file))
			if err == nil && strings.Contains(string(data), dir) {
				found = append(found, "process "+filepath.Base(proc)+" ("+file+")")
			}
		}
	}
	return found, err
}
