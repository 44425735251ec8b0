package tests

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/sys/unix"

	"dbuild/deb"
)

// hostileHost is what the test puts up on the host for packages to find, and
// to see whether they found it.
type hostileHost struct {
	dir      string
	token    string
	dbuild   string // a copy that everybody may run
	program  []byte // the probes
	params   string // what they are told, in containers
	twins    string // file with what their twins are told
	mirror   *mirror
	contacts atomic.Int64 // how often somebody has sent something to a socket of ours
	absent   map[string]bool
	sleeper  string // as in hostileRun, of the dependency's postinst
	canary   string
}

// secretEnvironment is what the caller's environment holds. Nothing of it may
// be seen in a container.
var secretEnvironment = []string{"SECRET=do-not-tell", "SSH_AUTH_SOCK=/tmp/agent", "DISPLAY=:0", "GNUPGHOME=/tmp/gnupg"}

func newHostileHost(t *testing.T) *hostileHost {
	h := &hostileHost{dir: filepath.Join(os.Getenv(workRootVar), "hostile"), absent: map[string]bool{}}
	h.token = randomHex(t, 8)
	h.sleeper = h.newSleeper()
	tmp := filepath.Join(h.dir, "twins")
	for _, d := range []string{h.dir, tmp} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.program = buildProgram(t, "dbuild/tests/hostile")
	bin := filepath.Join(h.dir, "bin")
	h.dbuild = filepath.Join(bin, "dbuild")
	if err := errors.Join(os.Mkdir(bin, 0o755), copyProgram(h.dbuild)); err != nil {
		t.Fatal(err)
	}
	h.canary = filepath.Join(h.dir, "canary")
	write(t, h.canary, "canary "+h.token+"\n")
	if err := os.Chmod(h.canary, 0o666); err != nil {
		t.Fatal(err)
	}
	common := map[string]string{
		"token": h.token, "canary": h.canary, "decoy": h.canary, "state": h.dir, "disk": readableDisk(t), "marker": "dbuild-marker-" + h.token,
	}
	var nofile unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &nofile); err != nil {
		t.Fatal(err)
	}
	common["nofile"] = strconv.FormatUint(nofile.Max, 10)
	h.listen(t, common)
	h.plantProcess(t, common)
	h.plantMemory(t, common)
	inside := map[string]string{"suid": planted + "/suid-probe", "filecap": planted + "/bin/filecap-probe"}
	h.params = paramText(common, inside)
	outside := map[string]string{
		"twin": "1", "suid": filepath.Join(tmp, "suid-probe"), "filecap": filepath.Join(tmp, "filecap", "suid-probe"),
		"programs": filepath.Join(tmp, "program"), "inputs": tmp,
	}
	h.twins = filepath.Join(tmp, "params")
	write(t, h.twins, paramText(common, outside))
	if err := os.WriteFile(filepath.Join(tmp, "hostile"), h.program, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, outside["programs"], "program")
	h.plantPrograms(t, outside)
	var err error
	if h.mirror, err = startMirror(t, h.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.mirror.server.Close)
	addHostilePackage(h.mirror, h.params, h.sleeper, h.program)
	t.Cleanup(func() {
		for _, left := range sleepers(t, h.sleeper) {
			t.Errorf("left behind by a postinst: %s", left)
		}
	})
	return h
}

func paramText(maps ...map[string]string) string {
	var b strings.Builder
	for _, m := range maps {
		for k, v := range m {
			fmt.Fprintf(&b, "%s=%s\n", k, v)
		}
	}
	return b.String()
}

// newSleeper returns a time to sleep that no other process has.
func (h *hostileHost) newSleeper() string {
	n, err := rand.Int(rand.Reader, big.NewInt(1e12))
	if err != nil {
		panic(err)
	}
	return "1" + n.String()
}

func randomHex(t *testing.T, n int) string {
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b)
}

// buildProgram builds a static program.
func buildProgram(t *testing.T, pkg string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "program")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, text)
	}
	return []byte(readText(t, out))
}

// listen puts up servers on every address of the host, on an abstract and on an
// open Unix socket. They count who comes, and answer.
func (h *hostileHost) listen(t *testing.T, params map[string]string) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	serve := func(network, address string) string {
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for c, err := l.Accept(); err == nil; c, err = l.Accept() {
				go h.answer(c)
			}
		}()
		return l.Addr().String()
	}
	for _, a := range addresses {
		ip, ok := a.(*net.IPNet)
		if !ok || ip.IP.IsLinkLocalUnicast() {
			continue
		}
		host := net.JoinHostPort(ip.IP.String(), "0")
		params["tcp"] += serve("tcp", host) + " "
		c, err := net.ListenPacket("udp", host)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		params["udp"] += c.LocalAddr().String() + " "
		go func() {
			b := make([]byte, 100)
			for n, from, err := c.ReadFrom(b); err == nil; n, from, err = c.ReadFrom(b) {
				h.contacts.Add(1)
				_, _ = c.WriteTo(b[:n], from)
			}
		}()
	}
	params["abstract"] = serve("unix", "@dbuild-hostile-"+h.token)
	params["socket"] = serve("unix", filepath.Join(h.dir, "socket"))
	if err := os.Chmod(params["socket"], 0o777); err != nil {
		t.Fatal(err)
	}
}

