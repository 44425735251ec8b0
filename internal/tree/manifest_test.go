package tree

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCompareIsOrderOfAWalk(t *testing.T) {
	want := []string{".", "a", "a/b", "a/b/c", "a/b.c", "a!", "a-b", "a.d", "a.d/x", "ab", "b", "\xff"}
	got := slices.Clone(want)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(got), func(i, j int) { got[i], got[j] = got[j], got[i] })
	slices.SortFunc(got, Compare)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestReplaced(t *testing.T) {
	for path, want := range map[string]bool{
		".": false, "dev": false, "dev/null": true, "dev/pts/0": true, "devel/x": false, "run/lock": true, "tmp": false,
		"var/tmp/x": false, "etc/hosts": true, "etc/hostname": true, "etc/resolv.conf": true, "etc/mtab": true, "etc/hosts.allow": false, ".dockerenv": true,
		"usr/etc/hosts": false,
	} {
		if got := Replaced(path); got != want {
			t.Errorf("Replaced(%q) = %v", path, got)
		}
	}
}

func TestManifestText(t *testing.T) {
	sum := [32]byte{0xab}
	m := Manifest{
		{Path: ".", Type: TypeDir, Mode: 0o755},
		{Path: "a b\\\xff", Type: TypeFile, Mode: 0o4755, UID: 1, GID: 2, Size: 3, MTime: -4, SHA256: sum, Caps: strings.Repeat("\x01", capsSize)},
		{Path: "d", Type: TypeDir, Mode: 0o1777, Opaque: true},
		{Path: "d/fifo", Type: TypeFIFO, Mode: 0o600, MTime: 5},
		{Path: "d/gone", Type: TypeWhiteout},
		{Path: "d/link", Type: TypeSymlink, Mode: 0o777, MTime: 6, Link: "a b"},
		{Path: "d/null", Type: TypeChar, Mode: 0o666, MTime: 7, Dev: 1<<8 | 3},
		{Path: "d/sock", Type: TypeSocket, Mode: 0o666},
		{Path: "z", Type: TypeFile, Mode: 0o4755, UID: 1, GID: 2, Size: 3, MTime: -4, SHA256: sum, Caps: strings.Repeat("\x01", capsSize), HardLink: "a b\\\xff"},
	}
	const want = `dbuild-tree 1
d 755 0 0 .
f 4755 1 2 a\x20b\x5c\xff -4 3 ab00000000000000000000000000000000000000000000000000000000000000 caps=0101010101010101010101010101010101010101
d 1777 0 0 d opaque
p 600 0 0 d/fifo 5
w 0 0 0 d/gone
l 777 0 0 d/link 6 a\x20b
c 666 0 0 d/null 7 1:3
f 4755 1 2 z -4 3 ab00000000000000000000000000000000000000000000000000000000000000 link=a\x20b\x5c\xff caps=0101010101010101010101010101010101010101
`
	var b bytes.Buffer
	n, err := m.WriteTo(&b)
	must(t, err)
	if diff := cmp.Diff(want, b.String()); diff != "" || n != int64(b.Len()) {
		t.Errorf("%d bytes of %d: %s", n, b.Len(), diff)
	}
	got, err := ReadManifest(&b)
	must(t, err)
	if diff := cmp.Diff(slices.DeleteFunc(m, func(e Entry) bool { return e.Type == TypeSocket }), got); diff != "" {
		t.Error(diff)
	}
}

