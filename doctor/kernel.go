package doctor

import (
	"bufio"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// debianKernel has everything.
const debianKernel = "sudo apt install linux-image-$(dpkg --print-architecture), then boot it"

// privilegedRun is what helps inside a container that may do too little.
const privilegedRun = "docker run --privileged …, or set DOCKER_HOST to a daemon outside"

func checkContainer(f Facts) Finding {
	switch {
	case f.Container == "":
		return Finding{Status: OK, Text: "not inside another container"}
	case f.UID == 0 && f.Caps&(1<<unix.CAP_SYS_ADMIN) == 0:
		return Finding{Status: Fail, Text: "inside " + f.Container + " without CAP_SYS_ADMIN: nothing can be mounted", Mend: privilegedRun}
	}
	return Finding{Status: OK, Text: "inside " + f.Container + ", with what it takes to mount"}
}

func checkUserNamespaces(f Facts) Finding {
	if f.UserNS == nil {
		return Finding{Status: OK, Text: "can be made"}
	}
	for _, name := range Sysctls[:4] {
		if f.Sysctls[name] == "0" {
			return Finding{Status: Fail, Text: name + " is 0", Mend: sysctl(name, "10000")}
		}
	}
	for _, c := range []struct{ name, bad, good, why string }{
		{"kernel.unprivileged_userns_clone", "0", "1", "the kernel leaves them to root"},
		{"kernel.apparmor_restrict_unprivileged_userns", "1", "0", "AppArmor takes their capabilities away from programs without a profile"},
	} {
		if f.UID != 0 && f.Sysctls[c.name] == c.bad {
			return Finding{Status: Fail, Text: c.why, Mend: sysctl(c.name, c.good)}
		}
	}
	text := fmt.Sprintf("cannot be made: %v", f.UserNS)
	if f.Container != "" {
		return Finding{Status: Fail, Text: text + ", inside " + f.Container, Mend: privilegedRun}
	}
	return Finding{Status: Fail, Text: text, Mend: "dbuild --engine docker …"}
}

func sysctl(name, value string) string { return "sudo sysctl -w " + name + "=" + value }

// idCount is how many ids a container has.
const idCount = 65536

func checkSubordinateIDs(f Facts) Finding {
	if f.UID == 0 {
		return Finding{Status: OK, Text: "not needed by root"}
	}
	counts := map[string]int{}
	for file, text := range f.Subordinate {
		counts[file] = largest(text, f.User, f.UID)
	}
	uids, gids := counts["/etc/subuid"], counts["/etc/subgid"]
	if uids >= idCount && gids >= idCount {
		return Finding{Status: OK, Text: fmt.Sprintf("%d users, %d groups", uids, gids)}
	}
	text := fmt.Sprintf("%s has %d user and %d group ids, %d of each are needed", f.User, uids, gids, idCount)
	at := f.free()
	mend := fmt.Sprintf("sudo usermod --add-subuids %[1]d-%[2]d --add-subgids %[1]d-%[2]d %[3]s", at, at+idCount-1, f.User)
	return Finding{Status: Fail, Text: text, Mend: mend}
}

// each calls fn with the ranges of a subuid(5) file.
func each(text string, fn func(name string, first, count int)) {
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		fields := strings.Split(strings.TrimSpace(lines.Text()), ":")
		if len(fields) != 3 {
			continue
		}
		first, err1 := strconv.Atoi(fields[1])
		count, err2 := strconv.Atoi(fields[2])
		if err1 == nil && err2 == nil {
			fn(fields[0], first, count)
		}
	}
}

// largest is the length of the user's largest range.
func largest(text, user string, uid int) (n int) {
	each(text, func(name string, _, count int) {
		if name == user || name == strconv.Itoa(uid) {
			n = max(n, count)
		}
	})
	return n
}

// free is where no range of both files lies yet.
func (f Facts) free() int {
	at := 100000
	for _, text := range f.Subordinate {
		each(text, func(_ string, first, count int) { at = max(at, first+count) })
	}
	return at
}

