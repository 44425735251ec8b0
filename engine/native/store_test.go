package native

import (
	"bufio"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dbuild/internal/fault"
)

func TestOpenStore(t *testing.T) {
	if within() != "" {
		t.Skip("is about root's own ids")
	}
	dir := filepath.Join(t.TempDir(), "a", "store")
	first, err := openStore(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	if first.IDBase != DefaultIDBase || first.IDSize != IDCount || !validID(first.ID) {
		t.Errorf("new store: %+v", first)
	}
	again, err := openStore(dir, DefaultIDBase)
	if err != nil || again != first {
		t.Errorf("opened again: %+v, %v", again, err)
	}
	if _, err := openStore(dir, DefaultIDBase+IDCount); fault.ClassOf(err) != fault.Usage {
		t.Errorf("with another range: %v, want a usage error", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "store.json"), []byte(`{"v":2}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openStore(dir, 0); fault.ClassOf(err) != fault.Locked {
		t.Errorf("store of a newer dbuild: %v, want class locked", err)
	}
}

func TestOverlap(t *testing.T) {
	const file = "a:100000:65536\nbad line\nb:2000000000:65536\n"
	for _, x := range []struct {
		base int
		want bool
	}{{100000 - IDCount, false}, {100001 - IDCount, true}, {165535, true}, {165536, false}, {2_000_000_000, true}, {1_999_999_999, true}, {2_000_065_536, false}} {
		if _, got := overlap(bufio.NewScanner(strings.NewReader(file)), x.base); got != x.want {
			t.Errorf("ids from %d overlap: %v, want %v", x.base, got, x.want)
		}
	}
}

func TestCheckRange(t *testing.T) {
	for _, base := range []int{1, 65536, -5, 1<<31 - 1} {
		if err := checkRange(base); fault.ClassOf(err) != fault.Usage {
			t.Errorf("base %d: %v, want a usage error", base, err)
		}
	}
}

// TestLocateCgroups looks in hierarchies made of plain directories.
func TestLocateCgroups(t *testing.T) {
	for _, x := range []struct {
		name  string
		files map[string]string // directories, and the files that matter
		own   map[string]string
		want  cgroups
	}{
		{"v1", map[string]string{"pids/user/x": "", "memory/m": ""}, map[string]string{"pids": "/user/x", "memory": "/m", "": "/"}, cgroups{pids: "pids/user/x", memory: "memory/m"}},
		{"v1 inside a container", map[string]string{"pids/x": ""}, map[string]string{"pids": "/docker/0123"}, cgroups{pids: "pids"}},
		{"v2 session", map[string]string{"user/session": "", "user/cgroup.subtree_control": "memory pids\n", "user/session/cgroup.subtree_control": ""}, map[string]string{"": "/user/session"}, cgroups{pids: "user", memory: "user", v2: true}},
		{"v2 without memory", map[string]string{"a": "", "cgroup.subtree_control": "cpu pids\n", "a/cgroup.subtree_control": ""}, map[string]string{"": "/a"}, cgroups{pids: ".", v2: true}},
		{"v2 without anything", map[string]string{"a": "", "cgroup.subtree_control": "cpu\n"}, map[string]string{"": "/a"}, cgroups{}},
		{"nothing", nil, nil, cgroups{}},
	} {
		t.Run(x.name, func(t *testing.T) {
			root := t.TempDir()
			for name, content := range x.files {
				path := filepath.Join(root, name)
				dir := path
				if strings.Contains(filepath.Base(name), ".") {
					dir = filepath.Dir(path)
				}
				err := os.MkdirAll(dir, 0o755)
				if dir != path {
					err = errors.Join(err, os.WriteFile(path, []byte(content), 0o644))
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			want := x.want
			for _, dir := range []*string{&want.pids, &want.memory} {
				if *dir != "" {
					*dir = filepath.Join(root, *dir)
				}
			}
			if diff := cmp.Diff(want, locateCgroups(root, x.own), cmp.AllowUnexported(cgroups{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCounter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	if err := os.WriteFile(path, []byte("low 0\noom 7\noom_kill 3\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]int64{"oom_kill": 3, "low": 0, "none": 0} {
		if got := counter(path, key); got != want {
			t.Errorf("%s is %d, want %d", key, got, want)
		}
	}
	if got := counter(path+"x", "oom"); got != 0 {
		t.Errorf("missing file counts %d", got)
	}
}
