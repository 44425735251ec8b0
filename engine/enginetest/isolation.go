package enginetest

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dbuild/engine"
)

func testIsolation(t *testing.T, s *suite) {
	t.Run("identity", s.testIdentity)
	t.Run("privileges", s.testPrivileges)
	t.Run("system calls", s.testSystemCalls)
	t.Run("network", s.testNetwork)
	t.Run("devices", s.testDevices)
	t.Run("kernel files", s.testKernelFiles)
	t.Run("descriptors", s.testDescriptors)
	t.Run("agent", s.testAgent)
	t.Run("writable places", s.testWritable)
	t.Run("trees", s.testTrees)
	t.Run("hostile mount points", s.testHostileMountPoints)
}

func (s *suite) testIdentity(t *testing.T) {
	c := s.container(t, s.spec(engine.PurposeBuild))
	for _, x := range []struct {
		user engine.User
		want string
	}{{builder, "1000 1000 1000 [] testhost\n"}, {engine.Root, "0 0 0 [] testhost\n"}, {engine.User{UID: 65534, GID: 4}, "65534 65534 4 [] testhost\n"}} {
		if got, _ := output(t, c, x.user, "identity"); got != x.want {
			t.Errorf("user %+v: %q, want %q", x.user, got, x.want)
		}
	}
	if _, err := c.Run(t.Context(), engine.Step{Argv: tool("true"), User: engine.User{UID: 1 << 20}}); err == nil {
		t.Error("a user outside the map ran")
	}
	if got := must(t, c, "read", "/etc/hosts"); !strings.Contains(got, "127.0.0.1\tlocalhost testhost") || !strings.Contains(got, "::1\tlocalhost") {
		t.Errorf("/etc/hosts:\n%s", got)
	}
	if got := must(t, c, "read", "/etc/resolv.conf") + must(t, c, "read", "/etc/hostname"); got != "testhost\n" {
		t.Errorf("/etc/resolv.conf and /etc/hostname: %q", got)
	}
}

