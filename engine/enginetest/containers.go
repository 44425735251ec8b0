package enginetest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"dbuild/engine"
	"dbuild/internal/tree"
)

func testContainers(t *testing.T, s *suite) {
	t.Run("independent", s.testIndependent)
	t.Run("scratch", s.testScratch)
	t.Run("scratch tree", s.testScratchTree)
	t.Run("order of calls", s.testOrder)
	t.Run("keep", s.testKeep)
	t.Run("close", s.testClose)
	t.Run("bad specs", s.testBadSpecs)
	t.Run("reap spares the living", s.testReapSpares)
}

// testIndependent: containers of one image do not see each other's changes.
func (s *suite) testIndependent(t *testing.T) {
	a, b := s.container(t, s.spec(engine.PurposeDeps)), s.container(t, s.spec(engine.PurposeDeps))
	if a.ID() == b.ID() || a.ID() == "" || strings.ContainsAny(a.ID(), "/\x00") {
		t.Errorf("ids %q and %q", a.ID(), b.ID())
	}
	must(t, a, "write", "/etc/plain", "a's")
	must(t, b, "write", "/etc/b", "b's")
	if got := must(t, b, "read", "/etc/plain"); got != "plain\n" {
		t.Errorf("b sees %q", got)
	}
	if _, exit := output(t, a, engine.Root, "read", "/etc/b"); exit.OK() {
		t.Error("a sees b's file")
	}
}

// testScratch: an empty root takes files before and after steps.
func (s *suite) testScratch(t *testing.T) {
	c := s.container(t, engine.Spec{Purpose: engine.PurposeDeps, Network: engine.NetworkNone, Hostname: "scratch"})
	entries, err := c.PutFiles(t.Context(), bytes.NewReader(s.tar), engine.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) == 0 || entries[0].Name != "." || entries[1].Name != "bin" || entries[1].Type != '5' {
		t.Errorf("entries begin with %+v", entries[:min(2, len(entries))])
	}
	if got := must(t, c, "read", "/etc/plain"); got != "plain\n" {
		t.Errorf("file put in reads %q", got)
	}
	if _, err := c.PutFiles(t.Context(), bytes.NewReader(pack(regular("etc/late", "late"), dir("var/tmp"))), engine.PutOptions{}); err != nil {
		t.Errorf("put after a step: %v", err)
	}
	image := commit(t, c, "scratch")
	if image.Parent != "" || image.Layers != 1 {
		t.Errorf("image of a scratch container is %+v", image)
	}
	names := s.names(t, image.ID)
	for name, want := range map[string]bool{
		"etc/late": true, "etc/hosts": false, "etc/plain": true,
		"tmp": true, "var/tmp": true, // also where the engine mounts something over them
	} {
		if names[name] != want {
			t.Errorf("%q in the image: %v, want %v", name, names[name], want)
		}
	}
}

// testScratchTree: what is put into an empty root and committed has the digest
// of the tar, however names share inodes.
func (s *suite) testScratchTree(t *testing.T) {
	files := []file{dir("."), dir("bin"), dir("dev"), dir("etc"), dir("links"), dir("proc"), dir("run"), dir("sys"), dir("tmp"), dir("var"), dir("var/tmp")}
	files[8].Mode, files[10].Mode = 0o1777, 0o1777
	for _, name := range []string{"a", "b", "c", "d"} {
		files = append(files, regular("links/"+name+"2", name))
		for _, more := range []string{"3", "1"} {
			link := regular("links/"+name+more, "")
			link.Typeflag, link.Linkname = tar.TypeLink, "links/"+name+"2"
			files = append(files, link)
		}
	}
	root := pack(files...)
	want, err := tree.ReadTar(t.Context(), bytes.NewReader(root))
	if err != nil {
		t.Fatal(err)
	}
	c := s.container(t, engine.Spec{Purpose: engine.PurposeDeps, Network: engine.NetworkNone, Hostname: "scratch"})
	put(t, c, root, engine.PutOptions{KeepDirs: true})
	if got := s.digest(t, commit(t, c, "tree").ID); got != want.Digest() {
		t.Errorf("the committed tree is %s, want %s", got, want.Digest())
	}
}

