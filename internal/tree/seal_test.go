package tree

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestSealRoundTrip(t *testing.T) {
	_, s := read1(t, sampleTree(t))
	data := s.Marshal()
	got, err := UnmarshalSeal(data)
	must(t, err)
	if diff := cmp.Diff(s.m, got.Manifest()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(s.stamps, got.stamps, cmp.AllowUnexported(stamp{})); diff != "" {
		t.Error(diff)
	}
	if !bytes.Equal(got.Marshal(), data) {
		t.Error("bytes differ")
	}
}

func TestSealFindsEveryChange(t *testing.T) {
	in := func(dir, path string) string { return filepath.Join(dir, path) }
	overwrite := func(path, content string) error {
		st, err := os.Stat(path)
		if err != nil {
			return err
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString(content)
		return errors.Join(err, f.Close(), os.Chtimes(path, st.ModTime(), st.ModTime()))
	}
	for _, test := range []struct {
		name, path string
		change     func(dir string) error
	}{
		{"byte changed, size and time kept", "usr/bin.d/c", func(d string) error { return overwrite(in(d, "usr/bin.d/c"), "C") }},
		{"file grown", "etc/passwd", func(d string) error { return os.Truncate(in(d, "etc/passwd"), 100) }},
		{"file added", "empty", func(d string) error { return os.WriteFile(in(d, "empty/new"), nil, 0o644) }},
		{"file removed", "etc", func(d string) error { return os.Remove(in(d, "etc/hostname")) }},
		{"file replaced by an equal one", "etc/passwd", func(d string) error {
			b, err := os.ReadFile(in(d, "etc/passwd"))
			return errors.Join(err, os.WriteFile(in(d, "etc/n"), b, 0o644), os.Rename(in(d, "etc/n"), in(d, "etc/passwd")))
		}},
		{"mode", "usr/share/big", func(d string) error { return os.Chmod(in(d, "usr/share/big"), 0o666) }},
		{"mode of a directory", "usr/bin", func(d string) error { return os.Chmod(in(d, "usr/bin"), 0o700) }},
		{"mode of the root", ".", func(d string) error { return os.Chmod(d, 0o711) }},
		{"time", "etc/passwd", func(d string) error { return os.Chtimes(in(d, "etc/passwd"), time.Unix(5, 0), time.Unix(5, 0)) }},
		{"another name", "etc/passwd", func(d string) error { return os.Link(in(d, "etc/passwd"), in(t.TempDir(), "x")) }},
		{"link target", "bin", func(d string) error { return errors.Join(os.Remove(in(d, "bin")), os.Symlink("usr/sbi", in(d, "bin"))) }},
		{"attribute", "etc/passwd", func(d string) error { return unix.Lsetxattr(in(d, "etc/passwd"), "user.x", []byte("1"), 0) }},
		{"attribute of a directory", "usr", func(d string) error { return unix.Lsetxattr(in(d, "usr"), "user.overlay.opaque", []byte("y"), 0) }},
		{"directory moved", ".", func(d string) error { return os.Rename(in(d, "usr/bin.d"), in(d, "bin.d")) }},
		{"files swapped", "usr/share/big", func(d string) error {
			return unix.Renameat2(unix.AT_FDCWD, in(d, "usr/share/big"), unix.AT_FDCWD, in(d, "usr/share/z"), unix.RENAME_EXCHANGE)
		}},
		{"directory became a link", "usr", func(d string) error {
			return errors.Join(os.Rename(in(d, "usr/bin.d"), in(d, "usr/q")), os.Symlink("q", in(d, "usr/bin.d")))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := sampleTree(t)
			file(t, dir, "usr/bin.d/c", "c")
			_, s := read1(t, dir)
			if n, err := s.Check(t.Context(), dir, ids(), 2); n != 0 || err != nil {
				t.Fatalf("unchanged tree: %d, %v", n, err)
			}
			settle()
			if err := test.change(dir); errors.Is(err, unix.ENOTSUP) {
				t.Skip("this file system has no user attributes")
			} else if err != nil {
				t.Fatal(err)
			}
			for _, workers := range []int{1, 3} {
				_, err := s.Check(t.Context(), dir, ids(), workers)
				var d *DamagedError
				if !errors.As(err, &d) {
					t.Fatalf("got %v", err)
				}
				if workers == 1 && d.Path != test.path {
					t.Errorf("says %v", d)
				}
			}
		})
	}
}

// TestSealAcceptsTouch: ctime alone is a reason to look, not to refuse.
func TestSealAcceptsTouch(t *testing.T) {
	dir := sampleTree(t)
	_, s := read1(t, dir)
	settle()
	for _, path := range []string{"usr/bin", "usr/share/big", "etc/passwd"} {
		full := filepath.Join(dir, path)
		st, err := os.Stat(full)
		must(t, err, os.Chmod(full, 0o700), os.Chmod(full, st.Mode()))
	}
	must(t, os.WriteFile(filepath.Join(dir, "empty/x"), nil, 0o600), os.Remove(filepath.Join(dir, "empty/x")))
	n, err := s.Check(t.Context(), dir, ids(), 2)
	if n != 4 || err != nil {
		t.Errorf("looked at %d entries closely, %v", n, err)
	}
}

func TestSealCheckCancelled(t *testing.T) {
	dir := sampleTree(t)
	_, s := read1(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Check(ctx, dir, ids(), 2); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestUnmarshalSealRefuses(t *testing.T) {
	_, s := read1(t, sampleTree(t))
	good := s.Marshal()
	if _, err := UnmarshalSeal(nil); !errors.Is(err, ErrSyntax) {
		t.Errorf("empty: %v", err)
	}
	for i := 0; i < len(good); i += 7 {
		bad := bytes.Clone(good)
		bad[i] ^= 0x10
		if _, err := UnmarshalSeal(bad); !errors.Is(err, ErrSyntax) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
		if _, err := UnmarshalSeal(good[:i]); !errors.Is(err, ErrSyntax) {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
	}
	if _, err := UnmarshalSeal(append(bytes.Clone(good), 0)); !errors.Is(err, ErrSyntax) {
		t.Errorf("trailing byte: %v", err)
	}
}

func FuzzSeal(f *testing.F) {
	_, s := read1(f, sampleTree(f))
	f.Add(s.Marshal())
	f.Add((&Seal{}).Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= sealHead {
			// Else hardly an input would get past the checksum.
			b = bytes.Clone(b)
			sum := crc32.Checksum(b[len(sealMagic)+4:], castagnoli)
			copy(b[len(sealMagic):], []byte{byte(sum), byte(sum >> 8), byte(sum >> 16), byte(sum >> 24)})
		}
		s, err := UnmarshalSeal(b)
		if err != nil {
			return
		}
		again, err := UnmarshalSeal(s.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s.m, again.m); diff != "" {
			t.Fatal(diff)
		}
	})
}
