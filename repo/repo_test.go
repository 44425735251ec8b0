package repo

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"dbuild/sign"
)

func TestOpenWritesItsKey(t *testing.T) {
	e := newEnv(t)
	fingerprint := func() string {
		ring, err := sign.OpenKeyring(filepath.Join(e.Dir(), "key.asc"))
		if err != nil {
			t.Fatal(err)
		}
		return ring.Fingerprints()[0]
	}
	if got := fingerprint(); got != key(t).Fingerprint() {
		t.Errorf("key.asc holds %s, not %s", got, key(t).Fingerprint())
	}
	before := snapshot(t, e.Dir())
	n := &notes{}
	if _, err := Open(t.Context(), e.Dir(), e.db, key(t), Options{Report: warnOnly{n}}); err != nil {
		t.Fatal(err)
	}
	if after := snapshot(t, e.Dir()); len(n.warn) != 0 || after[filepath.Join(e.Dir(), "key.asc")] != before[filepath.Join(e.Dir(), "key.asc")] {
		t.Errorf("the same key was written again, with warnings %q", n.warn)
	}
	other, err := sign.Generate("another key", time.Now().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), e.Dir(), e.db, other, Options{Report: warnOnly{n}}); err != nil {
		t.Fatal(err)
	}
	if got := fingerprint(); got != other.Fingerprint() || len(n.warn) != 1 {
		t.Errorf("key.asc holds %s, with warnings %q", got, n.warn)
	}
}

func TestMigrate(t *testing.T) {
	e := newEnv(t)
	publishSome(t, e)
	want := e.rowsText(t)
	if err := Migrate(t.Context(), e.db); err != nil {
		t.Fatal(err)
	}
	if got := e.rowsText(t); len(got) != len(want) {
		t.Errorf("%d of %d rows are left by a migration to the same version", len(got), len(want))
	}
	if _, err := e.db.ExecContext(t.Context(), `UPDATE repo_schema SET version = 'old'; ALTER TABLE repo_entry ADD COLUMN junk TEXT`); err != nil {
		t.Fatal(err)
	}
	if err := Migrate(t.Context(), e.db); err != nil {
		t.Fatal(err)
	}
	if err := e.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := e.rowsText(t); len(got) != len(want) {
		t.Errorf("%d of %d rows after a migration from another version", len(got), len(want))
	}
}

// A file on another file system cannot be linked, and is copied.
func TestLinkAcrossFileSystems(t *testing.T) {
	e := newEnv(t)
	f := pkg{}.build(t)
	path := filepath.Join(memoryDir(t), "hello.deb")
	if err := os.WriteFile(path, readFile(t, f.Path), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(path, filepath.Join(e.Dir(), "probe")); err == nil {
		t.Skip("there is no second file system: /dev/shm is on the same one as the temporary directory")
	}
	f.Path, f.Link = path, true
	e.publish(t, upload(t, "2.10-3", f))
	look(t, e.Dir(), "bookworm")
}
