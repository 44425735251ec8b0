package tree

import (
	"bytes"
	"errors"
	"testing"
)

// TestCopyTar: a tar made from a tar is the one made from the files.
func TestCopyTar(t *testing.T) {
	dir := sampleTree(t)
	m, _ := read1(t, dir)
	for _, o := range []TarOptions{{}, {Clamp: 1_600_000_000, OmitDevices: true}} {
		want, _ := tarOf(t, m, dir, o)
		source, _ := tarOf(t, m, dir, TarOptions{})
		read, err := ReadTar(t.Context(), bytes.NewReader(source))
		must(t, err)
		var got bytes.Buffer
		must(t, CopyTar(t.Context(), &got, read, bytes.NewReader(source), o))
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%+v: copied tar of %d bytes differs from the written one of %d", o, got.Len(), len(want))
		}
	}
	other, _ := tarOf(t, m[:len(m)-20], dir, TarOptions{})
	var d *DamagedError
	if err := CopyTar(t.Context(), &bytes.Buffer{}, m, bytes.NewReader(other), TarOptions{}); !errors.As(err, &d) {
		t.Errorf("copy from a tar that lacks files: %v, want a DamagedError", err)
	}
}
