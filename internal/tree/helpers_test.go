package tree

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// must fails the test on an error of the set-up.
func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// ids is the map with which files of the test's own user are root's.
func ids() IDMap { return IDMap{HostUID: os.Geteuid(), HostGID: os.Getegid(), Size: 1} }

// file writes a regular file with a fixed time, making its directories.
func file(t testing.TB, root, path, content string) {
	t.Helper()
	full := filepath.Join(root, path)
	must(t, os.MkdirAll(filepath.Dir(full), 0o755), os.WriteFile(full, []byte(content), 0o644))
	old := time.Unix(1_700_000_000, 0)
	must(t, os.Chtimes(full, old, old))
}

func mkdir(t testing.TB, root, path string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Join(root, path), 0o755))
}

// symlink makes a link with a fixed time.
func symlink(t testing.TB, root, target, path string) {
	t.Helper()
	full := filepath.Join(root, path)
	ts := []unix.Timespec{{Sec: 1_700_000_001}, {Sec: 1_700_000_001}}
	must(t, os.Symlink(target, full), unix.UtimesNanoAt(unix.AT_FDCWD, full, ts, unix.AT_SYMLINK_NOFOLLOW))
}

// sampleTree is a small root file system as any user can make it.
func sampleTree(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	must(t, os.Chmod(root, 0o755))
	for _, d := range []string{"dev", "proc", "sys", "run", "tmp", "etc", "var/tmp", "empty"} {
		mkdir(t, root, d)
	}
	file(t, root, "etc/hostname", "box\n")
	file(t, root, "etc/passwd", "root\n")
	file(t, root, "tmp/leftover", "x")
	file(t, root, "usr/bin/a", "tool")
	file(t, root, "usr/bin/a b\\c\n", "odd name")
	file(t, root, "usr/bin.d/b", "")
	file(t, root, "usr/share/big", string(make([]byte, 3<<20)))
	must(t, os.Link(filepath.Join(root, "usr/bin/a"), filepath.Join(root, "usr/share/z")))
	symlink(t, root, "usr/bin", "bin")
	must(t, unix.Mkfifo(filepath.Join(root, "var/pipe"), 0o600))
	must(t, os.Chmod(filepath.Join(root, "usr/bin/a"), 0o755|os.ModeSetuid))
	return root
}

// read1 reads a layer of the test's own user.
func read1(t testing.TB, dir string) (Manifest, *Seal) {
	t.Helper()
	m, s, err := Read(t.Context(), dir, ids(), 2)
	must(t, err)
	return m, s
}

func mustFind(t testing.TB, m Manifest, path string) Entry {
	t.Helper()
	e := m.Lookup(path)
	if e == nil {
		t.Fatalf("no entry %q", path)
	}
	return *e
}
