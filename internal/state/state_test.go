package state_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dbuild/internal/fault"
	"dbuild/internal/state"
)

func open(t *testing.T, dir string) *state.State {
	t.Helper()
	s, err := state.Open(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestOpenTwiceKeepsID(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "state")
	first, second := open(t, dir), open(t, dir)
	if first.ID == "" || first.ID != second.ID {
		t.Errorf("ids %q and %q, want equal and not empty", first.ID, second.ID)
	}
	for name, want := range map[string]os.FileMode{".": 0o711, "keys": 0o700, "images": 0o711, "repo": 0o755, "builds": 0o700} {
		fi, err := os.Stat(filepath.Join(dir, name))
		if err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want mode %04o", name, fi, err, want)
		}
	}
	if _, err := first.DB.Exec("CREATE TABLE t (x)"); err != nil {
		t.Error(err)
	}
	if _, err := second.DB.Exec("INSERT INTO t VALUES (1)"); err != nil {
		t.Error(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, tc := range []struct {
		name    string
		prepare func(dir string) error
		class   fault.Class
		text    string
	}{
		{"newer format", func(d string) error {
			return os.WriteFile(filepath.Join(d, "format"), []byte("99 0123456789abcdef0123456789abcdef\n"), 0o600)
		}, fault.Locked, "format 99"},
		{"damaged format", func(d string) error { return os.WriteFile(filepath.Join(d, "format"), nil, 0o600) }, fault.Trust, "damaged"},
		{"writable by others", func(d string) error { return os.Chmod(d, 0o777) }, fault.Usage, "written by others"},
		{"a file", func(d string) error {
			if err := os.Remove(d); err != nil {
				return err
			}
			return os.WriteFile(d, nil, 0o600)
		}, fault.Usage, "not a directory"},
		{"not a database", func(d string) error {
			return os.WriteFile(filepath.Join(d, "dbuild.db"), []byte(strings.Repeat("no database ", 400)), 0o600)
		}, fault.Trust, "dbuild.db"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := tc.prepare(dir); err != nil {
				t.Fatal(err)
			}
			_, err := state.Open(t.Context(), dir, nil)
			if fault.ClassOf(err) != tc.class || err == nil || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v (class %s), want class %s and %q", err, fault.ClassOf(err), tc.class, tc.text)
			}
		})
	}
}

func TestDefaultDir(t *testing.T) {
	env := map[string]string{"HOME": "/home/jo"}
	get := func(k string) string { return env[k] }
	if d, _ := state.DefaultDir(0, get); d != "/var/lib/dbuild" {
		t.Errorf("root: %q", d)
	}
	if d, _ := state.DefaultDir(1000, get); d != "/home/jo/.local/share/dbuild" {
		t.Errorf("user: %q", d)
	}
	env["XDG_DATA_HOME"] = "/x"
	if d, _ := state.DefaultDir(1000, get); d != "/x/dbuild" {
		t.Errorf("user with XDG_DATA_HOME: %q", d)
	}
	for uid, want := range map[int]string{0: "", 1000: "/home/jo/.cache/dbuild"} {
		if d := state.CacheDir(uid, get); d != want {
			t.Errorf("cache of user %d: %q, want %q", uid, d, want)
		}
	}
	env["XDG_CACHE_HOME"] = "/y"
	if d := state.CacheDir(1000, get); d != "/y/dbuild" {
		t.Errorf("user with XDG_CACHE_HOME: %q", d)
	}
}
