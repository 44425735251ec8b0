package tree

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"dbuild/internal/testenv"
)

func TestReadWithoutSurprises(t *testing.T) {
	dir := sampleTree(t)
	m, _ := read1(t, dir)
	want := map[string]Entry{
		"usr/bin":   {Type: TypeDir, Mode: 0o755},
		"usr/bin/a": {Type: TypeFile, Mode: 0o4755, Size: 4, MTime: 1_700_000_000, SHA256: sha256.Sum256([]byte("tool"))},
		"usr/share/z": {Type: TypeFile, Mode: 0o4755, Size: 4, MTime: 1_700_000_000, SHA256: sha256.Sum256([]byte("tool")),
			HardLink: "usr/bin/a"},
		"usr/bin/a b\\c\n": {Type: TypeFile, Mode: 0o644, Size: 8, MTime: 1_700_000_000, SHA256: sha256.Sum256([]byte("odd name"))},
		"usr/bin.d/b":      {Type: TypeFile, Mode: 0o644, MTime: 1_700_000_000, SHA256: sha256.Sum256(nil)},
		"usr/share/big":    {Type: TypeFile, Mode: 0o644, Size: 3 << 20, MTime: 1_700_000_000, SHA256: sha256.Sum256(make([]byte, 3<<20))},
		"bin":              {Type: TypeSymlink, Mode: 0o777, MTime: 1_700_000_001, Link: "usr/bin"},
	}
	for path, e := range want {
		e.Path = path
		if diff := cmp.Diff(e, mustFind(t, m, path)); diff != "" {
			t.Errorf("%q: %s", path, diff)
		}
	}
	if e := mustFind(t, m, "var/pipe"); e.Type != TypeFIFO {
		t.Errorf("pipe is %+v", e)
	}
	for i := 1; i < len(m); i++ {
		if Compare(m[i-1].Path, m[i].Path) >= 0 {
			t.Errorf("%q before %q", m[i-1].Path, m[i].Path)
		}
	}
	if m[0].Path != "." {
		t.Errorf("first is %q", m[0].Path)
	}
}

func TestReadIsTheSameWithAnyNumberOfWorkers(t *testing.T) {
	dir := sampleTree(t)
	one, _, err := Read(t.Context(), dir, ids(), 1)
	must(t, err)
	many, _, err := Read(t.Context(), dir, ids(), 7)
	must(t, err)
	if diff := cmp.Diff(one, many); diff != "" {
		t.Error(diff)
	}
}

func TestReadRefusesForeignOwner(t *testing.T) {
	m := ids()
	m.HostUID++
	_, _, err := Read(t.Context(), sampleTree(t), m, 2)
	if !errors.Is(err, ErrOutside) {
		t.Errorf("got %v", err)
	}
}

func TestReadRefusesSymlinkAsRoot(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(sampleTree(t), link))
	if _, _, err := Read(t.Context(), link, ids(), 2); !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ELOOP) {
		t.Errorf("got %v", err)
	}
}

func TestReadCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := Read(ctx, sampleTree(t), ids(), 2); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestOpenDirStepsFollowsNothing(t *testing.T) {
	dir := sampleTree(t)
	root, err := openRoot(dir)
	must(t, err)
	defer unix.Close(root)
	fd, err := openDirSteps(root, "usr/bin.d")
	must(t, err)
	must(t, unix.Close(fd))
	for _, path := range []string{"bin", "bin/a", "usr/bin/a"} {
		if fd, err := openDirSteps(root, path); err == nil {
			must(t, unix.Close(fd))
			t.Errorf("opened %q", path)
		}
		if fd, err := openDirAt(root, path); err == nil {
			must(t, unix.Close(fd))
			t.Errorf("openat2 opened %q", path)
		}
	}
}

// xattr sets a user attribute, or skips where there are none.
func xattr(t *testing.T, root, path, name, value string) {
	t.Helper()
	err := unix.Lsetxattr(filepath.Join(root, path), name, []byte(value), 0)
	if errors.Is(err, unix.ENOTSUP) {
		t.Skip("this file system has no user attributes")
	}
	must(t, err)
}

