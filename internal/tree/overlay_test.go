package tree

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"dbuild/internal/testenv"
)

// TestRootMergeIsWhatOverlayfsShows changes a tree through a real overlay and
// compares the merged layers with what the mount shows.
func TestRootMergeIsWhatOverlayfsShows(t *testing.T) {
	testenv.NeedRoot(t)
	lower, base := sampleTree(t), t.TempDir()
	in := func(path string) string { return filepath.Join(base, path) }
	must(t, os.Mkdir(in("upper"), 0o755), os.Mkdir(in("work"), 0o755), os.Mkdir(in("all"), 0o755))
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,userxattr", lower, in("upper"), in("work"))
	if err := unix.Mount("overlay", in("all"), "overlay", 0, options); err != nil {
		t.Skipf("no overlay mount here: %v", err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(in("all"), unix.MNT_DETACH)) })
	must(t, os.Link(filepath.Join(lower, "etc/passwd"), filepath.Join(lower, "etc/shadow")))
	file(t, base, "all/etc/passwd", "copied up, which leaves the group of hard links")
	must(t, os.Remove(in("all/usr/bin/a")), os.RemoveAll(in("all/usr/bin.d")), os.Mkdir(in("all/usr/bin.d"), 0o711))
	file(t, base, "all/usr/bin.d/fresh", "in an opaque directory")
	must(t, os.RemoveAll(in("all/empty")))
	file(t, base, "all/empty", "a file where a directory was")
	file(t, base, "all/n/1", "n")
	must(t, os.Link(in("all/n/1"), in("all/n/2")), os.Chmod(in("all/usr/share/big"), 0o600))

	low, _, err := Read(t.Context(), lower, IDMap{}, 2)
	must(t, err)
	up, _, err := Read(t.Context(), in("upper"), IDMap{}, 2)
	must(t, err)
	if !mustFind(t, up, "usr/bin.d").Opaque || mustFind(t, up, "usr/bin/a").Type != TypeWhiteout {
		t.Error("the upper layer does not hold what the test is about")
	}
	shown, _, err := Read(t.Context(), in("all"), IDMap{}, 2)
	must(t, err)
	merged := Merge(low, up)
	if diff := cmp.Diff(shown.Canonical(), merged.Canonical(), cmp.FilterPath(func(p cmp.Path) bool {
		return p.Last().String() == ".Layer"
	}, cmp.Ignore())); diff != "" {
		t.Error(diff)
	}
	if shown.Digest() != merged.Digest() {
		t.Error("digests differ")
	}
}
