package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dbuild/archive"
)

// lab is the place where everything happens: one directory on a tmpfs, the
// mirror, the source packages.
type lab struct {
	options
	dir     string
	sources []archive.Source
	dsc     map[string]string // source package → path of its .dsc
	undo    []func() error
	serial  int
}

// packages are the source packages that are built; the first is the tiny one.
var packages = []string{"libuuid-tiny-perl", "hello"}

func newLab(ctx context.Context, o options) (_ *lab, err error) {
	dir, err := os.MkdirTemp(o.work, "dbuild-bench-")
	if err != nil {
		return nil, err
	}
	l := &lab{options: o, dir: dir, dsc: map[string]string{}}
	defer func() {
		if err != nil {
			l.close(&err)
		}
	}()
	if err := os.Chmod(dir, 0o755); err != nil { // mapped users pass through
		return nil, err
	}
	if err := checkTmpfs(dir); err != nil {
		return nil, err
	}
	suite, err := archive.FindSuite(o.suite)
	if err != nil {
		return nil, err
	}
	if l.sources, err = suite.Sources(archive.SourceOptions{}); err != nil {
		return nil, err
	}
	for _, d := range []string{"home", "tmp"} {
		if err := os.Mkdir(l.path(d), 0o755); err != nil {
			return nil, err
		}
	}
	return l, l.fetchSources(ctx)
}

// close undoes mounts and deletes the directory, unless it shall be kept.
func (l *lab) close(err *error) {
	for i := len(l.undo) - 1; i >= 0; i-- {
		*err = errors.Join(*err, l.undo[i]())
	}
	if l.keep {
		fmt.Fprintln(os.Stderr, "kept:", l.dir)
		return
	}
	if mounts := mountsBelow(l.dir); len(mounts) > 0 {
		*err = errors.Join(*err, fmt.Errorf("still mounted, so %s stays: %s", l.dir, strings.Join(mounts, " ")))
		return
	}
	*err = errors.Join(*err, os.RemoveAll(l.dir))
}

func (l *lab) path(elem ...string) string { return filepath.Join(append([]string{l.dir}, elem...)...) }

// fresh makes a new directory with a name never used before: a file system that
// has just lost a big tree of that name would be measured otherwise.
func (l *lab) fresh(name string) (string, error) {
	l.serial++
	dir := l.path(fmt.Sprintf("%s.%d", name, l.serial))
	return dir, os.Mkdir(dir, 0o755)
}

// env is what every measured command sees: no settings of the person who runs
// the benchmark, and temporary files on the tmpfs.
func (l *lab) env() []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + l.path("home"), "TMPDIR=" + l.path("tmp"),
		"LC_ALL=C.UTF-8", "USER=root", "LOGNAME=root", "DEBIAN_FRONTEND=noninteractive",
		"SBUILD_CONFIG=" + l.path("sbuild", "config.pl"),
	}
}

// tool runs a command that is not measured.
func (l *lab) tool(ctx context.Context, dir string, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = dir, l.env()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%.200s: %w\n%s", strings.Join(argv, " "), err, lastLines(string(out), 30))
	}
	return nil
}

// sourcesList writes the suites as one-line apt sources of a type (deb, deb-src).
func (l *lab) sourcesList(kind string) string {
	var b strings.Builder
	for _, s := range l.sources {
		fmt.Fprintf(&b, "%s [signed-by=%s] %s %s %s\n", kind, strings.Join(s.Keyrings, ","), s.URL, s.Suite, strings.Join(s.Components, " "))
	}
	return b.String()
}

// aptOptions are apt settings that all peers get.
func (l *lab) aptOptions() []string {
	if l.expired {
		return []string{`Acquire::Check-Valid-Until "false"`}
	}
	return nil
}

// fetchSources downloads the source packages with the host's apt, into lists
// of its own.
func (l *lab) fetchSources(ctx context.Context) error {
	dir, lists := l.path("src"), l.path("apt", "lists")
	for _, d := range []string{dir, filepath.Join(lists, "partial")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	list := l.path("apt", "sources.list")
	if err := os.WriteFile(list, []byte(l.sourcesList("deb-src")), 0o644); err != nil {
		return err
	}
	apt := []string{
		"apt-get", "-qq", "-o", "Dir::Etc::SourceList=" + list, "-o", "Dir::Etc::SourceParts=/dev/null",
		"-o", "Dir::State::Lists=" + lists, "-o", "APT::Sandbox::User=root",
	}
	for _, o := range l.aptOptions() {
		apt = append(apt, "-o", strings.ReplaceAll(strings.Replace(o, " ", "=", 1), `"`, ""))
	}
	if err := l.tool(ctx, dir, append(apt, "update")...); err != nil {
		return err
	}
	for _, name := range packages {
		if err := l.tool(ctx, dir, append(apt, "source", "--download-only", name)...); err != nil {
			return err
		}
		found, err := filepath.Glob(filepath.Join(dir, name+"_*.dsc"))
		if err != nil || len(found) != 1 {
			return fmt.Errorf("find .dsc of %s: %d found", name, len(found))
		}
		l.dsc[name] = found[0]
	}
	return nil
}

// heading says where the numbers come from.
func (l *lab) heading() string {
	var uts unix.Utsname
	_ = unix.Uname(&uts) // decoration
	host := "unknown system"
	if data, err := os.ReadFile("/etc/os-release"); err == nil {
		for line := range strings.Lines(string(data)) {
			if name, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
				host = strings.Trim(strings.TrimSpace(name), `"`)
			}
		}
	}
	return fmt.Sprintf("Measured %s: %s, Linux %s, %d processors, everything on tmpfs, suite %s, %d rounds in turns, medians (all values in brackets).\n",
		time.Now().UTC().Format(time.DateOnly), host, unix.ByteSliceToString(uts.Release[:]), runtime.NumCPU(), l.suite, l.rounds)
}

// checkTmpfs makes sure that a directory lies where the labels say.
func checkTmpfs(dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("look at %s: %w", dir, err)
	}
	if fs.Type != unix.TMPFS_MAGIC {
		return fmt.Errorf("%s is not on a tmpfs", dir)
	}
	return nil
}

// mountsBelow lists the mount points below dir.
func mountsBelow(dir string) (found []string) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return []string{err.Error()}
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			found = append(found, f[4])
		}
	}
	return found
}