// testOrder: what must not be done yet or any more is refused.
func (s *suite) testOrder(t *testing.T) {
	ctx := t.Context()
	get := func(c engine.Container) error {
		return c.GetFiles(ctx, "/etc", []string{"plain"}, engine.GetLimits{Files: 1, Bytes: 100}, drop)
	}
	c := s.container(t, s.spec(engine.PurposeDeps))
	must(t, c, "echo", "x")
	if _, err := c.PutFiles(ctx, bytes.NewReader(pack(regular("x", "x"))), engine.PutOptions{}); err == nil {
		t.Error("put after a step succeeded")
	}
	if err := get(c); !errors.Is(err, engine.ErrNotQuiet) {
		t.Errorf("get before quiesce: %v, want ErrNotQuiet", err)
	}
	if _, err := c.Commit(ctx, engine.Config{}); !errors.Is(err, engine.ErrNotQuiet) {
		t.Errorf("commit before quiesce: %v, want ErrNotQuiet", err)
	}
	quiesce(t, c)
	if err := get(c); err != nil {
		t.Errorf("get after quiesce: %v", err)
	}
	must(t, c, "echo", "x")
	if err := get(c); !errors.Is(err, engine.ErrNotQuiet) {
		t.Errorf("get after another step: %v, want ErrNotQuiet", err)
	}
	commit(t, c, "")
	if _, err := c.Run(ctx, engine.Step{Argv: []string{ToolPath, "echo"}}); err == nil {
		t.Error("run after commit and close succeeded")
	}
}

func drop(_ engine.GotFile, r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

// testKeep: a kept container comes back as an image that is not listed.
func (s *suite) testKeep(t *testing.T) {
	spec := s.spec(engine.PurposeBuild)
	spec.Areas = []string{"/area"}
	c := s.container(t, spec)
	put(t, c, pack(dir("area"), dir("area/in")), engine.PutOptions{})
	must(t, c, "write", "/etc/kept", "kept")
	must(t, c, "write", "/area/in/kept", "kept too")
	id, err := c.Keep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if string(id) != c.ID() {
		t.Errorf("kept as %q, container was %q", id, c.ID())
	}
	all, err := s.Images(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, im := range all {
		if im.ID == id {
			t.Error("a kept container is listed among the images")
		}
	}
	again := s.container(t, engine.Spec{Image: id, Purpose: engine.PurposeShell, Network: engine.NetworkNone})
	if got := must(t, again, "read", "/etc/kept"); got != "kept" {
		t.Errorf("kept file reads %q", got)
	}
	if got := must(t, again, "read", "/area/in/kept"); got != "kept too" {
		t.Errorf("kept file of an area reads %q", got)
	}
	if err := again.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), id); err != nil {
		t.Errorf("remove kept container: %v", err)
	}
}

func (s *suite) testClose(t *testing.T) {
	c := s.container(t, s.spec(engine.PurposeDeps))
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for range 2 {
		if err := c.Close(cancelled); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if n, err := s.Reap(t.Context()); n != 0 || err != nil {
		t.Errorf("reap after close found %d (%v)", n, err)
	}
	if _, err := s.Create(cancelled, s.spec(engine.PurposeDeps)); !errors.Is(err, context.Canceled) {
		t.Errorf("create with a cancelled context: %v", err)
	}
}

func (s *suite) testBadSpecs(t *testing.T) {
	for _, x := range []struct {
		name   string
		change func(*engine.Spec)
	}{
		{"purpose", func(s *engine.Spec) { s.Purpose = "" }},
		{"network", func(s *engine.Spec) { s.Network = "" }},
		{"scratch build", func(s *engine.Spec) { s.Image = "" }},
		{"unknown tree", func(s *engine.Spec) { s.Trees = []engine.Mount{{Tree: "nobody knows", Target: "/run/x"}} }},
		{"relative target", func(s *engine.Spec) { s.Trees = []engine.Mount{{Tree: "nobody knows", Target: "run/x"}} }},
	} {
		t.Run(x.name, func(t *testing.T) {
			spec := s.spec(engine.PurposeBuild)
			x.change(&spec)
			if c, err := s.Create(t.Context(), spec); err == nil {
				t.Errorf("create succeeded (%v)", c.Close(t.Context()))
			}
		})
	}
}

func (s *suite) testReapSpares(t *testing.T) {
	c := s.container(t, s.spec(engine.PurposeDeps))
	if n, err := s.Reap(t.Context()); n != 0 || err != nil {
		t.Errorf("reap with a live container found %d (%v)", n, err)
	}
	must(t, c, "echo", "alive")
}
