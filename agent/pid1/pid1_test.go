package pid1

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dbuild/agent/wire"
)

func TestCleanName(t *testing.T) {
	for _, x := range []struct{ name, want string }{
		{".", "."}, {"./", "."}, {"/", "."}, {"", "."}, {".//./", "."},
		{"./usr/bin/", "usr/bin"}, {"/usr/bin", "usr/bin"}, {"usr//bin", "usr/bin"}, {"usr/./bin", "usr/bin"}, {"usr/.", "usr"},
		{".hidden", ".hidden"}, {"./.hidden", ".hidden"}, {"a/..b", "a/..b"}, {"a/b..", "a/b.."}, {"...", "..."},
		{"..", ""}, {"./..", ""}, {"a/../b", ""}, {"a/..", ""}, {"/../etc", ""}, {"a\x00b", ""},
	} {
		got, err := cleanName(x.name)
		var r *refusal
		if got != x.want || (x.want == "") != errors.As(err, &r) {
			t.Errorf("%q becomes %q, %v; want %q", x.name, got, err, x.want)
		}
	}
}

func FuzzCleanName(f *testing.F) {
	for _, s := range []string{"./a/b/", "..", "a//../b", "./././", "/.x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		got, err := cleanName(name)
		if err != nil {
			return
		}
		if got != "." && (!filepath.IsLocal(got) || filepath.Clean(got) != got || strings.ContainsRune(got, 0)) {
			t.Errorf("%q becomes %q", name, got)
		}
		if again, err := cleanName(got); again != got || err != nil {
			t.Errorf("%q becomes %q, then %q (%v)", name, got, again, err)
		}
	})
}

func TestSkipped(t *testing.T) {
	for _, x := range []struct {
		name          string
		typ           byte
		mounted, bare bool
	}{
		{"dev/null", '3', true, true}, {"dev/pts", '5', true, false}, {"dev", '5', false, false}, {"devices/x", '3', false, false},
		{"proc/1", '0', true, false}, {"sys/x", '0', true, false}, {"run/x", '0', false, false}, {"usr/dev/null", '3', false, false},
	} {
		if got := (&unpacker{skip: true}).skipped(x.name, x.typ); got != x.mounted {
			t.Errorf("%q in a container: skipped %v", x.name, got)
		}
		if got := (&unpacker{}).skipped(x.name, x.typ); got != x.bare {
			t.Errorf("%q in a bare root: skipped %v", x.name, got)
		}
	}
}

func TestZero(t *testing.T) {
	for _, n := range []int{0, 1, 2, 7, 8, 4096} {
		b := make([]byte, n)
		if !zero(b) {
			t.Errorf("%d zeros are not zero", n)
		}
		for _, at := range []int{0, n / 2, n - 1} {
			if n == 0 {
				continue
			}
			b[at] = 1
			if zero(b) {
				t.Errorf("a one at %d of %d is zero", at, n)
			}
			b[at] = 0
		}
	}
}

func TestParseStat(t *testing.T) {
	for _, x := range []struct {
		stat string
		want proc
		ok   bool
	}{
		{"42 (cat) S 1 42 40 0 -1 0", proc{42, 1, 40, false}, true},
		{"7 (a) b) (c) Z 3 7 7 0", proc{7, 3, 7, true}, true},
		{"7 (odd\nname) R 3 7 9 0", proc{7, 3, 9, false}, true},
		{"", proc{}, false},
		{"x (cat) S 1 2 3", proc{}, false},
		{"1 (cat) S 1", proc{}, false},
	} {
		got, ok := parseStat([]byte(x.stat))
		if ok != x.ok || ok && got != x.want {
			t.Errorf("%q: %+v, %v", x.stat, got, ok)
		}
	}
}

func TestVictims(t *testing.T) {
	all := []proc{
		{pid: 10, parent: 1, session: 10},                // the step
		{pid: 11, parent: 10, session: 10},               // its child
		{pid: 12, parent: 11, session: 12},               // a grandchild in another session
		{pid: 13, parent: 1, session: 10},                // orphaned, same session
		{pid: 14, parent: 1, session: 14},                // orphaned, other session
		{pid: 15, parent: 10, session: 10, zombie: true}, // dead already
		{pid: 20, parent: 1, session: 20},                // there before
		{pid: 21, parent: 22, session: 21},               // a loop, as a list that is no snapshot may show
		{pid: 22, parent: 21, session: 21},
	}
	s := &step{process: process{pid: 10}, baseline: map[int]bool{20: true, 21: true, 22: true}}
	for _, x := range []struct {
		alone bool
		want  []int
	}{{true, []int{10, 11, 12, 13, 14}}, {false, []int{10, 11, 12, 13}}} {
		if got := victims(all, s, x.alone); !slices.Equal(got, x.want) {
			t.Errorf("alone %v: %v, want %v", x.alone, got, x.want)
		}
	}
}

func TestLookPath(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"program": 0o755, "data": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{"PATH=/missing", "X=1", "PATH=relative:" + dir}
	for _, x := range []struct{ name, want string }{
		{"program", dir + "/program"}, {"/any/path", "/any/path"}, {"./relative", "./relative"}, {"data", ""}, {"missing", ""},
	} {
		got, err := lookPath(x.name, env)
		if got != x.want || (x.want == "") != errors.Is(err, os.ErrNotExist) {
			t.Errorf("%q: %q, %v", x.name, got, err)
		}
	}
}

// TestMemReader: what was read is given back, and reads as it was.
func TestMemReader(t *testing.T) {
	f, err := memFile("test")
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), freeStep/4)
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
	r := &memReader{file: f}
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d of %d bytes, %v", len(got), len(data), err)
	}
	hole := make([]byte, 16)
	if _, err := f.ReadAt(hole, 0); err != nil || !zero(hole) {
		t.Errorf("the start still holds %q (%v)", hole, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestResultOf(t *testing.T) {
	for _, x := range []struct {
		err  error
		want wire.Status
	}{
		{refuse("no"), wire.Refused}, {errTooMuch, wire.TooMuch}, {os.ErrNotExist, wire.NotFound}, {errUnsupported, wire.Unsupported},
		{wire.ErrClosed, wire.Cancelled}, {io.ErrUnexpectedEOF, wire.Failed},
	} {
		if got := resultOf(x.err); got.Status != x.want || got.Text == "" {
			t.Errorf("%v: %+v, want status %d", x.err, got, x.want)
		}
	}
}
