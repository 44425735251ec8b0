package tests

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	_ "modernc.org/sqlite"
)

// victim is a state with a base image and a deps image, and a small package
// that needs the latter. Tests damage it behind dbuild's back, and mend it.
type victim struct {
	state, src, out string
	base, deps      imageFiles
	earlier         []byte            // head as it was before there was a deps image
	saved           map[string]string // every file but those of layers → its copy
	artifacts       []string          // name and hash of what the package builds to
}

// imageFiles are the places of one image, below the state.
type imageFiles struct{ statement, record, layer string }

// newVictim makes the state; it takes a base image's time.
func newVictim(t *testing.T) *victim {
	t.Helper()
	dir, err := os.MkdirTemp(os.Getenv(workRootVar), "victim-")
	must(t, err, os.Chmod(dir, 0o711))
	v := &victim{state: filepath.Join(dir, "state"), src: filepath.Join(dir, "src"), out: filepath.Join(dir, "out")}
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	must(t, os.MkdirAll(v.out, 0o755))
	tree := filepath.Join(v.src, "tree")
	unpackTiny(t, tree)
	control := filepath.Join(tree, "debian/control")
	text, err := os.ReadFile(control)
	must(t, err)
	write(t, control, strings.Replace(string(text), "Standards-Version", "Build-Depends: hello\nStandards-Version", 1))
	must(t, packSource(tree, v.src))
	if code, out := v.dbuild(t, "create", "--allow-expired", "-d", "bookworm"); code != 0 {
		t.Fatalf("create: exit code %d: %s", code, out)
	}
	v.earlier, err = os.ReadFile(v.path("images/head"))
	must(t, err)
	r := v.build(t)
	if r.Exit != 0 {
		t.Fatalf("build: %+v", r)
	}
	v.base, v.deps = v.find(t, "base"), v.find(t, "deps")
	r = v.build(t)
	if r.Exit != 0 || !r.Deps.Hit || !slices.Equal(r.Checked, []string{"seal"}) {
		t.Fatalf("build again: %+v", r)
	}
	v.artifacts = r.built()
	v.save(t)
	return v
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func (v *victim) path(name string) string { return filepath.Join(v.state, name) }

// dbuild runs a verb on the state.
func (v *victim) dbuild(t *testing.T, args ...string) (code int, output string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), "dbuild", args...)
	c.Env = append(os.Environ(), "DBUILD_STATE="+v.state, "DBUILD_ENGINE=native")
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), out.String()
}

// execute runs nothing much in a container of the base image.
func (v *victim) execute(t *testing.T) (code int, output string) {
	t.Helper()
	return v.dbuild(t, "execute", "--offline", "--allow-expired", "-q", "-d", "bookworm", "--", "true")
}

// buildResult is what tests read of a result.
type buildResult struct {
	Exit      int
	Class     string
	Status    string
	FailStage string `json:"fail_stage"`
	Base      struct{ Hit bool }
	Deps      struct {
		Hit, Memo bool
		Digest    string
	}
	Checked   []string
	Log       string
	Artifacts []struct{ Name, SHA256 string }
	Error     struct{ Message, Hint string }
	stderr    string
}

// built lists the .debs.
func (o buildResult) built() (all []string) {
	for _, a := range o.Artifacts {
		if strings.HasSuffix(a.Name, ".deb") {
			all = append(all, a.Name+" "+a.SHA256)
		}
	}
	slices.Sort(all)
	return all
}

// build builds the package without the network, if it can.
func (v *victim) build(t *testing.T) (r buildResult) {
	t.Helper()
	args := []string{"build", "--allow-expired", "--no-repo", "--json", "--no-arch-any", "-o", v.out,
		filepath.Join(v.src, "tiny_1.0.dsc")}
	if v.artifacts != nil {
		args = append(args, "--offline")
	}
	c := exec.CommandContext(t.Context(), "dbuild", args...)
	c.Env = append(os.Environ(), "DBUILD_STATE="+v.state, "DBUILD_ENGINE=native")
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	err := c.Run()
	lines := bytes.Split(bytes.TrimSpace(stdout.Bytes()), []byte("\n"))
	if e := json.Unmarshal(lines[len(lines)-1], &r); e != nil {
		t.Fatalf("no result: %v: %v\n%s", err, e, stderr.Bytes())
	}
	r.stderr = stderr.String()
	if code := c.ProcessState.ExitCode(); code != r.Exit {
		t.Errorf("exit code %d, the result says %d", code, r.Exit)
	}
	return r
}

