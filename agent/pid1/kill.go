package pid1

import (
	"bytes"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// stepSet knows which steps run.
type stepSet struct {
	mu      sync.Mutex
	running map[*step]bool
}

// add registers s before it starts. If it is alone, the processes that exist
// now are remembered: everything that appears later is the step's doing.
func (t *stepSet) add(s *step) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running == nil {
		t.running = map[*step]bool{}
	}
	s.sole = len(t.running) == 0
	for other := range t.running {
		other.sole = false
	}
	t.running[s] = true
	if s.sole {
		s.baseline = map[int]bool{}
		for _, p := range processes() {
			s.baseline[p.pid] = true
		}
	}
}

func (t *stepSet) remove(s *step) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.running, s)
}

func (t *stepSet) alone(s *step) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return s.sole
}

// killStep kills all processes of a step. Those that it orphaned and moved to
// another session are found when no other step ran at its side; else they live
// until the next Quiesce.
func (a *agent) killStep(s *step) {
	_ = unix.Kill(-s.process.pid, unix.SIGKILL)
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		alone := a.steps.alone(s)
		killed := false
		for _, p := range victims(processes(), s, alone) {
			killed = unix.Kill(p, unix.SIGKILL) == nil || killed
		}
		if !killed {
			return
		}
	}
	// It multiplies faster than it can be killed one by one.
	_ = a.procs.killAll()
}

// victims returns the processes of all that belong to the step: those of its
// session, their descendants and, if it is alone, whatever is new.
func victims(all []proc, s *step, alone bool) []int {
	parent := make(map[int]int, len(all))
	mine := map[int]bool{s.process.pid: true}
	for _, p := range all {
		parent[p.pid] = p.parent
		if p.session == s.process.pid || alone && !s.baseline[p.pid] {
			mine[p.pid] = true
		}
	}
	var pids []int
	for _, p := range all {
		if p.zombie || p.pid == 1 {
			continue
		}
		// The list is no snapshot, so the chain may be odd; it ends all the same.
		for at, hops := p.pid, 0; at > 1 && hops <= len(all); at, hops = parent[at], hops+1 {
			if mine[at] {
				pids = append(pids, p.pid)
				break
			}
		}
	}
	return pids
}

// proc is one process of the container.
type proc struct {
	pid, parent, session int
	zombie               bool
}

// processes lists the processes of the container but the agent, as far as
// /proc shows them.
func processes() []proc {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	var all []proc
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid == 1 {
			continue
		}
		stat, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue
		}
		if p, ok := parseStat(stat); ok {
			all = append(all, p)
		}
	}
	return all
}

// parseStat reads a line of /proc/PID/stat; see proc(5). The name in
// parentheses may itself hold blanks and parentheses.
func parseStat(stat []byte) (proc, bool) {
	end := bytes.LastIndexByte(stat, ')')
	start := bytes.IndexByte(stat, ' ')
	if end < 0 || start < 0 {
		return proc{}, false
	}
	fields := bytes.Fields(stat[end+1:])
	if len(fields) < 4 {
		return proc{}, false
	}
	pid, err1 := strconv.Atoi(string(stat[:start]))
	parent, err2 := strconv.Atoi(string(fields[1]))
	session, err3 := strconv.Atoi(string(fields[3]))
	return proc{pid, parent, session, string(fields[0]) == "Z"}, err1 == nil && err2 == nil && err3 == nil
}
