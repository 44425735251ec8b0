package native

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"dbuild/engine"
	"dbuild/internal/fault"
)

// cgroupRoot is where cgroup file systems are mounted; see cgroups(7).
const cgroupRoot = "/sys/fs/cgroup"

// cgroups knows where containers' control groups can be made: a directory for
// each controller that this process may use. On cgroup v2 both are the same.
type cgroups struct {
	pids, memory string // "" when it cannot be used
	v2           bool
}

// findCgroups looks where this process is in the hierarchies.
func findCgroups() cgroups {
	f, err := os.Open("/proc/self/cgroup")
	if err != nil {
		return cgroups{}
	}
	defer f.Close()
	own := map[string]string{} // controller to path; "" is v2
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.SplitN(lines.Text(), ":", 3); len(fields) == 3 {
			for _, controller := range strings.Split(fields[1], ",") {
				own[controller] = fields[2]
			}
		}
	}
	return locateCgroups(cgroupRoot, own)
}

// locateCgroups prefers v1 where a controller is mounted that way, for it
// cannot be on v2 then.
func locateCgroups(root string, own map[string]string) cgroups {
	var g cgroups
	for controller, dir := range map[string]*string{"pids": &g.pids, "memory": &g.memory} {
		path, ok := own[controller]
		if !ok {
			continue
		}
		// Inside another container the path may be the host's, while the mount
		// begins at the container's own group.
		for _, candidate := range []string{filepath.Join(root, controller, path), filepath.Join(root, controller)} {
			if usable(candidate) {
				*dir = candidate
				break
			}
		}
	}
	if g.pids == "" && g.memory == "" {
		if path, ok := own[""]; ok {
			g = locateV2(root, path)
		}
	}
	return g
}

// locateV2 finds the nearest group, from the own one upwards, that hands the
// controllers to its children. It is mostly the parent: a group that holds
// processes itself cannot.
func locateV2(root, path string) cgroups {
	for at := filepath.Clean("/" + path); ; at = filepath.Dir(at) {
		dir := filepath.Join(root, at)
		given, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
		controllers := strings.Fields(string(given))
		if err == nil && usable(dir) && slices.Contains(controllers, "pids") {
			g := cgroups{pids: dir, v2: true}
			if slices.Contains(controllers, "memory") {
				g.memory = dir
			}
			return g
		}
		if at == "/" {
			return cgroups{}
		}
	}
}

// usable reports whether groups can be made in dir.
func usable(dir string) bool {
	probe := filepath.Join(dir, "dbuild-probe-"+newID())
	if os.Mkdir(probe, 0o755) != nil {
		return false
	}
	return os.Remove(probe) == nil
}

// limits names what can be enforced.
func (g cgroups) limits() []string {
	var l []string
	if g.pids != "" {
		l = append(l, "pids")
	}
	if g.memory != "" {
		l = append(l, "memory")
	}
	return l
}

// cgroup is the groups of one container; the zero value is none.
type cgroup struct {
	dirs         []string
	pids, memory string
	v2           bool
}

// groupsFile lists the groups of a container in its directory, for Reap.
const groupsFile = "cgroups"

// create makes the groups that the limits need. Their names carry the state
// and the container, and they are written down before they exist.
func (g cgroups) create(state, id, dir string, limits engine.Limits) (c cgroup, err error) {
	c.v2 = g.v2
	name := "dbuild-" + state + "-" + id
	for _, l := range []struct {
		what   string
		limit  engine.Limit
		parent string
		dir    *string
	}{{"pids", limits.PIDs, g.pids, &c.pids}, {"memory", limits.Memory, g.memory, &c.memory}} {
		switch {
		case l.limit.Value <= 0:
		case l.parent != "":
			*l.dir = filepath.Join(l.parent, name)
			if !slices.Contains(c.dirs, *l.dir) {
				c.dirs = append(c.dirs, *l.dir)
			}
		case l.limit.Required:
			err := fault.Wrap(fault.Engine, fmt.Errorf("limit %s: no control group: %w", l.what, engine.ErrUnsupported))
			return cgroup{}, fault.WithHint(err, "run in a systemd session, or without --strict-limits")
		}
	}
	if len(c.dirs) == 0 {
		return c, nil
	}
	list := strings.Join(c.dirs, "\n") + "\n"
	if err := os.WriteFile(filepath.Join(dir, groupsFile), []byte(list), 0o600); err != nil {
		return cgroup{}, err
	}
	for _, d := range c.dirs {
		if err := os.Mkdir(d, 0o755); err != nil {
			return c, fmt.Errorf("make control group: %w", err)
		}
	}
	return c, c.set(limits)
}

func (c cgroup) set(limits engine.Limits) error {
	memoryFile := "memory.limit_in_bytes"
	if c.v2 {
		memoryFile = "memory.max"
	}
	for _, l := range []struct {
		dir, file string
		value     int64
	}{{c.pids, "pids.max", limits.PIDs.Value}, {c.memory, memoryFile, limits.Memory.Value}} {
		if l.dir == "" {
			continue
		}
		if err := writeControl(filepath.Join(l.dir, l.file), strconv.FormatInt(l.value, 10)); err != nil {
			return err
		}
	}
	if c.v2 && c.memory != "" {
		// Swapping would only delay the end. Not every kernel has the file.
		_ = writeControl(filepath.Join(c.memory, "memory.swap.max"), "0")
	}
	return nil
}

func (c cgroup) add(pid int) error {
	for _, d := range c.dirs {
		if err := writeControl(filepath.Join(d, "cgroup.procs"), strconv.Itoa(pid)); err != nil {
			return err
		}
	}
	return nil
}

func writeControl(path, value string) error {
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		return fmt.Errorf("set control group: %w", err)
	}
	return nil
}

// events counts how often limits were hit.
type events struct{ oom, pids int64 }

func (c cgroup) events() events {
	var e events
	if c.pids != "" {
		e.pids = counter(filepath.Join(c.pids, "pids.events"), "max")
	}
	if c.memory != "" {
		file := "memory.oom_control"
		if c.v2 {
			file = "memory.events"
		}
		e.oom = counter(filepath.Join(c.memory, file), "oom_kill")
	}
	return e
}

// counter returns the number behind a key; 0 when there is none.
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

func (c cgroup) remove() error { return removeGroups(c.dirs) }

// removeGroups removes groups. The kernel needs a moment to notice that their
// last process is gone.
func removeGroups(dirs []string) error {
	var errs error
	for _, d := range dirs {
		err := os.Remove(d)
		for wait := time.Millisecond; err != nil && !errors.Is(err, fs.ErrNotExist) && wait < time.Second; wait *= 2 {
			time.Sleep(wait)
			err = os.Remove(d)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = errors.Join(errs, fmt.Errorf("remove control group: %w", err))
		}
	}
	return errs
}

// reapCgroups removes the groups that a lost container's directory lists.
func reapCgroups(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, groupsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var dirs []string
	for line := range strings.Lines(string(b)) {
		d := filepath.Clean(strings.TrimSpace(line))
		if strings.HasPrefix(d, cgroupRoot+"/") && strings.HasPrefix(filepath.Base(d), "dbuild-") {
			dirs = append(dirs, d)
		}
	}
	return removeGroups(dirs)
}
