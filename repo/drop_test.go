package repo

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dbuild/internal/fault"
)

// dropEnv has a suite with its debug suite, a snapshot, and an empty suite.
func dropEnv(t testing.TB) *env {
	t.Helper()
	e := openEnv(t, memoryDir(t))
	for _, s := range []Suite{{Name: "bookworm", Rules: Rules{Debug: DebugSuite}}, {Name: "empty"}} {
		if err := e.CreateSuite(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	e.publish(t, upload(t, "2.10-3", pkg{}.build(t), pkg{name: "hello-dbgsym", source: "hello", section: "debug"}.build(t)))
	if err := e.Snapshot(t.Context(), "bookworm", "kept"); err != nil {
		t.Fatal(err)
	}
	e.publish(t, upload(t, "3", pkg{version: "3"}.build(t)))
	return e
}

func (e *env) pool(t testing.TB) (names []string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(e.Dir(), "pool")); err != nil {
		return nil // empty
	}
	for p := range snapshot(t, filepath.Join(e.Dir(), "pool")) {
		if strings.HasSuffix(p, ".deb") {
			names = append(names, filepath.Base(p))
		}
	}
	return union(names)
}

func TestDrop(t *testing.T) {
	e := dropEnv(t)
	for _, tt := range []struct {
		suite string
		force bool
	}{{"nowhere", true}, {"", true}, {"bookworm", false}, {"bookworm-debug", true}} {
		before := snapshot(t, e.Dir())
		if _, err := e.Drop(t.Context(), tt.suite, tt.force); fault.ClassOf(err) != fault.Usage {
			t.Errorf("drop %q, %v: %v", tt.suite, tt.force, err)
		}
		if diff := cmp.Diff(before, snapshot(t, e.Dir())); diff != "" {
			t.Errorf("refused, and yet (-before +after):\n%s", diff)
		}
	}
	if gone, err := e.Drop(t.Context(), "empty", false); err != nil || len(gone) != 0 {
		t.Errorf("%v, %v", gone, err)
	}
	gone, err := e.Drop(t.Context(), "bookworm", true)
	if err != nil || len(gone) != 3 {
		t.Errorf("%v, %v", gone, err)
	}
	// The snapshot keeps what it lists, wherever that is.
	if _, err := e.Collect(t.Context(), e.clock.now()); err != nil {
		t.Fatal(err)
	}
	look(t, e.Dir(), "kept")
	if diff := cmp.Diff([]string{"hello_2.10-3_amd64.deb"}, e.pool(t)); diff != "" {
		t.Errorf("pool (-want +got):\n%s", diff)
	}
	if gone, err := e.Drop(t.Context(), "kept", false); err != nil || len(gone) != 1 {
		t.Errorf("%v, %v", gone, err)
	}
	c, err := e.Collect(t.Context(), e.clock.now())
	if err != nil || c.PoolFiles != 1 || len(e.pool(t)) != 0 {
		t.Errorf("%+v, %v, %v", c, e.pool(t), err)
	}
	for _, dir := range []string{"dists", "suites", "records"} {
		if left := snapshot(t, filepath.Join(e.Dir(), dir)); len(left) != 1 {
			t.Errorf("left: %v", left)
		}
	}
	// A new suite of the name has nothing of the one before.
	if err := e.CreateSuite(t.Context(), Suite{Name: "bookworm", Origin: "Other"}); err != nil {
		t.Fatal(err)
	}
	if l := look(t, e.Dir(), "bookworm"); len(l) != 0 || e.cur(t).n != 1 {
		t.Errorf("listing %v of generation %d", l, e.cur(t).n)
	}
}

// Wherever a drop ends, clients see the whole suite or none, and whatever comes
// next goes on without repair.
func TestDropInterrupted(t *testing.T) {
	for next, use := range map[string]func(*env) error{
		"drop": func(e *env) error {
			_, err := e.Drop(t.Context(), "bookworm", true)
			if fault.ClassOf(err) == fault.Usage {
				err = nil // it is gone
			}
			_, more := e.Collect(t.Context(), e.clock.now())
			return errors.Join(err, more)
		},
		"init": func(e *env) error {
			if err := e.CreateSuite(t.Context(), Suite{Name: "bookworm", Rules: Rules{Debug: DebugSuite}}); err != nil {
				return err
			}
			_, err := e.Drop(t.Context(), "bookworm", true)
			return err
		},
	} {
		t.Run(next, func(t *testing.T) {
			for k := 1; ; k++ {
				e := dropEnv(t)
				want := look(t, e.Dir(), "bookworm")
				n := 0
				e.before = func(string, string) error {
					if n++; n >= k {
						return errStopped
					}
					return nil
				}
				_, err := e.Drop(t.Context(), "bookworm", true)
				e.before = nil
				if done := n < k; done != (err == nil) || !done && !errors.Is(err, errStopped) {
					t.Fatalf("step %d of %d: %v", k, n, err)
				}
				if _, e2 := os.Lstat(filepath.Join(e.Dir(), "dists/bookworm")); e2 == nil {
					if diff := cmp.Diff(want, look(t, e.Dir(), "bookworm")); diff != "" {
						t.Fatalf("step %d (-want +got):\n%s", k, diff)
					}
				}
				if v, err := e.Verify(t.Context()); err != nil || len(v.Findings) > 0 {
					t.Fatalf("step %d: %+v, %v", k, v, err)
				}
				if err := use(e); err != nil {
					t.Fatalf("step %d: %v", k, err)
				}
				for p := range snapshot(t, filepath.Join(e.Dir(), "dists")) {
					if strings.Contains(p, "bookworm") {
						t.Fatalf("step %d left %s", k, p)
					}
				}
				look(t, e.Dir(), "kept")
				if n < k {
					if k < 8 {
						t.Errorf("only %d steps", k)
					}
					return
				}
			}
		})
	}
}
