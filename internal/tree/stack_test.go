package tree

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestStack(t *testing.T) {
	low, up := sampleTree(t), t.TempDir()
	file(t, up, "usr/new", "n")
	lower, s1 := read1(t, low)
	upper, s2 := read1(t, up)
	data := Stack{s1, s2}.Marshal()
	got, err := UnmarshalStack(data)
	must(t, err)
	if diff := cmp.Diff(Merge(lower, upper), got.Manifest()); diff != "" {
		t.Error(diff)
	}
	for name, bad := range map[string][]byte{
		"empty": nil, "a single seal": s1.Marshal(), "cut off": data[:len(data)-1], "trailing": append(bytes.Clone(data), 0),
		"count": append([]byte(stackMagic), 0xff, 0xff, 0xff, 0xff),
	} {
		if _, err := UnmarshalStack(bad); !errors.Is(err, ErrSyntax) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
