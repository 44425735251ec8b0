// Package enginetest holds the suite that every engine passes. An engine's own
// test calls [Run] in a few lines; the suite builds a small static program,
// imports it as the only file of a root file system and asks, from inside and
// from outside, whether the contract of package engine is kept.
//
// An engine without real processes (see package fake) calls [RunStore], the
// part that looks only at images and files.
package enginetest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"dbuild/engine"
)

// ToolPath is where the suite's program lies in its root file system.
const ToolPath = "/bin/tool"

// Run runs the whole suite. open is called once for each group of tests; it
// registers the engine's Close with t.
func Run(t *testing.T, open func(t *testing.T) engine.Engine) { RunNames(t, maxName, open) }

// maxName is the longest name that a file may have, in bytes.
const maxName = 255

// RunNames is Run for a store that cannot keep names of more than longest
// bytes.
func RunNames(t *testing.T, longest int, open func(t *testing.T) engine.Engine) {
	tool := Payload(t)
	for _, group := range []struct {
		name  string
		tests func(t *testing.T, s *suite)
	}{
		{"images", testImages}, {"containers", testContainers}, {"get", testGet}, {"put", testPut},
		{"steps", testSteps}, {"isolation", testIsolation}, {"limits", testLimits}, {"shared-memory", testSharedMemory},
	} {
		t.Run(group.name, func(t *testing.T) { group.tests(t, newSuite(t, open(t), rootTar(tool, longest))) })
	}
}

// RunStore runs the part of the suite that an engine without processes can
// pass. The engine knows ToolPath and its commands for files.
func RunStore(t *testing.T, open func(t *testing.T) engine.Engine) {
	tool := []byte("#!" + ToolPath + "\n")
	t.Run("images", func(t *testing.T) { testImages(t, newSuite(t, open(t), RootTar(tool))) })
	t.Run("containers", func(t *testing.T) { testContainers(t, newSuite(t, open(t), RootTar(tool))) })
	t.Run("get", func(t *testing.T) { testGet(t, newSuite(t, open(t), RootTar(tool))) })
}

// PayloadVar may name a directory in which the suite's programs lie ready, as
// [PayloadFor] named them, for tests that run where there is no compiler.
const PayloadVar = "DBUILD_TEST_PAYLOAD"

// Payload builds the suite's program, static and for this machine.
func Payload(t testing.TB) []byte {
	t.Helper()
	return PayloadFor(t, runtime.GOARCH)
}

// PayloadFor builds the suite's program for another GOARCH.
func PayloadFor(t testing.TB, goarch string) []byte {
	t.Helper()
	if dir := os.Getenv(PayloadVar); dir != "" {
		b, err := os.ReadFile(filepath.Join(dir, "tool-"+goarch))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	out := filepath.Join(t.TempDir(), "tool")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, "dbuild/engine/enginetest/payload")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+goarch)
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build payload: %v\n%s", err, b)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// suite is one engine under test with an image to start from.
type suite struct {
	engine.Engine
	base engine.Image
	tar  []byte // what base was imported from
}

func newSuite(t *testing.T, e engine.Engine, root []byte) *suite {
	t.Helper()
	s := &suite{Engine: e, tar: root}
	var err error
	s.base, err = e.Import(t.Context(), bytes.NewReader(s.tar), engine.Config{Tag: "base", Labels: map[string]string{"dbuild.state": "test"}})
	if err != nil {
		t.Fatalf("import base: %v", err)
	}
	return s
}

// Mtime is the time of the files that the suite makes, in seconds since 1970.
const Mtime = 1_700_000_000

// file is a tar entry with defaults: a file is 0644, a directory 0755.
type file struct {
	tar.Header
	content string
}

// RootTar returns the tar of a root file system that holds the tool and a few
// odd things: long names, hard links, holes, file capabilities, set-id bits.
func RootTar(tool []byte) []byte { return rootTar(tool, maxName) }

