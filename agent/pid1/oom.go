package pid1

import (
	"strings"

	"golang.org/x/sys/unix"
)

// oomScore makes steps go first when the kernel is out of memory (proc(5),
// oom_score_adj). The agent is often the largest process of a container that
// is full of small ones, or of files in memory, and with it would go the
// container. Steps may undo that for themselves; nothing relies on it.
type oomScore struct {
	fd  int
	own string // the agent's value
}

// stepScore makes a step look as large as half of the memory there is.
const stepScore = "500"

// openOOMScore returns nil where the file cannot be written.
func openOOMScore() *oomScore {
	fd, err := unix.Open("/proc/self/oom_score_adj", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	var own [16]byte
	n, err := unix.Pread(fd, own[:], 0)
	if err != nil {
		_ = unix.Close(fd)
		return nil
	}
	return &oomScore{fd, strings.TrimSpace(string(own[:n]))}
}

// prefer changes the calling process, so that children inherit it.
func (s *oomScore) prefer() { s.set(stepScore) }

func (s *oomScore) restore() {
	if s != nil {
		s.set(s.own)
	}
}

func (s *oomScore) set(score string) {
	if s != nil {
		_, _ = unix.Pwrite(s.fd, []byte(score), 0)
	}
}
