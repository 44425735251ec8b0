package buildenv

import (
	"path/filepath"
	"testing"
	"time"
)

func TestClaimTurn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "expire")
	now := time.Now()
	for _, test := range []struct {
		name  string
		after time.Duration
		want  bool
	}{
		{"a new state has nothing old", 0, false},
		{"within the hour", 50 * time.Minute, false},
		{"after it", 61 * time.Minute, true},
		{"at once again", 61 * time.Minute, false},
		{"the next hour", 122 * time.Minute, true},
	} {
		l, err := claimTurn(path, now.Add(test.after))
		if err != nil || (l != nil) != test.want {
			t.Errorf("%s: %v, %v", test.name, l, err)
		}
		if err := l.Unlock(); err != nil {
			t.Fatal(err)
		}
	}
	l, err := claimTurn(path, now.Add(200*time.Minute))
	if err != nil || l == nil {
		t.Fatal(l, err)
	}
	if other, err := claimTurn(path, now.Add(400*time.Minute)); other != nil || err != nil {
		t.Errorf("while another has it: %v, %v", other, err)
	}
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
}