func rootTar(tool []byte, longest int) []byte {
	capability := string([]byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}) // version 2, cap_net_bind_service=ep
	files := []file{
		dir("."), dir("bin"), dir("etc"), dir("home"), dir("odd"), dir("usr"), dir("var"),
		{Header: tar.Header{Name: "bin/tool", Mode: 0o755}, content: string(tool)},
		{Header: tar.Header{Name: "etc/plain"}, content: "plain\n"},
		{Header: tar.Header{Name: "odd/" + strings.Repeat("n", longest)}, content: "long name"},
		{Header: tar.Header{Name: "odd/caf\xe9 \n\t\\"}, content: "strange name"},
		{Header: tar.Header{Name: "odd/first", Uid: 7, Gid: 8}, content: "linked"},
		{Header: tar.Header{Name: "odd/second", Typeflag: tar.TypeLink, Linkname: "odd/first"}},
		{Header: tar.Header{Name: "odd/symlink", Typeflag: tar.TypeSymlink, Linkname: "../etc/plain", Uid: 1000, Gid: 1000, Mode: 0o777}},
		{Header: tar.Header{Name: "odd/fifo", Typeflag: tar.TypeFifo, Mode: 0o644}},
		{Header: tar.Header{Name: "odd/setid", Mode: 0o6755, Uid: 0, Gid: 42}, content: "set-id"},
		{Header: tar.Header{Name: "odd/caps", PAXRecords: map[string]string{"SCHILY.xattr.security.capability": capability}}, content: "caps"},
		{Header: tar.Header{Name: "odd/holes"}, content: strings.Repeat("\x00", 3<<20) + "end"},
		{Header: tar.Header{Name: "odd/high", Uid: 65534, Gid: 65534, Mode: 0o400}, content: "nobody's"},
		{Header: tar.Header{Name: "odd/sticky", Typeflag: tar.TypeDir, Mode: 0o3777, Gid: 50}},
		{Header: tar.Header{Name: "odd/sticky/closed", Mode: 0o000}, content: "closed"},
		dir("tmp"), {Header: tar.Header{Name: "usr/removed"}, content: "removed above"},
	}
	files[len(files)-2].Mode = 0o1777
	return pack(files...)
}

func dir(name string) file {
	return file{Header: tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755}}
}

func regular(name, content string) file {
	return file{Header: tar.Header{Name: name}, content: content}
}

func symlink(name, target string) file {
	return file{Header: tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777}}
}

func setID(name string) tar.Header { return tar.Header{Name: name, Mode: 0o6755} }

func pack(files ...file) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := f.Header
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
			if h.Mode == 0 && !strings.HasSuffix(h.Name, "closed") {
				h.Mode = 0o644
			}
		}
		h.Size, h.ModTime, h.Format = int64(len(f.content)), time.Unix(Mtime, 0), tar.FormatPAX
		if err := errors.Join(w.WriteHeader(&h), write(w, f.content)); err != nil {
			panic(err) // a bug in the suite
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func write(w *tar.Writer, content string) error {
	_, err := w.Write([]byte(content))
	return err
}

// spec is a container on the base image.
func (s *suite) spec(p engine.Purpose) engine.Spec {
	return engine.Spec{Image: s.base.ID, Purpose: p, Network: engine.NetworkNone, Hostname: "testhost"}
}

// container makes a container that is closed with the test.
func (s *suite) container(t *testing.T, spec engine.Spec) engine.Container {
	t.Helper()
	c, err := s.Create(t.Context(), spec)
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	t.Cleanup(func() {
		if err := c.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

// builder is the user of build steps.
var builder = engine.User{UID: 1000, GID: 1000}

// output runs a tool as root or, in a build container's tests, as given, and
// returns its joined output.
func output(t *testing.T, c engine.Container, user engine.User, args ...string) (string, engine.Exit) {
	t.Helper()
	var out bytes.Buffer
	exit, err := c.Run(t.Context(), engine.Step{Argv: append([]string{ToolPath}, args...), User: user, Stdout: &out})
	if err != nil {
		t.Fatalf("run %q: %v", args, err)
	}
	return out.String(), exit
}

// must runs a tool as root and demands success.
func must(t *testing.T, c engine.Container, args ...string) string {
	t.Helper()
	out, exit := output(t, c, engine.Root, args...)
	if !exit.OK() {
		t.Fatalf("run %q: %+v\n%s", args, exit, out)
	}
	return out
}

// quiesce is Quiesce with success demanded.
func quiesce(t *testing.T, c engine.Container) {
	t.Helper()
	if err := c.Quiesce(t.Context()); err != nil {
		t.Fatalf("quiesce: %v", err)
	}
}

// commit makes an image of a container and closes it.
func commit(t *testing.T, c engine.Container, tag string) engine.Image {
	t.Helper()
	quiesce(t, c)
	image, err := c.Commit(t.Context(), engine.Config{Tag: tag})
	if err != nil {
		t.Fatalf("commit: %v", err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatalf("close after commit: %v", err)
	}
	return image
}