func (h *hostileHost) answer(c net.Conn) {
	defer c.Close()
	b := make([]byte, 100)
	if n, _ := c.Read(b); bytes.Contains(b[:n], []byte(h.token)) {
		h.contacts.Add(1)
		_, _ = c.Write(b[:n])
	}
}

// plantProcess starts a process of the host to look for.
func (h *hostileHost) plantProcess(t *testing.T, params map[string]string) {
	cmd := exec.Command("sh", "-c", "sleep 3600; :", params["marker"])
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	params["pid"] = strconv.Itoa(cmd.Process.Pid)
	t.Cleanup(func() {
		// It must have lived until now, untouched.
		var status unix.WaitStatus
		if pid, err := unix.Wait4(cmd.Process.Pid, &status, unix.WNOHANG, nil); err != nil || pid != 0 {
			t.Errorf("the host's process has ended: %v, %v", status, err)
			return
		}
		children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid))
		for _, f := range strings.Fields(string(children)) {
			if pid, err := strconv.Atoi(f); err == nil {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// plantMemory makes shared memory that anyone on the host may use.
func (h *hostileHost) plantMemory(t *testing.T, params map[string]string) {
	id, err := unix.SysvShmGet(unix.IPC_PRIVATE, 4096, unix.IPC_CREAT|0o666)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil) })
	params["shmid"], params["shm"] = strconv.Itoa(id), "dbuild-hostile-"+h.token
	file := filepath.Join("/dev/shm", params["shm"])
	if err := os.WriteFile(file, []byte(h.token), 0o666); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(file) })
}

// plantPrograms makes the set-id and the capable program of the twins.
func (h *hostileHost) plantPrograms(t *testing.T, params map[string]string) {
	for _, file := range []string{params["suid"], params["filecap"]} {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, h.program, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	capability := []byte{1, 0, 0, 2, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0} // cap_sys_admin=ep
	if err := unix.Setxattr(params["filecap"], "security.capability", capability, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.Chmod(params["suid"], 0o4755); err != nil {
		t.Fatal(err)
	}
}

// readableDisk returns the number of a disk that the host's root can read, or
// "" where even root may not.
func readableDisk(t *testing.T) string {
	data, err := os.ReadFile("/proc/partitions")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) != 4 || fields[0] == "major" {
			continue
		}
		major, _ := strconv.Atoi(fields[0])
		minor, _ := strconv.Atoi(fields[1])
		node := filepath.Join(dir, fields[3])
		if unix.Mknod(node, unix.S_IFBLK|0o600, int(unix.Mkdev(uint32(major), uint32(minor)))) != nil {
			continue
		}
		if f, err := os.Open(node); err == nil {
			f.Close()
			return fields[0] + ":" + fields[1]
		}
	}
	return ""
}

// testTwins makes every attempt where nothing is in its way. One that does not
// succeed there would prove nothing.
func (h *hostileHost) testTwins(t *testing.T) {
	dir := filepath.Dir(h.twins)
	program := filepath.Join(dir, "hostile")
	root, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	cmd := exec.Command(program, h.twins, "twin", "all")
	cmd.Dir, cmd.ExtraFiles = dir, []*os.File{root}
	cmd.Env = append(append(os.Environ(), "TMPDIR="+dir), secretEnvironment...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	verdicts := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if name, verdict, ok := h.parse(strings.TrimSpace(line), "twin"); ok {
			verdicts[name] = verdict
		}
	}
	escaped := 0
	for _, name := range h.list(t, "twin") {
		verdict, _, _ := strings.Cut(verdicts[name], " ")
		switch verdict {
		case "ESCAPED":
			escaped++
		case "absent":
			h.absent[name] = true
			t.Logf("%s: %s", name, verdicts[name])
		default:
			t.Errorf("%s does not succeed outside, so it proves nothing: %s", name, verdicts[name])
		}
	}
	t.Logf("%d attempts succeed outside, %d are about what this kernel does not have", escaped, len(h.absent))
	if len(h.absent) > escaped/4 {
		t.Errorf("%d of %d attempts prove nothing here", len(h.absent), escaped+len(h.absent))
	}
	if h.contacts.Load() == 0 {
		t.Error("nobody has reached the host's sockets, so their silence proves nothing")
	}
	calls, err := exec.Command(program, h.twins, "calls", "twin").CombinedOutput()
	if reached := strings.Count(string(calls), " reached "); err != nil || reached < 25 {
		t.Errorf("unconfined, %d of the calls reach the kernel (%v):\n%s", reached, err, calls)
	}
}

