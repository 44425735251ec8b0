package pid1

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"dbuild/agent/wire"
)

// hits counts how often the container ran into its limits.
type hits struct {
	oom, pids int64
	full      bool // the root file system has nothing left worth speaking of
}

// limitsHit reads the container's own control groups. Only a daemon mounts
// them there; the native engine looks at them from outside.
func (a *agent) limitsHit() hits {
	if a.root != wire.RootReady {
		return hits{}
	}
	const groups = "/sys/fs/cgroup"
	h := hits{
		oom:  max(counter(groups+"/memory.events", "oom_kill"), counter(groups+"/memory/memory.oom_control", "oom_kill")),
		pids: max(counter(groups+"/pids.events", "max"), counter(groups+"/pids/pids.events", "max")),
	}
	var st unix.Statfs_t
	if unix.Statfs("/", &st) == nil {
		h.full = st.Bavail*uint64(st.Bsize) < 1<<20
	}
	return h
}

// since names the limit that was hit after before.
func (h hits) since(before hits) wire.Limit {
	switch {
	case h.oom > before.oom:
		return wire.LimitMemory
	case h.pids > before.pids:
		return wire.LimitPIDs
	case h.full:
		return wire.LimitDisk
	}
	return wire.LimitNone
}

// counter reads "KEY NUMBER" from a control file; 0 if it is not there.
func counter(path, key string) int64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if fields := strings.Fields(line); len(fields) == 2 && fields[0] == key {
			n, _ := strconv.ParseInt(fields[1], 10, 64)
			return n
		}
	}
	return 0
}
