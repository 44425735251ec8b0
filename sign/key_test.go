package sign

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"dbuild/internal/fault"
)

func TestSaveAndLoad(t *testing.T) {
	key, err := Generate("dbuild images", born)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "image.key")
	if err := key.Save(path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, error %v", info.Mode(), err)
	}
	loaded, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if loaded.Fingerprint() != key.Fingerprint() || len(key.Fingerprint()) != 40 || !bytes.Equal(loaded.PublicArmored(), key.PublicArmored()) {
		t.Errorf("loaded %s, saved %s", loaded.Fingerprint(), key.Fingerprint())
	}
	a, errA := key.DetachSign([]byte("x"), now, "base")
	b, errB := loaded.DetachSign([]byte("x"), now, "base")
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		t.Errorf("the loaded key signs otherwise (%v, %v)", errA, errB)
	}
	if err := key.Save(path); !errors.Is(err, os.ErrExist) {
		t.Errorf("saving over a key: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestLoadRefuses(t *testing.T) {
	key, err := Generate("dbuild images", born)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	if err := key.Save(path); err != nil {
		t.Fatal(err)
	}
	secret, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	file := func(name string, data []byte, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, path := range map[string]string{
		"readable by others": file("others", secret, 0o604),
		"readable by group":  file("group", secret, 0o640),
		"public key":         file("public", key.PublicArmored(), 0o600),
		"empty":              file("empty", nil, 0o600),
		"truncated":          file("truncated", secret[:len(secret)/2], 0o600),
		"symbolic link":      link,
		"directory":          dir,
		"missing":            filepath.Join(dir, "none"),
	} {
		if _, err := Load(path); err == nil || fault.ClassOf(err) != fault.Trust {
			t.Errorf("%s: error %v, class %q", name, err, fault.ClassOf(err))
		}
	}
	if _, err := Load(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

func TestGenerateRefuses(t *testing.T) {
	if _, err := Generate("a <b>", born); err == nil {
		t.Error("a name with angle brackets was accepted")
	}
}