func TestReadOverlayAttributes(t *testing.T) {
	dir := t.TempDir()
	file(t, dir, "opaque/new", "x")
	file(t, dir, "marks/gone", "")
	file(t, dir, "marks/empty", "")
	xattr(t, dir, "opaque", "user.overlay.opaque", "y")
	xattr(t, dir, "opaque/new", "user.overlay.origin", "\x00abc")
	xattr(t, dir, "marks", "user.overlay.opaque", "x")
	xattr(t, dir, "marks/gone", "user.overlay.whiteout", "")
	m, _ := read1(t, dir)
	if e := mustFind(t, m, "opaque"); !e.Opaque {
		t.Error("opaque=y was not seen")
	}
	if e := mustFind(t, m, "marks"); e.Opaque {
		t.Error("opaque=x hides the directory below")
	}
	if diff := cmp.Diff(Entry{Path: "marks/gone", Type: TypeWhiteout}, mustFind(t, m, "marks/gone")); diff != "" {
		t.Error(diff)
	}
	if e := mustFind(t, m, "marks/empty"); e.Type != TypeFile {
		t.Errorf("empty file is %s", e.Type.words())
	}
	for _, name := range []string{"redirect", "metacopy"} {
		other := t.TempDir()
		mkdir(t, other, "d")
		xattr(t, other, "d", "user.overlay."+name, "/x")
		if _, _, err := Read(t.Context(), other, ids(), 1); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestListThenTarKnowsHashes(t *testing.T) {
	dir := sampleTree(t)
	list, err := List(t.Context(), dir, ids(), 2)
	must(t, err)
	if e := mustFind(t, list, "usr/bin/a"); e.SHA256 != [32]byte{} {
		t.Error("List read contents")
	}
	_, m := tarOf(t, list, dir, TarOptions{})
	full, _ := read1(t, dir)
	if diff := cmp.Diff(full.Canonical(), m); diff != "" {
		t.Error(diff)
	}
}

func TestRootOnlyEntries(t *testing.T) {
	testenv.NeedRoot(t)
	dir := t.TempDir()
	const base = 100000
	file(t, dir, "usr/bin/ping", "p")
	must(t, unix.Mknod(filepath.Join(dir, "usr/bin/gone"), unix.S_IFCHR, 0))
	must(t, unix.Mknod(filepath.Join(dir, "usr/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(t, filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(p, base, base+5))
	}))
	caps := "\x01\x00\x00\x02" + "\x00\x20\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"
	nsCaps := "\x01\x00\x00\x03" + caps[4:] + "\xa0\x86\x01\x00"
	xattr(t, dir, "usr/bin/ping", capsAttr, nsCaps)
	shift := IDMap{HostUID: base, HostGID: base, Size: 10}
	m, s, err := Read(t.Context(), dir, shift, 2)
	must(t, err)
	ping := mustFind(t, m, "usr/bin/ping")
	if ping.UID != 0 || ping.GID != 5 || ping.Caps != caps {
		t.Errorf("ping is %+v", ping)
	}
	if diff := cmp.Diff(Entry{Path: "usr/bin/gone", Type: TypeWhiteout}, mustFind(t, m, "usr/bin/gone")); diff != "" {
		t.Error(diff)
	}
	if e := mustFind(t, m, "usr/null"); e.Type != TypeChar || e.Dev != unix.Mkdev(1, 3) {
		t.Errorf("null is %+v", e)
	}
	// The host's own capabilities on a shifted file are not the container's.
	xattr(t, dir, "usr/bin/ping", capsAttr, caps)
	if _, err := s.Check(t.Context(), dir, shift, 2); !isDamaged(err, "usr/bin/ping") {
		t.Errorf("check: got %v", err)
	}
	if _, _, err := Read(t.Context(), dir, shift, 2); !errors.Is(err, ErrOutside) {
		t.Errorf("got %v", err)
	}
}

func TestRootMountInside(t *testing.T) {
	testenv.NeedRoot(t)
	dir := sampleTree(t)
	must(t, unix.Mount("tmpfs", filepath.Join(dir, "run"), "tmpfs", 0, "size=64k"))
	t.Cleanup(func() { must(t, unix.Unmount(filepath.Join(dir, "run"), unix.MNT_DETACH)) })
	file(t, dir, "run/inside", "x")
	m, _, err := Read(t.Context(), dir, IDMap{}, 2)
	must(t, err)
	if m.Lookup("run/inside") != nil {
		t.Error("a mounted file system was entered")
	}
	must(t, unix.Mount("tmpfs", filepath.Join(dir, "empty"), "tmpfs", 0, "size=64k"))
	t.Cleanup(func() { must(t, unix.Unmount(filepath.Join(dir, "empty"), unix.MNT_DETACH)) })
	if _, _, err := Read(t.Context(), dir, IDMap{}, 2); err == nil {
		t.Error("a mount in the tree was accepted")
	}
}

// settle waits until the file system's clock has moved on, so that the next
// change shows in ctime also on kernels with coarse times.
func settle() { time.Sleep(15 * time.Millisecond) }

func isDamaged(err error, path string) bool {
	var d *DamagedError
	return errors.As(err, &d) && d.Path == path
}
