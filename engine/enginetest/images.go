package enginetest

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"dbuild/engine"
	"dbuild/internal/tree"
)

func testImages(t *testing.T, s *suite) {
	t.Run("info", s.testInfo)
	t.Run("round trip", s.testRoundTrip)
	t.Run("import refuses", s.testImportRefuses)
	t.Run("layers", s.testLayers)
	t.Run("in use", s.testInUse)
	t.Run("tag", s.testTag)
	t.Run("unknown", s.testUnknownImage)
	t.Run("seal", s.testSeal)
}

func (s *suite) testInfo(t *testing.T) {
	a, err := s.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Info(t.Context())
	if err != nil || a.ID == "" || a.ID != b.ID || a.Kind == "" || a.Arch == "" {
		t.Errorf("info %+v, then %+v (%v); want a stable id, kind and architecture", a, b, err)
	}
}

func (s *suite) digest(t *testing.T, id engine.ImageID) tree.Digest {
	t.Helper()
	d, err := s.Digest(t.Context(), id)
	if err != nil {
		t.Fatalf("digest: %v", err)
	}
	return d
}

func (s *suite) export(t *testing.T, id engine.ImageID) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := s.Export(t.Context(), id, &b); err != nil {
		t.Fatalf("export: %v", err)
	}
	return b.Bytes()
}

