package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dbuild/deb"
	"dbuild/internal/testenv"
)

// TestBuild386 builds for i386 on amd64: only there the 32-bit calls are open,
// and what test suites do works there too.
func TestBuild386(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedNetwork(t)
	if deb.HostArch() != "amd64" {
		t.Skip("i386 programs run on amd64 only")
	}
	dir := filepath.Join(os.Getenv(workRootVar), "i386")
	h := &hostileHost{dir: dir, token: randomHex(t, 8), twins: filepath.Join(dir, "params"), program: buildProgram(t, "dbuild/tests/hostile")}
	var nofile unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &nofile); err != nil {
		t.Fatal(err)
	}
	params := paramText(map[string]string{"token": h.token, "nofile": strconv.FormatUint(nofile.Max, 10)})
	tree := filepath.Join(dir, "tree")
	writeTree(t, tree, map[string]string{
		"debian/rules": strings.Replace(string(tinyFile(t, "debian/rules")), "build build-arch build-indep:\n",
			"build build-arch build-indep:\n\tHOSTILE_STAGE=build ./hostile params run i report\n", 1),
		"hostile": string(h.program), "params": params,
	})
	write(t, h.twins, params)
	for _, name := range []string{"tree/debian/rules", "tree/hostile"} {
		if err := os.Chmod(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "hostile"), h.program, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("dbuild", "build", "--engine", "native", "--state", filepath.Join(dir, "state"), "--no-repo", "--allow-expired",
		"-d", localSuite, "--arch", "i386", "-o", dir, tree)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var lines []string
	for line := range strings.Lines(readText(t, filepath.Join(dir, "tiny_1.0_i386.build"))) {
		lines = append(lines, strings.TrimSpace(line))
	}
	h.judge(t, lines, "i")
}