// find asks dbuild where the image of a kind is.
func (v *victim) find(t *testing.T, kind string) imageFiles {
	t.Helper()
	statements, err := filepath.Glob(v.path("images/statements/*.json"))
	must(t, err)
	for _, path := range statements {
		var st struct {
			Kind   string
			Engine struct{ Image string }
		}
		data, err := os.ReadFile(path)
		must(t, err, json.Unmarshal(data, &st))
		if st.Kind == kind {
			id := st.Engine.Image
			return imageFiles{path, v.path("images/records/" + id + ".json"), v.path("images/layers/" + id + "/root")}
		}
	}
	t.Fatalf("no %s image", kind)
	return imageFiles{}
}

// query changes the database.
func (v *victim) query(t *testing.T, text string) {
	t.Helper()
	db, err := sql.Open("sqlite", v.path("dbuild.db"))
	must(t, err)
	_, err = db.ExecContext(t.Context(), text)
	must(t, err, db.Close())
}

// kept says which files are copied: those of layers are mended in place, since
// their inodes are part of what is signed.
func kept(name string, d fs.DirEntry) (bool, error) {
	switch {
	case !d.IsDir():
		return d.Type().IsRegular(), nil
	case name == "images/layers", name == "builds":
		return false, fs.SkipDir
	}
	return false, nil
}

// save copies what mend puts back.
func (v *victim) save(t *testing.T) {
	t.Helper()
	v.saved = map[string]string{}
	to := v.state + ".saved"
	must(t, fs.WalkDir(os.DirFS(v.state), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		ok, err := kept(name, d)
		if !ok {
			return err
		}
		v.saved[name] = filepath.Join(to, name)
		return copyWhole(v.path(name), filepath.Join(to, name))
	}))
}

// copyWhole copies a file with mode and time.
func copyWhole(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, data, 0o600),
		os.Chmod(to, info.Mode().Perm()), os.Chtimes(to, info.ModTime(), info.ModTime()))
}

// mend makes all files but those of layers what they were.
func (v *victim) mend(t *testing.T) {
	t.Helper()
	missing := make(map[string]string, len(v.saved))
	for name, copied := range v.saved {
		missing[name] = copied
	}
	must(t, fs.WalkDir(os.DirFS(v.state), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ok, err := kept(name, d); !ok {
			return err
		}
		copied, ok := v.saved[name]
		if !ok {
			return os.Remove(v.path(name))
		}
		if same(v.path(name), copied) {
			delete(missing, name)
		}
		return nil
	}))
	for name, copied := range missing {
		must(t, copyWhole(copied, v.path(name)))
	}
}

func same(a, b string) bool {
	x, err1 := os.Lstat(a)
	y, err2 := os.Lstat(b)
	return err1 == nil && err2 == nil && x.Mode() == y.Mode() && x.Size() == y.Size() && x.ModTime().Equal(y.ModTime())
}

// watch counts the containers that are made until the returned function is
// called: each has a directory of its own for as long as it lives.
func (v *victim) watch(t *testing.T) (count func() int) {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	must(t, err)
	_, err = unix.InotifyAddWatch(fd, v.path("images/containers"), unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_ONLYDIR)
	must(t, err)
	return func() int {
		defer func() { must(t, unix.Close(fd)) }()
		n, buf := 0, make([]byte, 64<<10)
		size, err := unix.Read(fd, buf)
		if err != nil && !errors.Is(err, unix.EAGAIN) {
			t.Fatal(err)
		}
		for size > 0 {
			length := unix.SizeofInotifyEvent + int(buf[12]) + int(buf[13])<<8 // inotify(7): len, little-endian here
			buf, size, n = buf[length:], size-length, n+1
		}
		return n
	}
}

// undo mends what was done to one file of a layer.
type undo func() error

// edit changes one byte of a file, with size and time of modification kept.
func edit(path string, at int64) (undo, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	return func() error { return flipByte(path, at, info) }, flipByte(path, at, info)
}

func flipByte(path string, at int64, info fs.FileInfo) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	var b [1]byte
	if _, err = f.ReadAt(b[:], at); err == nil {
		b[0] ^= 0x20
		_, err = f.WriteAt(b[:], at)
	}
	return errors.Join(err, f.Close(), os.Chtimes(path, info.ModTime(), info.ModTime()))
}

// exchange gives two files each other's names.
func exchange(a, b string) (undo, error) {
	again := func() error { return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE) }
	return again, again()
}

// move renames a file.
func move(from, to string) (undo, error) {
	return func() error { return os.Rename(to, from) }, os.Rename(from, to)
}

// chmod changes permission bits.
func chmod(path string, bits uint32) (undo, error) {
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		return nil, err
	}
	old := st.Mode & 0o7777
	return func() error { return syscall.Chmod(path, old) }, syscall.Chmod(path, old^bits)
}
