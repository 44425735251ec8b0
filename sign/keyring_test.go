package sign

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"dbuild/internal/fault"
)

// TestOpenKeyring is B40.
func TestOpenKeyring(t *testing.T) {
	key, err := Generate("Local", born)
	if err != nil {
		t.Fatal(err)
	}
	second := testKey(t, "Second", nil)
	dir := t.TempDir()
	secretPath := filepath.Join(dir, "secret")
	if err := key.Save(secretPath); err != nil {
		t.Fatal(err)
	}
	secret, err := os.ReadFile(secretPath)
	if err != nil {
		t.Fatal(err)
	}
	secretBinary, _, err := decodeArmor(secret, typePrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	both := slices.Concat(key.public, publicKey(t, second))
	doc, err := key.Clearsign([]byte("text\n"), now)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		data []byte
		mode os.FileMode
		keys int // 0: refused
	}{
		{"binary", key.public, 0o644, 1},
		{"armored", key.PublicArmored(), 0o644, 1},
		{"two keys", both, 0o644, 2},
		{"two keys in one block", encodeArmor(typePublicKey, both), 0o644, 2},
		{"two blocks", slices.Concat(key.PublicArmored(), []byte("\n"), encodeArmor(typePublicKey, publicKey(t, second))), 0o644, 2},
		{"read-only", key.public, 0o400, 1},
		{"empty", nil, 0o644, 0},
		{"blank", []byte("\n\n"), 0o644, 0},
		{"HTML", []byte("<!DOCTYPE html>\n<html></html>\n"), 0o644, 0},
		{"keybox", []byte("\x00\x00\x00\x20\x01\x01\x00\x02KBXf\x00\x00\x00\x00"), 0o644, 0},
		{"secret key", secretBinary, 0o644, 0},
		{"secret key, armored", secret, 0o644, 0},
		{"secret key behind a public one", slices.Concat(key.public, secretBinary), 0o644, 0},
		{"signed text", doc, 0o644, 0},
		{"no key, only a user id", []byte{0xc0 | tagUserID, 1, 'x'}, 0o644, 0},
		{"truncated", key.public[:len(key.public)-1], 0o644, 0},
		{"trailing junk", append(key.public[:len(key.public):len(key.public)], 'x'), 0o644, 0},
		{"text before the armor", append([]byte("hello\n"), key.PublicArmored()...), 0o644, 0},
		{"group may write", key.public, 0o664, 0},
		{"others may write", key.public, 0o646, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ring")
			if err := os.WriteFile(path, tt.data, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, tt.mode); err != nil {
				t.Fatal(err)
			}
			ring, err := OpenKeyring(path)
			if tt.keys == 0 {
				if !errors.Is(err, ErrKeyring) || fault.ClassOf(err) != fault.Trust {
					t.Errorf("error is %v, class %q", err, fault.ClassOf(err))
				}
				return
			}
			if err != nil || len(ring.Fingerprints()) != tt.keys {
				t.Fatalf("ring %v, error %v", ring, err)
			}
			if _, _, err := ring.VerifyClearsigned(doc, Policy{Now: now}); err != nil {
				t.Errorf("the ring does not verify what its key signed: %v", err)
			}
		})
	}
}

func TestOpenKeyringPaths(t *testing.T) {
	dir := t.TempDir()
	var paths, want []string
	for _, name := range []string{"one", "two"} {
		key, err := Generate(name, born)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, key.public, 0o600); err != nil {
			t.Fatal(err)
		}
		paths, want = append(paths, path), append(want, key.Fingerprint())
	}
	slices.Sort(want)
	link := filepath.Join(dir, "link")
	if err := os.Symlink("one", link); err != nil {
		t.Fatal(err)
	}
	ring, err := OpenKeyring(append(paths, link)...)
	if err != nil {
		t.Fatal(err)
	}
	if got := ring.Fingerprints(); !slices.Equal(got, want) {
		t.Errorf("fingerprints are %v, want %v", got, want)
	}
	some, err := ParseKeyring(ring.Export(want[1]))
	if err != nil || !slices.Equal(some.Fingerprints(), want[1:]) {
		t.Errorf("exported %v, error %v", some.Fingerprints(), err)
	}
	if _, err := OpenKeyring(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) || fault.ClassOf(err) != fault.Trust {
		t.Errorf("missing file: %v", err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, dir} {
		if _, err := OpenKeyring(path); !errors.Is(err, ErrKeyring) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func FuzzKeyring(f *testing.F) {
	key, err := Generate("Local", born)
	if err != nil {
		f.Fatal(err)
	}
	doc, err := key.Clearsign([]byte("text\n"), now)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(key.public)
	f.Add(key.PublicArmored())
	f.Add([]byte{0xc0 | tagPublicKey, 6, 4, 0, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		ring, err := ParseKeyring(data)
		if err != nil {
			if fault.ClassOf(err) != fault.Trust {
				t.Errorf("class %q: %v", fault.ClassOf(err), err)
			}
			return
		}
		again, err := ParseKeyring(ring.Export())
		if err != nil || !slices.Equal(again.Fingerprints(), ring.Fingerprints()) {
			t.Errorf("export does not come back: %v", err)
		}
		if _, sig, err := ring.VerifyClearsigned(doc, Policy{Now: now}); err == nil && sig.Fingerprint != key.Fingerprint() {
			t.Errorf("verified by another key, %s", sig.Fingerprint)
		}
	})
}

// BenchmarkLargeKeyring reads the keyring of all Debian developers.
func BenchmarkLargeKeyring(b *testing.B) {
	for b.Loop() {
		if _, err := OpenKeyring("/usr/share/keyrings/debian-keyring.gpg"); err != nil {
			b.Skip(err)
		}
	}
}
