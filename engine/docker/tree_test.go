package docker

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dbuild/engine"
	"dbuild/engine/enginetest"
	"dbuild/internal/tree"
)

// TestSameTree: an imported tree comes back entry for entry.
func TestSameTree(t *testing.T) {
	e := open(t)
	root := enginetest.RootTar(enginetest.Payload(t))
	want, err := tree.ReadTar(t.Context(), bytes.NewReader(root))
	if err != nil {
		t.Fatal(err)
	}
	im, err := e.Import(t.Context(), bytes.NewReader(root), engine.Config{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := e.Manifest(t.Context(), im.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.Canonical(), got.Canonical()); diff != "" {
		t.Error(diff)
	}
}