func TestReadManifestRefuses(t *testing.T) {
	const sum = "ab00000000000000000000000000000000000000000000000000000000000000"
	const head = "dbuild-tree 1\nd 755 0 0 .\n"
	for name, text := range map[string]string{
		"empty":              "",
		"other version":      "dbuild-tree 2\nd 755 0 0 .\n",
		"no root":            "dbuild-tree 1\nd 755 0 0 a\n",
		"no final newline":   "dbuild-tree 1\nd 755 0 0 .",
		"out of order":       head + "d 755 0 0 b\nd 755 0 0 a\n",
		"twice":              head + "d 755 0 0 a\nd 755 0 0 a\n",
		"in no directory":    head + "d 755 0 0 a/b\n",
		"in a file":          head + "f 644 0 0 a 0 0 " + sum + "\np 644 0 0 a/b 0\n",
		"dot dot":            head + "d 755 0 0 ..\n",
		"absolute":           head + "d 755 0 0 /a\n",
		"trailing slash":     head + "d 755 0 0 a/\n",
		"NUL":                head + "d 755 0 0 a\\x00\n",
		"long name":          head + "d 755 0 0 " + strings.Repeat("a", 256) + "\n",
		"leading zero":       head + "d 0755 0 0 a\n",
		"mode too big":       head + "d 10755 0 0 a\n",
		"negative owner":     head + "d 755 -1 0 a\n",
		"needless escape":    head + "d 755 0 0 \\x61\n",
		"upper-case escape":  head + "d 755 0 0 \\xFF\n",
		"escape cut off":     head + "d 755 0 0 a\\x2\n",
		"two blanks":         head + "d 755 0  0 a\n",
		"unknown type":       head + "x 755 0 0 a 0\n",
		"socket":             head + "s 755 0 0 a 0\n",
		"extra field":        head + "d 755 0 0 a opaque x\n",
		"file without hash":  head + "f 644 0 0 a 0 0\n",
		"short hash":         head + "f 644 0 0 a 0 0 ab\n",
		"negative size":      head + "f 644 0 0 a 0 -1 " + sum + "\n",
		"link to nothing":    head + "f 644 0 0 b 0 0 " + sum + " link=a\n",
		"link to itself":     head + "f 644 0 0 b 0 0 " + sum + " link=b\n",
		"link that differs":  head + "f 600 0 0 a 0 0 " + sum + "\nf 644 0 0 b 0 0 " + sum + " link=a\n",
		"short capabilities": head + "f 644 0 0 a 0 0 " + sum + " caps=00\n",
		"empty target":       head + "l 777 0 0 a 0 \n",
	} {
		t.Run(name, func(t *testing.T) {
			if m, err := ReadManifest(strings.NewReader(text)); !errors.Is(err, ErrSyntax) {
				t.Errorf("got %v, %v", m, err)
			}
		})
	}
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte("dbuild-tree 1\nd 755 0 0 .\n"))
	f.Add([]byte("dbuild-tree 1\nd 755 0 0 .\nf 644 1 2 a\\x20b -3 0 ab00000000000000000000000000000000000000000000000000000000000000 caps=0101010101010101010101010101010101010101\nl 777 0 0 c 1 t\nc 600 0 0 n 0 1:3\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ReadManifest(bytes.NewReader(b))
		if err != nil {
			return
		}
		var out bytes.Buffer
		if _, err := m.WriteTo(&out); err != nil || !bytes.Equal(out.Bytes(), b) {
			t.Fatalf("%q came back as %q, %v", b, out.Bytes(), err)
		}
	})
}

func TestDigestCountsWhatItMust(t *testing.T) {
	base, _ := read1(t, sampleTree(t))
	want := base.Digest()
	for name, change := range map[string]func(e *Entry){
		"mode":    func(e *Entry) { e.Mode = 0o700 },
		"owner":   func(e *Entry) { e.UID = 7 },
		"group":   func(e *Entry) { e.GID = 7 },
		"size":    func(e *Entry) { e.Size++ },
		"content": func(e *Entry) { e.SHA256[0]++ },
		"time":    func(e *Entry) { e.MTime++ },
		"caps":    func(e *Entry) { e.Caps = strings.Repeat("x", capsSize) },
		"link":    func(e *Entry) { e.HardLink = "etc/passwd" },
	} {
		t.Run(name, func(t *testing.T) {
			m := slices.Clone(base)
			change(m.Lookup("usr/bin/a"))
			if m.Digest() == want {
				t.Error("digest is the same")
			}
		})
	}
}

func TestDigestLeavesOutWhatEnginesReplace(t *testing.T) {
	dir := sampleTree(t)
	before, _ := read1(t, dir)
	file(t, dir, "etc/hosts", "127.0.0.1 localhost\n")
	file(t, dir, "etc/hostname", "other\n")
	file(t, dir, "run/x/y", "z")
	must(t, os.Remove(filepath.Join(dir, "tmp/leftover")))
	after, _ := read1(t, dir)
	if before.Digest() != after.Digest() {
		t.Errorf("digest changed:\n%s", cmp.Diff(before.Canonical(), after.Canonical()))
	}
	must(t, os.Chmod(filepath.Join(dir, "run"), 0o700))
	if m, _ := read1(t, dir); m.Digest() == before.Digest() {
		t.Error("the mode of run itself does not count")
	}
}

func TestCanonicalGroupsLinksAnew(t *testing.T) {
	m := Manifest{
		{Path: ".", Type: TypeDir},
		{Path: "tmp", Type: TypeDir},
		{Path: "tmp/a", Type: TypeFile},
		{Path: "x", Type: TypeFile, HardLink: "tmp/a"},
		{Path: "y", Type: TypeFile, HardLink: "tmp/a"},
	}
	got := m.Canonical()
	want := Manifest{m[0], m[1], {Path: "x", Type: TypeFile}, {Path: "y", Type: TypeFile, HardLink: "x"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if m[3].HardLink != "tmp/a" {
		t.Error("the receiver was changed")
	}
}
