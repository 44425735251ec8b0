package chroot

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"dbuild/internal/tree"
)

// node is what is compared of one path.
type node struct {
	kind     byte
	mode     int64
	uid, gid int
	link     string
	group    string // first path of a hard link group
	sum      [32]byte
	mtime    int64  // not of directories
	content  string // of files that may differ
}

// readTree reads a root file system's tar, without what engines replace.
func readTree(t *testing.T, suite, path string) map[string]node {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	nodes := map[string]node{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nodes
		}
		if err != nil {
			t.Fatalf("read %q: %v", path, err)
		}
		name := cleanName(h.Name)
		if name == "" || tree.Replaced(name) || replaced(name) {
			continue
		}
		n := node{kind: h.Typeflag, mode: h.Mode & 0o7777, uid: h.Uid, gid: h.Gid, link: h.Linkname}
		switch h.Typeflag {
		case tar.TypeReg:
			n.mtime = h.ModTime.Unix()
			hash := sha256.New()
			var kept bytes.Buffer
			w := io.Writer(hash)
			if Allowed(suite, name) != "" {
				w = io.MultiWriter(hash, &kept)
			}
			if _, err := io.Copy(w, r); err != nil {
				t.Fatal(err)
			}
			hash.Sum(n.sum[:0])
			n.content = kept.String()
		case tar.TypeSymlink:
			n.mode, n.mtime = 0o777, h.ModTime.Unix()
		case tar.TypeLink:
			first := cleanName(h.Linkname)
			head := nodes[first]
			head.group = first
			nodes[first] = head
			n = head
		}
		nodes[name] = n
	}
}

func cleanName(name string) string { return strings.Trim(strings.TrimPrefix(name, "."), "/") }

// diff says what differs between two nodes.
func (n node) diff(o node) string {
	var parts []string
	add := func(what string, a, b any) {
		if a != b {
			parts = append(parts, fmt.Sprintf("%s %v, theirs %v", what, a, b))
		}
	}
	add("type", string(n.kind), string(o.kind))
	add("mode", fmt.Sprintf("%o", n.mode), fmt.Sprintf("%o", o.mode))
	add("uid", n.uid, o.uid)
	add("gid", n.gid, o.gid)
	add("link", n.link, o.link)
	add("hard link group", n.group, o.group)
	add("content", fmt.Sprintf("%.8x", n.sum), fmt.Sprintf("%.8x", o.sum))
	add("mtime", n.mtime, o.mtime)
	return strings.Join(parts, "; ")
}

// compareTrees returns a line for each path that differs and that
// [Differences] does not explain, and the explained ones apart.
func compareTrees(suite string, ours, theirs map[string]node) (wrong, allowed []string) {
	for _, name := range sortedKeys(union(ours, theirs)) {
		a, inOurs := ours[name]
		b, inTheirs := theirs[name]
		var what string
		switch {
		case !inOurs:
			what = "missing in ours"
		case !inTheirs:
			what = "only in ours"
		default:
			what = a.diff(b)
		}
		if what == "" {
			continue
		}
		if reason := Allowed(suite, name); reason != "" && expected(name, a, b) {
			allowed = append(allowed, fmt.Sprintf("%s: %s (%s)", name, what, reason))
		} else {
			wrong = append(wrong, name+": "+what)
		}
	}
	return wrong, allowed
}

// expected reports whether an allowed difference is the one that its reason
// tells of, and no other.
func expected(name string, ours, theirs node) bool {
	u := DefaultBuilder()
	same := func(what func(node) string) bool {
		if what(ours) != what(theirs) {
			return false
		}
		ours.content, ours.sum = theirs.content, theirs.sum
		return ours == theirs
	}
	added := func(line string) bool {
		i := strings.LastIndex(strings.TrimSuffix(ours.content, "\n"), "\n") + 1
		if !strings.HasPrefix(ours.content[i:], line) {
			return false
		}
		ours.content = ours.content[:i]
		return same(func(n node) string { return n.content })
	}
	sorted := func(sep string) bool {
		return same(func(n node) string {
			parts := strings.Split(strings.Trim(n.content, "\n"), sep)
			slices.Sort(parts)
			return strings.Join(parts, sep)
		})
	}
	switch name {
	case "etc/passwd":
		return added(u.passwd())
	case "etc/group":
		return added(u.group())
	case "etc/shadow":
		return added(u.Name + ":*:")
	case "etc/gshadow":
		return added(u.gshadow())
	case "etc/shells":
		return sorted("\n")
	case "var/lib/apt/extended_states":
		return sorted("\n\n")
	case "etc/apt/sources.list":
		return same(func(node) string { return "" })
	case "usr/bin/gunzip", "usr/bin/uncompress":
		ours.group = ""
		return ours == theirs
	case "var/lib/apt/lists/partial", "var/cache/apt/archives/partial":
		ours.uid = theirs.uid
		return ours == theirs
	}
	return strings.HasSuffix(name, "-old") && ours == node{}
}

func union(a, b map[string]node) map[string]bool {
	all := map[string]bool{}
	for name := range a {
		all[name] = true
	}
	for name := range b {
		all[name] = true
	}
	return all
}

func TestCompareTrees(t *testing.T) {
	passwd := func(lines string) node { return node{kind: '0', content: lines, sum: sha256.Sum256([]byte(lines))} }
	builder := DefaultBuilder().passwd() + "\n"
	theirs := map[string]node{
		"same": {kind: '0'}, "mode": {kind: '0', mode: 0o755}, "gone": {kind: '5'},
		"etc/passwd": passwd("root\n"), "var/lib/dpkg/status-old": {kind: '0'}, "etc/shells": {kind: '0', uid: 1},
	}
	ours := map[string]node{"same": {kind: '0'}, "mode": {kind: '0', mode: 0o644}, "extra": {kind: '5'},
		"etc/passwd": passwd("root\n" + builder), "etc/shells": {kind: '0'}}
	wrong, allowed := compareTrees("bookworm", ours, theirs)
	want := []string{"etc/shells: uid 0, theirs 1", "extra: only in ours", "gone: missing in ours", "mode: mode 644, theirs 755"}
	if !slices.Equal(wrong, want) {
		t.Errorf("wrong: %q", wrong)
	}
	if len(allowed) != 2 {
		t.Errorf("allowed: %q", allowed)
	}
	for _, lines := range []string{"root\n", "toor\n" + builder, "root\n" + builder + "x\n"} {
		ours["etc/passwd"] = passwd(lines)
		if wrong, _ := compareTrees("bookworm", ours, theirs); len(wrong) != len(want)+1 && lines != "root\n" {
			t.Errorf("%q passes", lines)
		}
	}
}
