package repo

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dbuild/internal/fault"
)

// lostEnv is a repository with rules that no other field of a Release file
// shows, and with a snapshot.
func lostEnv(t testing.TB) *env {
	t.Helper()
	e := openEnv(t, memoryDir(t))
	s := Suite{Name: "bookworm", Origin: "Example", NotAutomatic: true, Rules: Rules{
		Immutable: true, Rising: true, Keep: 3, KeepDays: 9, Debug: DebugComponent, ValidDays: 30, Contents: true, Translations: true,
	}}
	if err := e.CreateSuite(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	publishSome(t, e)
	if err := e.Snapshot(t.Context(), "bookworm", "kept"); err != nil {
		t.Fatal(err)
	}
	return e
}

// told is all that a repository says of itself: suites with rules, Release files
// but for their dates, rows.
func (e *env) told(t testing.TB) map[string]string {
	t.Helper()
	suites, err := e.Suites()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, s := range suites {
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		all[s.Name] = string(text)
		for line := range strings.Lines(string(readFile(t, filepath.Join(e.Dir(), "dists", s.Name, "Release")))) {
			if !strings.HasPrefix(line, "Date:") && !strings.HasPrefix(line, "Valid-Until:") {
				all[s.Name] += line
			}
		}
		look(t, e.Dir(), s.Name)
	}
	all["rows"] = strings.Join(e.rowsText(t), "\n")
	return all
}

// Whatever of the database, dists, the files of suites and the records is lost,
// Rebuild makes it again from the rest, and what comes next is as if nothing
// had been.
func TestRebuildAfterLoss(t *testing.T) {
	next := upload(t, "1:4", pkg{version: "1:4"}.build(t))
	next.Build = "build-4"
	whole := lostEnv(t)
	want := whole.told(t)
	release := string(readFile(t, filepath.Join(whole.Dir(), "dists/bookworm/InRelease")))
	if !strings.Contains(release, "\n"+rulesField+": {") {
		t.Fatalf("no rules are signed:\n%s", release)
	}
	whole.publish(t, next)
	after := whole.told(t)
	for _, lost := range []string{
		"db", "dists", "suites", "records", "dists/bookworm", "db dists", "db suites", "dists suites", "db dists suites",
		"db dists/bookworm suites", "dists records", "db records",
	} {
		t.Run(lost, func(t *testing.T) {
			e := lostEnv(t)
			signed := readFile(t, filepath.Join(e.Dir(), "dists/bookworm/InRelease"))
			for part := range strings.SplitSeq(lost, " ") {
				if part == "db" {
					e.Repo.db = openDB(t, filepath.Join(t.TempDir(), "other.db"))
				} else if err := os.RemoveAll(filepath.Join(e.Dir(), part)); err != nil {
					t.Fatal(err)
				}
			}
			if err := e.Rebuild(t.Context()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, e.told(t)); diff != "" {
				t.Errorf("rebuilt (-want +got):\n%s", diff)
			}
			again := readFile(t, filepath.Join(e.Dir(), "dists/bookworm/InRelease"))
			if lost != "dists records" && string(signed) != string(again) {
				t.Error("InRelease is not the one that was signed")
			}
			if v, err := e.Verify(t.Context()); err != nil || len(v.Findings) > 0 {
				t.Errorf("verified: %+v, %v", v, err)
			}
			e.clock.time = e.clock.time.Add(2 * time.Second)
			e.publish(t, next)
			if diff := cmp.Diff(after, e.told(t)); diff != "" {
				t.Errorf("after the next publish (-want +got):\n%s", diff)
			}
		})
	}
}

// Nothing that reads or writes takes a suite that was lost for a new one.
func TestLostSuiteIsMended(t *testing.T) {
	for name, use := range map[string]func(*env) error{
		"list":    func(e *env) error { _, err := e.List(t.Context(), Query{}); return err },
		"collect": func(e *env) error { _, err := e.Collect(t.Context(), e.clock.now().Add(100*time.Hour)); return err },
		"renew":   func(e *env) error { _, err := e.Renew(t.Context(), "bookworm"); return err },
		"init": func(e *env) error {
			return e.CreateSuite(t.Context(), Suite{Name: "bookworm", Origin: "Example", NotAutomatic: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := lostEnv(t)
			want := e.told(t)
			n := &notes{}
			e.report = warnOnly{n}
			if err := os.RemoveAll(filepath.Join(e.Dir(), "dists")); err != nil {
				t.Fatal(err)
			}
			if err := use(e); err != nil {
				t.Fatal(err)
			}
			if _, err := e.List(t.Context(), Query{}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, e.told(t)); diff != "" || len(n.warn) != 2 {
				t.Errorf("(-want +got):\n%s\nwarnings %q", diff, n.warn)
			}
		})
	}
}

// A record that was changed, or that another signed, is not shown.
func TestDamagedRecordIsNotShown(t *testing.T) {
	for name, damage := range map[string]func(dir string) error{
		"Release": func(dir string) error {
			return overwrite(filepath.Join(dir, "2/Release"), "Label: dbuild", "Label: ebuild")
		},
		"InRelease": func(dir string) error {
			return overwrite(filepath.Join(dir, "2/InRelease"), "Label: dbuild", "Label: ebuild")
		},
		"index": func(dir string) error {
			names, err := filepath.Glob(filepath.Join(dir, "????????????????*"))
			if err != nil || len(names) == 0 {
				return os.ErrNotExist
			}
			return os.Truncate(names[0], 3)
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			publishSome(t, e)
			if err := damage(filepath.Join(e.Dir(), "records/bookworm")); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(filepath.Join(e.Dir(), "dists")); err != nil {
				t.Fatal(err)
			}
			e.Repo.db = openDB(t, filepath.Join(t.TempDir(), "other.db"))
			if err := e.Rebuild(t.Context()); fault.ClassOf(err) != fault.Trust {
				t.Errorf("class %q: %v", fault.ClassOf(err), err)
			}
			if _, err := os.Lstat(filepath.Join(e.Dir(), "dists/bookworm")); err == nil {
				t.Error("it is shown")
			}
		})
	}
}

func overwrite(path, old, with string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(strings.Replace(string(b), old, with, 1)), 0o644)
}

// The record has what the generation has, and nothing else; a repository of an
// earlier dbuild gets one.
func TestRecordHasNoMore(t *testing.T) {
	e := newEnv(t)
	u := publishSome(t, e)
	count := func() int {
		names, err := os.ReadDir(filepath.Join(e.Dir(), "records/bookworm"))
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	if got := count(); got != 6+1 {
		t.Errorf("%d names in the record", got)
	}
	if err := os.RemoveAll(filepath.Join(e.Dir(), "records")); err != nil {
		t.Fatal(err)
	}
	if p := e.publish(t, u); !p.Unchanged {
		t.Errorf("published: %+v", p)
	}
	if _, err := e.Collect(t.Context(), e.clock.now()); err != nil {
		t.Fatal(err)
	}
	if got := count(); got != 6+1 {
		t.Errorf("%d names in the record", got)
	}
}