// testPrivileges: a build has none, and no way to get some.
func (s *suite) testPrivileges(t *testing.T) {
	keys := []string{"status", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Groups"}
	const none = "0000000000000000\n"
	build := s.container(t, s.spec(engine.PurposeBuild))
	want := "Groups \nCapInh " + none + "CapPrm " + none + "CapEff " + none + "CapBnd " + none + "CapAmb " + none + "NoNewPrivs 1\nSeccomp 2\n"
	for _, user := range []engine.User{builder, engine.Root} {
		if got, _ := output(t, build, user, keys...); got != want {
			t.Errorf("build, user %d:\n%s", user.UID, got)
		}
	}
	deps := s.container(t, s.spec(engine.PurposeDeps))
	got := must(t, deps, keys...)
	if !strings.Contains(got, "CapAmb "+none) || !strings.Contains(got, "CapInh "+none) || strings.Contains(got, "CapEff "+none) || !strings.Contains(got, "Seccomp 2") {
		t.Errorf("deps:\n%s", got)
	}
	if out, _ := output(t, deps, builder, "status", "CapEff"); out != "CapEff "+none {
		t.Errorf("user in deps has %s", out)
	}
	// A set-id program of a build gains nothing.
	c := s.container(t, s.spec(engine.PurposeDeps))
	data := must(t, c, "read", ToolPath)
	put := pack(file{Header: setID("odd/root-tool"), content: data})
	d := s.container(t, s.spec(engine.PurposeBuild))
	if _, err := d.PutFiles(t.Context(), strings.NewReader(string(put)), engine.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if out, _ := output(t, d, builder, "exec", "/odd/root-tool", "identity"); out != "1000 1000 1000 [] testhost\n" {
		t.Errorf("set-id program runs as %q", out)
	}
}

// testSystemCalls is the probe of which at most two calls may reach the
// kernel: both work on the caller's own children only.
func (s *suite) testSystemCalls(t *testing.T) {
	for _, x := range []struct {
		purpose engine.Purpose
		user    engine.User
	}{{engine.PurposeBuild, builder}, {engine.PurposeBuild, engine.Root}, {engine.PurposeDeps, engine.Root}} {
		c := s.container(t, s.spec(x.purpose))
		out, exit := output(t, c, x.user, "probe")
		if !exit.OK() || strings.Count(out, "\n") < 30 {
			t.Fatalf("the probe did not run: %+v\n%s", exit, out)
		}
		for line := range strings.Lines(out) {
			name, rest, _ := strings.Cut(line, " ")
			if strings.HasPrefix(rest, "reached") && name != "ptrace" && name != "process_vm_readv" {
				t.Errorf("%s, user %d: %s", x.purpose, x.user.UID, line)
			}
		}
		if out, _ := output(t, c, x.user, "socket", "38", "40", "1"); out != "38 operation not permitted\n40 operation not permitted\n1 <nil>\n" {
			t.Errorf("sockets AF_ALG, AF_VSOCK and AF_UNIX: %q", out)
		}
		if out, _ := output(t, c, x.user, "clone-user"); out != "refused\n" {
			t.Errorf("a user namespace is %q", out)
		}
	}
	for purpose, want := range map[engine.Purpose]string{engine.PurposeDeps: "true\n", engine.PurposeBuild: "false\n"} {
		if got := must(t, s.container(t, s.spec(purpose)), "swallowed"); got != want {
			t.Errorf("%s: fsync swallowed: %q", purpose, got)
		}
	}
	if out, _ := output(t, s.container(t, s.spec(engine.PurposeDeps)), engine.Root, "chroot"); out != "own root true\n" {
		t.Errorf("escape by chroot: %q", out)
	}
}

func (s *suite) testNetwork(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	abstract, err := net.Listen("unix", "@dbuild-enginetest-"+filepath.Base(t.TempDir())+t.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer abstract.Close()
	c := s.container(t, s.spec(engine.PurposeBuild))
	out, exit := output(t, c, builder, "net")
	if !exit.OK() || !strings.HasPrefix(out, "lo true [127.0.0.1/8 ::1/128]\n") || strings.Count(out, "\n") != 4 {
		t.Errorf("network none: %+v\n%s", exit, out)
	}
	for _, x := range [][2]string{{"tcp", l.Addr().String()}, {"tcp", "192.0.2.1:80"}, {"tcp", "[2001:db8::1]:80"}, {"udp", "192.0.2.1:53"}, {"unix", abstract.Addr().String()}} {
		if out, _ := output(t, c, builder, "dial", x[0], x[1]); out != "failed true\n" {
			t.Errorf("%s to %s: %q, want a failure at once", x[0], x[1], out)
		}
	}
	spec := s.spec(engine.PurposeBuild)
	spec.Network = engine.NetworkHost
	host := s.container(t, spec)
	if out, _ := output(t, host, builder, "dial", "tcp", l.Addr().String()); out != "connected\n" {
		t.Errorf("network host: %q", out)
	}
	if got, err := os.ReadFile("/etc/resolv.conf"); err == nil {
		if out := must(t, host, "read", "/etc/resolv.conf"); out != string(got) {
			t.Errorf("/etc/resolv.conf is %q", out)
		}
	}
}

func (s *suite) testDevices(t *testing.T) {
	c := s.container(t, s.spec(engine.PurposeBuild))
	out := must(t, c, "ls", "/dev")
	allowed := " /dev /dev/fd /dev/full /dev/mqueue /dev/null /dev/ptmx /dev/pts /dev/pts/ptmx /dev/random /dev/shm /dev/stderr /dev/stdin /dev/stdout /dev/tty /dev/urandom /dev/zero /dev/console /dev/core "
	for line := range strings.Lines(out) {
		_, name, _ := strings.Cut(line, `"`)
		name, _, _ = strings.Cut(name, `"`)
		if !strings.Contains(allowed, " "+name+" ") {
			t.Errorf("unexpected device %q", name)
		}
	}
	if got, _ := output(t, c, builder, "access", "/dev/null", "/dev/zero", "/dev/urandom"); strings.Contains(got, "write=no") {
		t.Errorf("devices: %s", got)
	}
	if got := must(t, c, "stat", "/dev/shm"); !strings.HasPrefix(got, "041777") {
		t.Errorf("/dev/shm: %s", got)
	}
}

// testKernelFiles: what tells about the host or steers it is hidden or closed.
func (s *suite) testKernelFiles(t *testing.T) {
	for _, purpose := range []engine.Purpose{engine.PurposeBuild, engine.PurposeDeps} {
		c := s.container(t, s.spec(purpose))
		for _, path := range []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts", "/proc/sched_debug", "/proc/kallsyms"} {
			if out, _ := output(t, c, engine.Root, "access", path); strings.Contains(out, "read=yes") {
				t.Errorf("%s: %s", purpose, out)
			}
		}
		for _, path := range []string{
			"/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches", "/proc/sys/kernel/hostname",
			"/sys/kernel/mm/transparent_hugepage/enabled", "/sys/power/state",
		} {
			if out, _ := output(t, c, engine.Root, "access", path); strings.Contains(out, "write=yes") {
				t.Errorf("%s: %s", purpose, out)
			}
		}
		// The null device covers it, so opening for writing works.
		if _, err := os.Stat("/proc/sysrq-trigger"); err == nil {
			if out := must(t, c, "stat", "/proc/sysrq-trigger"); !strings.HasPrefix(out, "020666") {
				t.Errorf("%s: %s", purpose, out)
			}
		}
	}
}

func (s *suite) testDescriptors(t *testing.T) {
	for _, purpose := range []engine.Purpose{engine.PurposeBuild, engine.PurposeDeps} {
		c := s.container(t, s.spec(purpose))
		out := must(t, c, "fds")
		lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(out), "\n"), func(line string) bool {
			return strings.Contains(line, " /sys/fs/cgroup/") // the tool's own Go runtime, where it sees a CPU limit
		})
		if len(lines) != 3 || lines[0] != "0 /dev/null" || !strings.HasPrefix(lines[1], "1 pipe:") || !strings.HasPrefix(lines[2], "2 pipe:") {
			t.Errorf("%s: descriptors\n%s", purpose, out)
		}
	}
}

