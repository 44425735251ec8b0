package dsc

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dbuild/sign"
)

var (
	born = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	now  = time.Date(2024, 6, 1, 0, 0, 0, 0, time.UTC)
)

const (
	testControl = `# a comment
Source: hello
Section: contrib/devel
Maintainer: Test <test@example.org>
Build-Depends: debhelper-compat (= 13), foo [linux-any] <!nocheck>,
# another comment
 bar | baz
Rules-Requires-Root: no

Package: hello
Architecture: any
Description: greeting

Package: hello-doc
Architecture: all
Description: more
`
	testChangelog = `hello (2.10-3) UNRELEASED; urgency=medium

  * Wip.

 -- Test <test@example.org>  Mon, 01 Jan 2024 00:00:00 +0000

hello (2.10-2) trixie; urgency=medium

  * Done.

 -- Test <test@example.org>  Mon, 01 Jan 2023 00:00:00 +0000
`
)

// member is one file of a test tarball.
type member struct{ name, content string }

func tarGz(t testing.TB, members ...member) string {
	t.Helper()
	var plain bytes.Buffer
	w := tar.NewWriter(&plain)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Mode: 0o644, Size: int64(len(m.content)), Typeflag: tar.TypeReg}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(m.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return gz(t, plain.String())
}

func gz(t testing.TB, s string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// testPackage is a source package on disk: the .dsc and its files.
type testPackage struct {
	dir   string
	name  string // of the .dsc
	text  string // of the .dsc, unsigned
	files map[string]string
}

func (p *testPackage) path() string { return filepath.Join(p.dir, p.name) }

// quilt makes hello 2.10-3 in format 3.0 (quilt).
func quilt(t testing.TB) *testPackage {
	t.Helper()
	return makePackage(t, "3.0 (quilt)", "2.10-3", member{"hello_2.10.orig.tar.gz", tarGz(t, member{"hello-2.10/README", "hi\n"})},
		member{"hello_2.10-3.debian.tar.gz", tarGz(t, member{"debian/changelog", testChangelog}, member{"debian/control", testControl})})
}

// makePackage writes the files of a package, which are name and content, and
// a .dsc that lists them.
func makePackage(t testing.TB, format, version string, files ...member) *testPackage {
	t.Helper()
	_, noEpoch, ok := strings.Cut(version, ":")
	if !ok {
		noEpoch = version
	}
	p := &testPackage{dir: t.TempDir(), name: "hello_" + noEpoch + ".dsc", files: map[string]string{}}
	var f, s1, s256 string
	for _, m := range files {
		p.files[m.name] = m.content
		row := func(sum []byte) string {
			return fmt.Sprintf(" %s %d %s\n", hex.EncodeToString(sum), len(m.content), m.name)
		}
		a, b, c := md5.Sum([]byte(m.content)), sha1.Sum([]byte(m.content)), sha256.Sum256([]byte(m.content))
		f, s1, s256 = f+row(a[:]), s1+row(b[:]), s256+row(c[:])
	}
	p.text = fmt.Sprintf("Format: %s\nSource: hello\nBinary: hello, hello-doc\nArchitecture: any all\nVersion: %s\n"+
		"Maintainer: Test <test@example.org>\nBuild-Depends: debhelper-compat (= 13), foo [linux-any] <!nocheck>, bar | baz\n"+
		"Checksums-Sha1:\n%sChecksums-Sha256:\n%sFiles:\n%s", format, version, s1, s256, f)
	p.write(t)
	return p
}

// write puts everything in place.
func (p *testPackage) write(t testing.TB) {
	t.Helper()
	writeFile(t, p.path(), p.text)
	for name, content := range p.files {
		writeFile(t, filepath.Join(p.dir, name), content)
	}
}

func writeFile(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// edit changes the text of the .dsc.
func (p *testPackage) edit(t testing.TB, old, new string) {
	t.Helper()
	if !strings.Contains(p.text, old) {
		t.Fatalf("the .dsc has no %q", old)
	}
	p.text = strings.ReplaceAll(p.text, old, new)
	writeFile(t, p.path(), p.text)
}

func testSigningKey(t testing.TB) *sign.Key {
	t.Helper()
	key, err := sign.Generate("Maintainer", born)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// listing is what lies in a directory, to see that nothing is left.
func listing(t testing.TB, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}