// testRoundTrip: what goes in comes out, byte for byte the second time, and
// its digest is what package tree says about the tar.
func (s *suite) testRoundTrip(t *testing.T) {
	m, err := tree.ReadTar(t.Context(), bytes.NewReader(s.tar))
	if err != nil {
		t.Fatal(err)
	}
	want := m.Digest()
	if got := s.digest(t, s.base.ID); got != want {
		t.Errorf("digest of import %s, of its tar %s", got, want)
	}
	first := s.export(t, s.base.ID)
	again, err := s.Import(t.Context(), bytes.NewReader(first), engine.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.digest(t, again.ID); got != want {
		t.Errorf("digest after export and import %s, want %s", got, want)
	}
	if !bytes.Equal(first, s.export(t, again.ID)) {
		t.Error("the second export differs from the first")
	}
	if again.Layers != 1 || again.Parent != "" || again.Size <= 0 || again.Created.IsZero() {
		t.Errorf("imported image is %+v", again)
	}
	if err := s.Remove(t.Context(), again.ID); err != nil {
		t.Error(err)
	}
}

func (s *suite) testImportRefuses(t *testing.T) {
	before, err := s.Images(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	good := pack(dir("."), dir("a"))
	for _, x := range []struct {
		name string
		tar  []byte
	}{
		{"parent", pack(dir("."), regular("../x", "x"))},
		{"parent inside", pack(dir("."), dir("a"), regular("a/../../x", "x"))},
		{"link to parent", pack(dir("."), file{Header: tar.Header{Name: "l", Typeflag: tar.TypeLink, Linkname: "../../etc/passwd"}})},
		{"link to nothing", pack(dir("."), file{Header: tar.Header{Name: "l", Typeflag: tar.TypeLink, Linkname: "missing"}})},
		{"block device", pack(dir("."), file{Header: tar.Header{Name: "disk", Typeflag: tar.TypeBlock, Devmajor: 8}})},
		{"character device", pack(dir("."), file{Header: tar.Header{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}})},
		{"owner", pack(dir("."), file{Header: tar.Header{Name: "x", Uid: 1 << 20}})},
		{"cut short", s.tar[:len(s.tar)/2]},
		{"not a tar", []byte(strings.Repeat("no tar at all ", 100))},
	} {
		t.Run(x.name, func(t *testing.T) {
			if im, err := s.Import(t.Context(), bytes.NewReader(x.tar), engine.Config{}); err == nil {
				t.Errorf("import succeeded: %+v", im)
			}
		})
	}
	wrong := errors.New("the caller's own")
	if _, err := s.Import(t.Context(), io.MultiReader(bytes.NewReader(good[:512]), failing{wrong}), engine.Config{}); !errors.Is(err, wrong) {
		t.Errorf("import from a failing reader: %v, want the reader's error", err)
	}
	after, err := s.Images(t.Context())
	if err != nil || len(after) != len(before) {
		t.Errorf("%d images before, %d after (%v)", len(before), len(after), err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// testLayers: a committed image holds the changes and only them.
func (s *suite) testLayers(t *testing.T) {
	c := s.container(t, s.spec(engine.PurposeDeps))
	must(t, c, "write", "/etc/added", "added")
	must(t, c, "write", "/etc/plain", "changed")
	must(t, c, "rm", "/usr/removed")
	must(t, c, "rm", "/odd")
	must(t, c, "mkdir", "/odd/new")
	must(t, c, "write", "/tmp/left", "x")
	must(t, c, "write", "/run/left", "x")
	second := commit(t, c, "second")
	if second.Parent != s.base.ID || second.Layers != 2 || second.Config.Tag != "second" {
		t.Errorf("committed image is %+v", second)
	}
	names := s.names(t, second.ID)
	for name, want := range map[string]bool{
		"etc/added": true, "etc/plain": true, "usr/removed": false, "odd/new": true, "odd/first": false,
		"tmp/left": false, "run/left": false, "etc/hosts": false, "etc/hostname": false, "var/tmp": false, "tmp": true,
	} {
		if names[name] != want {
			t.Errorf("%q in the image: %v, want %v", name, names[name], want)
		}
	}
	// A container that changes nothing gives an image of the same tree.
	third := commit(t, s.container(t, engine.Spec{Image: second.ID, Purpose: engine.PurposeDeps, Network: engine.NetworkNone}), "")
	if a, b := s.digest(t, second.ID), s.digest(t, third.ID); a != b {
		t.Errorf("digest %s became %s in a container that did nothing", a, b)
	}
	if a, b := s.digest(t, s.base.ID), s.digest(t, second.ID); a == b {
		t.Error("the digest did not change with the tree")
	}
	d := s.container(t, engine.Spec{Image: third.ID, Purpose: engine.PurposeDeps, Network: engine.NetworkNone})
	if got := must(t, d, "read", "/etc/plain"); got != "changed" {
		t.Errorf("content through three layers: %q", got)
	}
}

// names returns the paths of an image's export.
func (s *suite) names(t *testing.T, id engine.ImageID) map[string]bool {
	t.Helper()
	m, err := tree.ReadTar(t.Context(), bytes.NewReader(s.export(t, id)))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, e := range m.Canonical() {
		names[e.Path] = true
	}
	return names
}

func (s *suite) testInUse(t *testing.T) {
	c := s.container(t, s.spec(engine.PurposeDeps))
	if err := s.Remove(t.Context(), s.base.ID); !errors.Is(err, engine.ErrInUse) {
		t.Errorf("remove under a container: %v, want ErrInUse", err)
	}
	child := commit(t, c, "child")
	if err := s.Remove(t.Context(), s.base.ID); !errors.Is(err, engine.ErrInUse) {
		t.Errorf("remove under an image: %v, want ErrInUse", err)
	}
	if err := s.Remove(t.Context(), child.ID); err != nil {
		t.Errorf("remove child: %v", err)
	}
	if err := s.Remove(t.Context(), child.ID); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("remove twice: %v, want ErrNotFound", err)
	}
}

func (s *suite) testTag(t *testing.T) {
	if err := s.Tag(t.Context(), s.base.ID, "other"); err != nil {
		t.Fatal(err)
	}
	im, err := s.Image(t.Context(), s.base.ID)
	if err != nil || im.Config.Tag != "other" || im.Config.Labels["dbuild.state"] != "test" || im.Size != s.base.Size {
		t.Errorf("after tagging: %+v (%v)", im, err)
	}
	all, err := s.Images(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, im := range all {
		found = found || im.ID == s.base.ID && im.Config.Tag == "other"
	}
	if !found {
		t.Errorf("%+v does not list the tagged image", all)
	}
}

func (s *suite) testUnknownImage(t *testing.T) {
	for _, id := range []engine.ImageID{"", "0123456789abcdef0123", "../records", "x\x00y"} {
		_, err := s.Image(t.Context(), id)
		if !errors.Is(err, engine.ErrNotFound) {
			t.Errorf("image %q: %v, want ErrNotFound", id, err)
		}
		if err := s.Remove(t.Context(), id); !errors.Is(err, engine.ErrNotFound) {
			t.Errorf("remove %q: %v, want ErrNotFound", id, err)
		}
		if id == "" {
			continue
		}
		spec := s.spec(engine.PurposeBuild)
		spec.Image = id
		if _, err := s.Create(t.Context(), spec); !errors.Is(err, engine.ErrNotFound) {
			t.Errorf("create from %q: %v, want ErrNotFound", id, err)
		}
	}
}

func (s *suite) testSeal(t *testing.T) {
	sealer, ok := s.Engine.(engine.Sealer)
	if !ok {
		t.Skip("this engine keeps no seals")
	}
	d, seal, err := sealer.Seal(t.Context(), s.base.ID, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := s.digest(t, s.base.ID); d != want {
		t.Errorf("digest of seal %s, of image %s", d, want)
	}
	if err := sealer.CheckSeal(t.Context(), s.base.ID, seal); err != nil {
		t.Errorf("check of a whole image: %v", err)
	}
	c := s.container(t, s.spec(engine.PurposeDeps))
	must(t, c, "write", "/etc/plain", "changed in a layer above")
	child := commit(t, c, "")
	if err := sealer.CheckSeal(t.Context(), s.base.ID, seal); err != nil {
		t.Errorf("check after use: %v", err)
	}
	d2, seal2, err := sealer.Seal(t.Context(), child.ID, seal)
	if err != nil {
		t.Fatal(err)
	}
	if want := s.digest(t, child.ID); d2 != want || d2 == d {
		t.Errorf("digest of the child's seal %s, of the image %s", d2, want)
	}
	if err := sealer.CheckSeal(t.Context(), child.ID, seal2); err != nil {
		t.Errorf("check of the child: %v", err)
	}
	if err := sealer.CheckSeal(t.Context(), child.ID, seal); !errors.Is(err, engine.ErrDamaged) {
		t.Errorf("check with another image's seal: %v, want ErrDamaged", err)
	}
	if err := sealer.CheckSeal(t.Context(), s.base.ID, seal[:len(seal)/2]); !errors.Is(err, engine.ErrDamaged) {
		t.Errorf("check with half a seal: %v, want ErrDamaged", err)
	}
}