// list names the probes of a stage.
func (h *hostileHost) list(t *testing.T, stage string) []string {
	t.Helper()
	out, err := exec.Command(filepath.Join(filepath.Dir(h.twins), "hostile"), h.twins, "list", stage).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.Fields(string(out))
}

// parse reads a line of a report.
func (h *hostileHost) parse(line, stage string) (name, verdict string, ok bool) {
	rest, ok := strings.CutPrefix(line, "HOSTILE "+h.token+" "+stage+" ")
	if !ok {
		return "", "", false
	}
	name, verdict, ok = strings.Cut(rest, " ")
	return name, verdict, ok
}

// judge holds a report against what must be in it: each probe of each stage
// once, no attempt that succeeded, no legitimate use that failed.
func (h *hostileHost) judge(t *testing.T, lines []string, stages ...string) {
	t.Helper()
	for _, stage := range stages {
		seen, counts := map[string]string{}, map[string]int{}
		for _, line := range lines {
			name, verdict, ok := h.parse(line, stage)
			if !ok {
				continue
			}
			if seen[name] != "" {
				t.Errorf("stage %s: %s is there twice", stage, name)
			}
			seen[name] = verdict
		}
		for _, name := range h.list(t, stage) {
			word, _, _ := strings.Cut(seen[name], " ")
			counts[word]++
			switch word {
			case "held", "works", "absent":
			case "":
				t.Errorf("stage %s: %s did not run", stage, name)
			default:
				t.Errorf("stage %s: %s: %s", stage, name, seen[name])
			}
		}
		t.Logf("stage %s: %d attempts held, %d were about what is not there, %d legitimate uses work", stage, counts["held"], counts["absent"], counts["works"])
	}
}

// judgeCalls prints the table of the system call probe and fails when more than
// most calls have reached the kernel.
func (h *hostileHost) judgeCalls(t *testing.T, lines []string, most int, stages ...string) {
	t.Helper()
	for _, stage := range stages {
		var table []string
		reached := 0
		for _, line := range lines {
			if rest, ok := strings.CutPrefix(line, "CALL "+h.token+" "+stage+" "); ok {
				table = append(table, rest)
				if strings.Contains(rest, " reached ") {
					reached++
				}
			}
		}
		want := 34
		if deb.HostArch() == "amd64" {
			want = 35
		}
		if len(table) != want || reached > most {
			t.Errorf("stage %s: %d of %d calls reached the kernel, at most %d of %d may", stage, reached, len(table), most, want)
		}
		t.Logf("stage %s: %d of %d calls reached the kernel:\n%s", stage, reached, len(table), strings.Join(table, "\n"))
	}
}

// look notes what packages must not change on the host.
func (h *hostileHost) look(t *testing.T) map[string]string {
	t.Helper()
	seen := map[string]string{
		"canary": readText(t, h.canary), "contacts": strconv.FormatInt(h.contacts.Load(), 10),
		"shared memory": hashTree(t, "/dev/shm/dbuild-hostile-"+h.token),
	}
	for _, file := range []string{
		"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/vm/overcommit_memory", "/etc/hosts", "/etc/resolv.conf", "/etc/passwd",
	} {
		data, err := os.ReadFile(file)
		seen[file] = fmt.Sprint(string(data), err)
	}
	var names []string
	for _, e := range mustReadDir(t, h.dir) {
		names = append(names, e.Name())
	}
	seen["directory"] = strings.Join(names, " ")
	return seen
}

// compare fails when something has changed since before.
func (h *hostileHost) compare(t *testing.T, before map[string]string) {
	t.Helper()
	for what, now := range h.look(t) {
		if now != before[what] && !(what == "directory" && slices.Contains(strings.Fields(now), "state")) {
			t.Errorf("%s was %q, is now %q", what, before[what], now)
		}
	}
}

// hashTree is a sum of all names and contents below a directory, or of a file.
func hashTree(t *testing.T, dir string) string {
	t.Helper()
	sum := sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintln(sum, path, info.Mode())
		if !d.Type().IsRegular() {
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(sum, f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// writeTree writes the package tiny with files of its own.
func writeTree(t *testing.T, tree string, files map[string]string) {
	t.Helper()
	unpackTiny(t, tree)
	for name, text := range files {
		write(t, filepath.Join(tree, name), text)
	}
}

// tinyFile is a file of the package tiny.
func tinyFile(t *testing.T, name string) []byte {
	t.Helper()
	source, err := txtar.ParseFile("testdata/source/tiny.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range source.Files {
		if f.Name == name {
			return f.Data
		}
	}
	t.Fatalf("tiny has no %s", name)
	return nil
}

func readText(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func mustReadDir(t *testing.T, dir string) []fs.DirEntry {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}
