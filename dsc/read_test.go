package dsc

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dbuild/internal/fault"
	"dbuild/internal/testenv"
	"dbuild/sign"
)

func TestRead(t *testing.T) {
	p := quilt(t)
	s, err := Read(t.Context(), p.path(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if s.Name != "hello" || s.Version.String() != "2.10-3" || s.Format != "3.0 (quilt)" || len(s.Files) != 2 || s.Component != "main" {
		t.Errorf("read %+v", s)
	}
	if strings.Join(s.Binary, " ") != "hello hello-doc" || strings.Join(s.Architecture, " ") != "any all" {
		t.Errorf("binaries %q, architectures %q", s.Binary, s.Architecture)
	}
	if s.Signature.State != Unsigned {
		t.Errorf("signature %+v", s.Signature)
	}
	if d := s.BuildDepends(); !strings.Contains(d.Depends, "foo [linux-any] <!nocheck>") || d.Arch != "" || d.Note != "" {
		t.Errorf("build dependencies %+v", d)
	}
	for _, f := range s.AllFiles() {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			t.Errorf("read %s again: %v", f.Name, err)
		}
		r.Close()
	}
}

// TestReadRefuses has the rows B02 and B04 to B12, and B18, of the list of bad
// inputs.
func TestReadRefuses(t *testing.T) {
	const orig, debian = "hello_2.10.orig.tar.gz", "hello_2.10-3.debian.tar.gz"
	edit := func(old, new string) func(*testing.T, *testPackage) {
		return func(t *testing.T, p *testPackage) { p.edit(t, old, new) }
	}
	// replace puts something else in the place of the tarball.
	replace := func(put func(path string) error) func(*testing.T, *testPackage) {
		return func(t *testing.T, p *testPackage) {
			path := filepath.Join(p.dir, orig)
			if err := os.Rename(path, filepath.Join(p.dir, "aside")); err != nil {
				t.Fatal(err)
			}
			if err := put(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	content := func(name, content string) func(*testing.T, *testPackage) {
		return func(t *testing.T, p *testPackage) { writeFile(t, filepath.Join(p.dir, name), content) }
	}
	// rehash lists content in place of the file, with right checksums.
	relist := func(members ...member) func(*testing.T, *testPackage) {
		return func(t *testing.T, p *testPackage) {
			q := makePackage(t, "3.0 (quilt)", "2.10-3", members...)
			p.dir, p.text, p.files = q.dir, q.text, q.files
		}
	}
	tarball := tarGz(t, member{"x", "y"})
	good := []member{{orig, tarball}, {debian, tarball}}
	flip := func(field string) func(*testing.T, *testPackage) {
		return func(t *testing.T, p *testPackage) {
			head, tail, ok := strings.Cut(p.text, field+":\n ")
			if !ok {
				t.Fatalf("no field %s", field)
			}
			digit := "0"
			if tail[0] == '0' {
				digit = "1"
			}
			p.text = head + field + ":\n " + digit + tail[1:]
			writeFile(t, p.path(), p.text)
		}
	}
	rename := func(name string) func(*testing.T, *testPackage) { return edit(orig, name) }
	tests := []struct {
		name   string
		change func(*testing.T, *testPackage)
		want   fault.Class
	}{
		{"B04 no SHA-256", edit("Checksums-Sha256", "Checksums-Sha999"), fault.Input},
		{"B05 MD5 differs", flip("Files"), fault.Trust},
		{"B05 SHA-1 differs", flip("Checksums-Sha1"), fault.Trust},
		{"B05 SHA-256 differs", flip("Checksums-Sha256"), fault.Trust},
		{"B05 file is longer", content(orig, tarGz(t, member{"hello-2.10/README", "hi\n"})+"x"), fault.Trust},
		{"B05 file is shorter", content(orig, tarball[:len(tarball)-4]), fault.Trust},
		{"B06 lists differ", edit("Files:\n", "Files:\n 00000000000000000000000000000000 1 extra\n"), fault.Input},
		{"B07 field twice", edit("Source: hello\n", "Source: hello\nsource: other\n"), fault.Input},
		{"B07 file twice", relist(good[0], good[0], good[1]), fault.Input},
		{"B08 slash", rename("../hello_2.10.orig.tar.gz"), fault.Input},
		{"B08 absolute", rename("/etc/passwd"), fault.Input},
		{"B08 dots", rename(".."), fault.Input},
		{"B08 dash", rename("-hello_2.10.orig.tar.gz"), fault.Input},
		{"B08 leading dot", rename(".hello_2.10.orig.tar.gz"), fault.Input},
		{"B08 NUL", rename("hello_2.10\x00.orig.tar.gz"), fault.Input},
		{"B08 newline", rename("hello_2.10\n.orig.tar.gz"), fault.Input},
		{"B08 blank", rename("hello_2.10 .orig.tar.gz"), fault.Input},
		{"B08 not ASCII", rename("hello_2.10.örig.tar.gz"), fault.Input},
		{"B08 long", rename(strings.Repeat("h", 300) + "_2.10.orig.tar.gz"), fault.Input},
		{"B09 other source", rename("hallo_2.10.orig.tar.gz"), fault.Input},
		{"B09 other version", rename("hello_2.11.orig.tar.gz"), fault.Input},
		{"B09 revision in the tarball", rename("hello_2.10-3.orig.tar.gz"), fault.Input},
		{"B09 the .dsc itself", func(t *testing.T, p *testPackage) {
			p.name = "hello.dsc"
			writeFile(t, p.path(), p.text)
		}, fault.Input},
		{"B10 source", edit("Source: hello", "Source: Hello"), fault.Input},
		{"B10 source with path", edit("Source: hello", "Source: ../hello"), fault.Input},
		{"B10 no source", edit("Source: hello\n", ""), fault.Input},
		{"B10 epoch text", edit("Version: 2.10-3", "Version: a:2.10-3"), fault.Input},
		{"B10 version with slash", edit("Version: 2.10-3", "Version: 2.10/3"), fault.Input},
		{"B10 version empty", edit("Version: 2.10-3", "Version:"), fault.Input},
		{"B10 version long", edit("Version: 2.10-3", "Version: "+strings.Repeat("1", 1000)), fault.Input},
		{"B10 format unknown", edit("3.0 (quilt)", "4.0 (magic)"), fault.Input},
		{"B10 format git", edit("3.0 (quilt)", "3.0 (git)"), fault.Input},
		{"B10 no format", edit("Format: 3.0 (quilt)\n", ""), fault.Input},
		{"B10 1.0 with extra tarballs", edit("Format: 3.0 (quilt)", "Format: 1.0"), fault.Input},
		{"B10 native with two tarballs", edit("Format: 3.0 (quilt)", "Format: 3.0 (native)"), fault.Input},
		{"B10 quilt without orig", relist(good[1]), fault.Input},
		{"B10 quilt with two origs", relist(good[0], member{"hello_2.10.orig.tar.bz2", "BZh9"}, good[1]), fault.Input},
		{"B10 signature without tarball", relist(good[0], good[1], member{"hello_2.10.orig.tar.xz.asc", "x"}), fault.Input},
		{"B11 missing", replace(func(string) error { return nil }), fault.Input},
		{"B11 directory", replace(func(path string) error { return os.Mkdir(path, 0o755) }), fault.Input},
		{"B11 symbolic link", replace(func(path string) error { return os.Symlink("aside", path) }), fault.Input},
		{"B11 dangling link", replace(func(path string) error { return os.Symlink("none", path) }), fault.Input},
		{"B11 FIFO", replace(func(path string) error { return unix.Mkfifo(path, 0o600) }), fault.Input},
		{"B11 socket", replace(func(path string) error {
			l, err := net.Listen("unix", path)
			if err == nil {
				t.Cleanup(func() { l.Close() })
			}
			return err
		}), fault.Input},
		{"B11 sparse", func(t *testing.T, p *testPackage) {
			if err := os.Truncate(filepath.Join(p.dir, orig), 1<<40); err != nil {
				t.Skip(err)
			}
		}, fault.Trust},
		{"B11 sparse and listed so", func(t *testing.T, p *testPackage) {
			if err := os.Truncate(filepath.Join(p.dir, orig), 1<<40); err != nil {
				t.Skip(err)
			}
			p.edit(t, " "+itoa(len(p.files[orig]))+" "+orig, " 1099511627776 "+orig)
		}, fault.Input},
		{"B12 wrong suffix", relist(member{"hello_2.10.orig.tar.xz", tarball}, good[1]), fault.Input},
		{"B12 empty", relist(member{orig, ""}, good[1]), fault.Input},
		{"B17 only comments", content("hello_2.10-3.dsc", "# nothing\n"), fault.Input},
		{"B17 large field", edit("Maintainer: ", "Maintainer: "+strings.Repeat("x", 5<<20)), fault.Input},
		{"B17 too large", content("hello_2.10-3.dsc", strings.Repeat("x", sign.MaxDocument+1)), fault.Input},
		{"B18 syntax", edit("bar | baz", "bar (>>> 2"), fault.Input},
		{"B18 substitution", edit("bar | baz", "${shlibs:Depends}"), fault.Input},
		{"B18 in conflicts", edit("Build-Depends", "Build-Conflicts: ((\nBuild-Depends"), fault.Input},
		{"architecture", edit("any all", "any; rm"), fault.Input},
		{"binary", edit("hello-doc", "Hello_doc"), fault.Input},
		{"two paragraphs", edit("Format:", "A: b\n\nFormat:"), fault.Input},
		{"signature alone", edit("Format:", "-----BEGIN PGP SIGNATURE-----\nFormat:"), fault.Input},
		{"empty .dsc", content("hello_2.10-3.dsc", ""), fault.Input},
		{"no .dsc", func(t *testing.T, p *testPackage) { p.name = "none.dsc" }, fault.Input},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := quilt(t)
			tt.change(t, p)
			before := listing(t, p.dir)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			s, err := Read(ctx, p.path(), Options{})
			if s != nil && err == nil || fault.ClassOf(err) != tt.want {
				t.Errorf("error is %v, class %q, want %q", err, fault.ClassOf(err), tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("error has several lines: %q", err)
			}
			if after := listing(t, p.dir); after != before {
				t.Errorf("left behind: %s, before: %s", after, before)
			}
		})
	}
}

// TestReadKinds: a .dsc that is itself no regular file.
func TestReadKinds(t *testing.T) {
	p := quilt(t)
	link := filepath.Join(t.TempDir(), "hello_2.10-3.dsc")
	if err := os.Symlink(p.path(), link); err != nil {
		t.Fatal(err)
	}
	if s, err := Read(t.Context(), link, Options{}); err != nil || s.Dsc.Path != p.path() {
		t.Errorf("through a link: %v", err)
	}
	fifo := filepath.Join(t.TempDir(), "hello_2.10-3.dsc")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, p.dir, "/dev/null"} {
		if _, err := Read(t.Context(), path, Options{}); fault.ClassOf(err) != fault.Input {
			t.Errorf("%s: %v", path, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Read(ctx, p.path(), Options{}); fault.ClassOf(err) != fault.Interrupted {
		t.Errorf("cancelled: %v", err)
	}
}

// TestSignature is B01 to B03.
func TestSignature(t *testing.T) {
	key, other := testSigningKey(t), testSigningKey(t)
	p := quilt(t)
	signed, err := key.Clearsign([]byte(p.text), now)
	if err != nil {
		t.Fatal(err)
	}
	ring, otherRing := key.Keyring(), other.Keyring()
	changed := strings.Replace(string(signed), "Test <test@", "Evil <evil@", 1)
	tests := []struct {
		name  string
		doc   string
		o     Options
		state State
		want  error
	}{
		{"unsigned", p.text, Options{Keyring: ring}, Unsigned, nil},
		{"B01 unsigned, required", p.text, Options{Keyring: ring, RequireSignature: true}, "", sign.ErrUnsigned},
		{"good", string(signed), Options{Keyring: ring, RequireSignature: true}, Good, nil},
		{"good, key allowed", string(signed), Options{Keyring: ring, Allowed: []string{key.Fingerprint()}}, Good, nil},
		{"key not allowed", string(signed), Options{Keyring: ring, Allowed: []string{other.Fingerprint()}}, NotAllowed, nil},
		{"key not allowed, required", string(signed), Options{Keyring: ring, Allowed: []string{other.Fingerprint()}, RequireSignature: true}, "", sign.ErrNotAllowed},
		{"no keyring", string(signed), Options{}, Unverified, nil},
		{"unknown key", string(signed), Options{Keyring: otherRing}, UnknownKey, nil},
		{"B03 unknown key, required", string(signed), Options{Keyring: otherRing, RequireSignature: true}, "", sign.ErrUnknownKey},
		{"text changed", changed, Options{Keyring: ring}, "", sign.ErrBadSignature},
		{"B02 text before", "Evil: 1\n" + string(signed), Options{}, "", sign.ErrFraming},
		{"B02 text after", string(signed) + "Evil: 1\n", Options{}, "", sign.ErrFraming},
		{"B02 two blocks", string(signed) + string(signed), Options{}, "", sign.ErrFraming},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.o.Now = now
			writeFile(t, p.path(), tt.doc)
			s, err := Read(t.Context(), p.path(), tt.o)
			if !errors.Is(err, tt.want) || err != nil && fault.ClassOf(err) != fault.Trust {
				t.Fatalf("error is %v, class %q, want %v", err, fault.ClassOf(err), tt.want)
			}
			if err == nil && s.Signature.State != tt.state {
				t.Errorf("signature %+v, want state %q", s.Signature, tt.state)
			}
		})
	}
	writeFile(t, p.path(), string(signed))
	if _, err := Read(t.Context(), p.path(), Options{RequireSignature: true}); fault.ClassOf(err) != fault.Trust {
		t.Errorf("signature required without a keyring: %v", err)
	}
	for reason, state := range map[error]State{sign.ErrKeyExpired: ExpiredKey, sign.ErrKeyRevoked: RevokedKey,
		sign.ErrWeak: Weak, sign.ErrKeyUnusable: Unusable, sign.ErrSignatureTime: Unusable} {
		if got := stateOf(reason); got != state {
			t.Errorf("state of %v is %q", reason, got)
		}
	}
}

// TestOpenAfterChange: what changes between Read and use is noticed.
func TestOpenAfterChange(t *testing.T) {
	p := quilt(t)
	s, err := Read(t.Context(), p.path(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	f := s.Files[0]
	bytes := []byte(p.files[f.Name])
	bytes[len(bytes)/2] ^= 1
	writeFile(t, f.Path, string(bytes))
	r, err := f.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, r); fault.ClassOf(err) != fault.Trust {
		t.Errorf("a changed byte: %v", err)
	}
	writeFile(t, f.Path, string(bytes)+"x")
	if _, err := f.Open(); fault.ClassOf(err) != fault.Trust {
		t.Errorf("another size: %v", err)
	}
}

func TestLayout(t *testing.T) {
	tarball := tarGz(t, member{"x", "y"})
	bz := "BZh91AY&SY"
	tests := []struct {
		name, format, version string
		files                 []member
		ok                    bool
	}{
		{"1.0 native", "1.0", "2.10", []member{{"hello_2.10.tar.gz", tarball}}, true},
		{"1.0 with diff", "1.0", "2.10-3", []member{{"hello_2.10.orig.tar.gz", tarball}, {"hello_2.10-3.diff.gz", tarball}}, true},
		{"1.0 with signature", "1.0", "2.10-3", []member{{"hello_2.10.orig.tar.gz", tarball}, {"hello_2.10.orig.tar.gz.asc", "x"}, {"hello_2.10-3.diff.gz", tarball}}, true},
		{"1.0 with bzip2", "1.0", "2.10", []member{{"hello_2.10.tar.bz2", bz}}, false},
		{"1.0 with the diff alone", "1.0", "2.10-3", []member{{"hello_2.10-3.diff.gz", tarball}}, false},
		{"native with epoch", "3.0 (native)", "1:2.10", []member{{"hello_2.10.tar.gz", tarball}}, true},
		{"native with epoch in the name", "3.0 (native)", "1:2.10", []member{{"hello_1:2.10.tar.gz", tarball}}, false},
		{"native with signature", "3.0 (native)", "2.10", []member{{"hello_2.10.tar.gz", tarball}, {"hello_2.10.tar.gz.asc", "x"}}, false},
		{"quilt with components", "3.0 (quilt)", "2.10-3", []member{{"hello_2.10.orig.tar.gz", tarball}, {"hello_2.10.orig-a.tar.gz", tarball},
			{"hello_2.10.orig-b-c.tar.bz2", bz}, {"hello_2.10.orig-a.tar.gz.asc", "x"}, {"hello_2.10-3.debian.tar.gz", tarball}}, true},
		{"quilt with one component twice", "3.0 (quilt)", "2.10-3", []member{{"hello_2.10.orig.tar.gz", tarball}, {"hello_2.10.orig-a.tar.gz", tarball},
			{"hello_2.10.orig-a.tar.bz2", bz}, {"hello_2.10-3.debian.tar.gz", tarball}}, false},
		{"quilt with a signed debian tarball", "3.0 (quilt)", "2.10-3", []member{{"hello_2.10.orig.tar.gz", tarball}, {"hello_2.10-3.debian.tar.gz", tarball},
			{"hello_2.10-3.debian.tar.gz.asc", "x"}}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := makePackage(t, tt.format, tt.version, tt.files...)
			if _, err := Read(t.Context(), p.path(), Options{}); (err == nil) != tt.ok {
				t.Errorf("error is %v", err)
			}
		})
	}
}

// TestDpkgSource reads what the real dpkg-source writes.
func TestDpkgSource(t *testing.T) {
	testenv.NeedProgram(t, "dpkg-source")
	top := t.TempDir()
	tree := filepath.Join(top, "hello-2.10")
	writeFile(t, filepath.Join(tree, "README"), "hi\n")
	writeFile(t, filepath.Join(top, "hello_2.10.orig.tar.gz"), tarGz(t, member{"hello-2.10/README", "hi\n"}))
	writeFile(t, filepath.Join(tree, "debian/control"), testControl)
	writeFile(t, filepath.Join(tree, "debian/changelog"), testChangelog)
	writeFile(t, filepath.Join(tree, "debian/source/format"), "3.0 (quilt)\n")
	cmd := exec.Command("dpkg-source", "-b", tree)
	cmd.Dir = top
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("dpkg-source: %v\n%s", err, out)
	}
	s, err := Read(t.Context(), filepath.Join(top, "hello_2.10-3.dsc"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	fromTree, err := ReadTree(t.Context(), tree)
	if err != nil {
		t.Fatal(err)
	}
	if s.Name != fromTree.Name || s.Version != fromTree.Version || s.Format != fromTree.Format ||
		strings.Join(s.Binary, " ") != strings.Join(fromTree.Binary, " ") {
		t.Errorf("the .dsc says %+v, the tree %+v", s, fromTree)
	}
	if err := s.ReadPackaging(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := Suite(s.Changelog); got != "trixie" || s.RulesRequiresRoot() != "no" {
		t.Errorf("suite %q, Rules-Requires-Root %q", got, s.RulesRequiresRoot())
	}
}
