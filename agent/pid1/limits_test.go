package pid1

import (
	"os"
	"path/filepath"
	"testing"

	"dbuild/agent/wire"
)

func TestLimitSince(t *testing.T) {
	for _, x := range []struct {
		name          string
		before, after hits
		want          wire.Limit
	}{
		{"nothing", hits{oom: 2, pids: 3}, hits{oom: 2, pids: 3}, wire.LimitNone},
		{"memory", hits{oom: 2}, hits{oom: 3, pids: 1, full: true}, wire.LimitMemory},
		{"processes", hits{pids: 3}, hits{pids: 4, full: true}, wire.LimitPIDs},
		{"disk", hits{}, hits{full: true}, wire.LimitDisk},
	} {
		if got := x.after.since(x.before); got != x.want {
			t.Errorf("%s: %d, want %d", x.name, got, x.want)
		}
	}
}

func TestCounter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	if err := os.WriteFile(path, []byte("oom_kill_disable 0\noom_kill 7\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if n := counter(path, "oom_kill"); n != 7 {
		t.Errorf("counter is %d, want 7", n)
	}
	if n := counter(path+"x", "oom_kill"); n != 0 {
		t.Errorf("missing file counts %d", n)
	}
}