func checkIDMapPrograms(f Facts) Finding {
	if f.UID == 0 {
		return Finding{Status: OK, Text: "not needed by root"}
	}
	for _, name := range []string{"newuidmap", "newgidmap"} {
		switch able, ok := f.Programs[name]; {
		case !ok:
			return Finding{Status: Fail, Text: name + " is not installed", Mend: "sudo apt install uidmap"}
		case !able:
			return Finding{Status: Fail, Text: name + " is neither set-uid nor has capabilities", Mend: "sudo apt install --reinstall uidmap"}
		}
	}
	return Finding{Status: OK, Text: "newuidmap, newgidmap"}
}

// The first kernel with what the native engine needs: mount_setattr(2), and
// overlayfs in a user namespace before it.
const kernelMajor, kernelMinor = 5, 12

func checkOverlay(f Facts) Finding {
	var major, minor int
	if n, _ := fmt.Sscanf(f.Kernel, "%d.%d", &major, &minor); n == 2 && (major < kernelMajor || major == kernelMajor && minor < kernelMinor) {
		text := fmt.Sprintf("Linux %s; in a user namespace it needs %d.%d", f.Kernel, kernelMajor, kernelMinor)
		return Finding{Status: Fail, Text: text, Mend: "dbuild --engine docker …"}
	}
	if !slices.Contains(strings.Fields(f.Filesystems), "overlay") {
		return Finding{Status: Fail, Text: "overlayfs is not loaded", Mend: "sudo modprobe overlay"}
	}
	return Finding{Status: OK, Text: "Linux " + f.Kernel + " has it in user namespaces"}
}

func checkSeccomp(f Facts) Finding {
	if !slices.Contains(strings.Fields(f.Sysctls["kernel.seccomp.actions_avail"]), "errno") {
		return Finding{Status: Fail, Text: "this kernel has no seccomp filters", Mend: debianKernel}
	}
	return Finding{Status: OK, Text: "filters"}
}

func checkCgroups(f Facts) Finding {
	unified, legacy := false, false
	for lines := bufio.NewScanner(strings.NewReader(f.Cgroup)); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "0::") {
			unified = true
		} else if fields := strings.SplitN(lines.Text(), ":", 3); len(fields) == 3 && (fields[1] == "pids" || fields[1] == "memory") {
			legacy = true
		}
	}
	version := "v2"
	switch {
	case !unified && f.Cgroup == "":
		return Finding{Status: Note, Text: "this kernel has none: pids and memory of a build are not bounded", Mend: debianKernel}
	case unified && legacy:
		version = "v1 and v2"
	case legacy:
		version = "v1"
	}
	trial, tried := f.Trials[Native]
	if !tried || trial.Err != nil {
		return Finding{Status: OK, Text: version}
	}
	var missing []string
	for _, limit := range []string{"pids", "memory"} {
		if !slices.Contains(trial.Limits, limit) {
			missing = append(missing, limit)
		}
	}
	if len(missing) == 0 {
		return Finding{Status: OK, Text: version + ": pids and memory of a build can be bounded"}
	}
	text := version + ", not delegated: " + strings.Join(missing, " and ") + " of a build cannot be bounded"
	mend := "systemd-run --user --scope -p Delegate=yes dbuild …"
	if f.UID == 0 {
		mend = "systemd-run --scope -p Delegate=yes dbuild …"
	}
	if legacy && f.UID != 0 {
		mend = "boot with systemd.unified_cgroup_hierarchy=1"
	}
	return Finding{Status: Note, Text: text, Mend: mend}
}

// effectiveCaps reads CapEff of a /proc/PID/status.
func effectiveCaps(status string) uint64 {
	for line := range strings.Lines(status) {
		if value, ok := strings.CutPrefix(line, "CapEff:"); ok {
			n, _ := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			return n
		}
	}
	return 0
}
