package userns

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"

	"dbuild/internal/fault"
)

// host is where this package looks; tests look elsewhere.
type host struct {
	subuid, subgid string
	sysctl         string // /proc/sys
	look           func(program string) (string, error)
	ids            func(flags ...string) (string, error) // getsubids(1)
}

var realHost = host{
	subuid: "/etc/subuid", subgid: "/etc/subgid", sysctl: "/proc/sys",
	look: lookProgram,
	ids: func(args ...string) (string, error) {
		out, err := exec.Command("getsubids", args...).Output()
		return string(out), err
	},
}

// lookProgram finds a program where Debian puts it, whatever PATH says.
func lookProgram(name string) (string, error) {
	if path, err := exec.LookPath("/usr/bin/" + name); err == nil {
		return path, nil
	}
	return exec.LookPath(name)
}

// namespace works out the map for a user.
func (h host) namespace(uid, gid int) (Namespace, error) {
	n := Namespace{UID: uid, GID: gid}
	name := ""
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		name = u.Username
	}
	var err error
	if n.Users, err = h.ranges(h.subuid, name, uid); err != nil {
		return n, err
	}
	n.Groups, err = h.ranges(h.subgid, name, uid, "-g")
	return n, err
}

// ranges returns Count subordinate ids of a user, from as few ranges as the
// file has them in. Where no line is found they may come from a directory
// service, which getsubids(1) asks.
func (h host) ranges(file, name string, uid int, flags ...string) ([]Range, error) {
	all, err := readRanges(file, name, uid)
	if err != nil {
		return nil, fault.Wrap(fault.Engine, err)
	}
	if len(all) == 0 && name != "" {
		if text, err := h.ids(append(flags, name)...); err == nil {
			all = parseGetsubids(text)
		}
	}
	picked, total := pick(all)
	if total == Count {
		return picked, nil
	}
	if name == "" {
		name = strconv.Itoa(uid)
	}
	err = fault.New(fault.Engine, "user %q has %d subordinate ids in %q, a container needs %d", name, total, file, Count)
	return nil, fault.WithHint(err, "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %s (any range that nobody else has)", name)
}

// pick takes Count ids: of one range if that is large enough, else of the first
// ones together.
func pick(all []Range) (picked []Range, total int) {
	for _, r := range all {
		if r.Count >= Count {
			return []Range{{r.First, Count}}, Count
		}
	}
	for _, r := range all {
		r.Count = min(r.Count, Count-total)
		if r.Count > 0 {
			picked = append(picked, r)
			total += r.Count
		}
	}
	return picked, total
}

// readRanges reads lines of subuid(5), by name or by number.
func readRanges(file, name string, uid int) ([]Range, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseRanges(f, name, uid)
}

func parseRanges(r io.Reader, name string, uid int) ([]Range, error) {
	var all []Range
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Split(strings.TrimSpace(lines.Text()), ":")
		if len(fields) != 3 || fields[0] == "" || fields[0] != name && fields[0] != strconv.Itoa(uid) {
			continue
		}
		if r, ok := parseRange(fields[1], fields[2]); ok {
			all = append(all, r)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read subordinate ids: %w", err)
	}
	return all, nil
}

// parseGetsubids reads lines such as "0: name 100000 65536".
func parseGetsubids(text string) []Range {
	var all []Range
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) == 4 {
			if r, ok := parseRange(fields[2], fields[3]); ok {
				all = append(all, r)
			}
		}
	}
	return all
}

func parseRange(first, count string) (Range, bool) {
	f, err1 := strconv.ParseInt(first, 10, 64)
	c, err2 := strconv.ParseInt(count, 10, 64)
	if err1 != nil || err2 != nil || f <= 0 || c <= 0 || f+c > 1<<32-1 || c > 1<<32-1 {
		return Range{}, false
	}
	return Range{int(f), int(min(c, Count))}, true
}