// testAgent: no step can look into the first process, or end it.
func (s *suite) testAgent(t *testing.T) {
	for _, x := range []struct {
		purpose engine.Purpose
		user    engine.User
	}{{engine.PurposeBuild, builder}, {engine.PurposeBuild, engine.Root}, {engine.PurposeDeps, engine.Root}, {engine.PurposeShell, engine.Root}} {
		c := s.container(t, s.spec(x.purpose))
		if out, exit := output(t, c, x.user, "escape"); out != "" || !exit.OK() {
			t.Errorf("%s, user %d: %+v\n%s", x.purpose, x.user.UID, exit, out)
		}
		if out, _ := output(t, c, x.user, "signal-one"); out != "sent\n" {
			t.Errorf("%s: %q", x.purpose, out)
		}
		if out, exit := output(t, c, x.user, "echo", "alive"); out != "alive\n" || !exit.OK() {
			t.Errorf("%s: after signals %q, %+v", x.purpose, out, exit)
		}
	}
}

func (s *suite) testWritable(t *testing.T) {
	c := s.container(t, s.spec(engine.PurposeBuild))
	for _, d := range []string{"/tmp", "/var/tmp", "/run/lock", "/dev/shm"} {
		if out, exit := output(t, c, builder, "write", d+"/x", "x"); !exit.OK() {
			t.Errorf("%s: %s", d, out)
		}
	}
	for _, path := range []string{"/x", "/etc/x", "/run/x", "/home/x", ToolPath, "/etc/hosts"} {
		if _, exit := output(t, c, builder, "write", path, "x"); exit.OK() {
			t.Errorf("a build wrote %s", path)
		}
	}
}

func (s *suite) testTrees(t *testing.T) {
	host := t.TempDir()
	if err := os.WriteFile(filepath.Join(host, "file"), []byte("from the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	a, err := s.Tree(t.Context(), "archive", host)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := s.Tree(t.Context(), "archive", host); err != nil || a != b {
		t.Errorf("again: %q (%v), first %q", b, err, a)
	}
	if _, err := s.Tree(t.Context(), "none", filepath.Join(host, "missing")); err == nil {
		t.Error("a missing directory became a tree")
	}
	for _, purpose := range []engine.Purpose{engine.PurposeBuild, engine.PurposeDeps} {
		spec := s.spec(purpose)
		spec.Trees = []engine.Mount{{Tree: a, Target: "/run/dbuild/archive"}, {Tree: a, Target: "/home"}}
		c := s.container(t, spec)
		for _, d := range []string{"/run/dbuild/archive", "/home"} {
			if got := must(t, c, "read", d+"/file"); got != "from the host" {
				t.Errorf("%s: %q", d, got)
			}
			for _, args := range [][]string{{"write", d + "/file", "x"}, {"write", d + "/new", "x"}, {"rm", d + "/file"}, {"chmod", "777", d}} {
				if _, exit := output(t, c, engine.Root, args...); exit.OK() {
					t.Errorf("%s: %q succeeded", purpose, args)
				}
			}
		}
	}
	if b, err := os.ReadFile(filepath.Join(host, "file")); err != nil || string(b) != "from the host" {
		t.Errorf("the host's file is %q (%v)", b, err)
	}
	spec := s.spec(engine.PurposeBuild)
	spec.Trees = []engine.Mount{{Tree: a, Target: "/missing"}}
	if c, err := s.Create(t.Context(), spec); err == nil {
		t.Errorf("mount on a missing directory succeeded (%v)", c.Close(t.Context()))
	}
}

// testHostileMountPoints: an image in which the engine's mount points are
// symlinks is refused, and nothing is touched where they lead.
func (s *suite) testHostileMountPoints(t *testing.T) {
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.Mkdir(victim, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"dev", "proc", "sys", "run", "tmp", "etc"} {
		t.Run(name, func(t *testing.T) {
			root := pack(dir("."), dir("bin"), symlink(name, victim))
			im, err := s.Import(t.Context(), strings.NewReader(string(root)), engine.Config{})
			if err != nil {
				return // refused at once is as good
			}
			spec := s.spec(engine.PurposeBuild)
			spec.Image = im.ID
			if c, err := s.Create(t.Context(), spec); err == nil {
				t.Errorf("create succeeded (%v)", c.Close(t.Context()))
			}
			if entries, err := os.ReadDir(victim); err != nil || len(entries) != 0 {
				t.Errorf("the directory behind the link holds %v (%v)", entries, err)
			}
		})
	}
}
