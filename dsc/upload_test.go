package dsc

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dbuild/deb"
	"dbuild/internal/fault"
	"dbuild/internal/testenv"
)

const (
	sumA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	sumB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	md5A = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
)

const testChanges = `Format: 1.8
Date: Mon, 01 Jan 2024 00:00:00 +0000
Source: hello
Binary: hello
Architecture: source amd64
Version: 1:2.10-3
Distribution: bookworm
Urgency: Medium (security)
Maintainer: Test <test@example.org>
Changed-By: Test <test@example.org>
Description:
 hello      - greeting
Changes:
 hello (1:2.10-3) bookworm; urgency=medium
 .
   * Done.
Checksums-Sha256:
 ` + sumA + ` 10 hello_2.10-3.dsc
 ` + sumA + ` 20 hello_2.10.orig.tar.gz
 ` + sumA + ` 30 hello_2.10-3_amd64.buildinfo
 ` + sumA + ` 40 hello_2.10-3_amd64.deb
 ` + sumA + ` 50 hello-dbgsym_2.10-3_amd64.deb
Files:
 ` + md5A + ` 10 devel optional hello_2.10-3.dsc
 ` + md5A + ` 20 devel optional hello_2.10.orig.tar.gz
 ` + md5A + ` 30 devel optional hello_2.10-3_amd64.buildinfo
 ` + md5A + ` 40 devel optional hello_2.10-3_amd64.deb
 ` + md5A + ` 50 debug optional hello-dbgsym_2.10-3_amd64.deb
`

const testBuildinfo = `Format: 1.0
Source: hello
Binary: hello
Architecture: amd64 source
Version: 1:2.10-3
Checksums-Sha256:
 ` + sumA + ` 10 hello_2.10-3.dsc
 ` + sumA + ` 40 hello_2.10-3_amd64.deb
 ` + sumA + ` 50 hello-dbgsym_2.10-3_amd64.deb
Build-Origin: Debian
Build-Architecture: amd64
Build-Date: Mon, 01 Jan 2024 00:00:00 +0000
Build-Path: /build/reproducible-path/hello-2.10
Installed-Build-Depends:
 autoconf (= 2.71-3),
 libc6:i386 (= 2.36-9+deb12u3)
Environment:
 LC_ALL="C.UTF-8"
`

func TestReadChanges(t *testing.T) {
	c, err := ReadChanges([]byte(testChanges))
	if err != nil {
		t.Fatal(err)
	}
	if c.Source != "hello" || c.Version.String() != "1:2.10-3" || c.Distribution != "bookworm" || c.Urgency != "medium" ||
		len(c.Files) != 5 || c.Signed || c.Date.Year() != 2024 {
		t.Errorf("read %+v", c)
	}
	if f, ok := c.File(".dsc"); !ok || f.Size != 10 {
		t.Errorf("the .dsc is %+v, %v", f, ok)
	}
	if _, ok := c.File(".deb"); ok {
		t.Error("two .deb files taken for one")
	}
	signed, err := testSigningKey(t).Clearsign([]byte(testChanges), now)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := ReadChanges(signed); err != nil || !c.Signed {
		t.Errorf("signed: %v", err)
	}
	if _, err := ReadChanges(append([]byte("Evil: 1\n"), signed...)); fault.ClassOf(err) != fault.Trust {
		t.Errorf("text before the signature: %v", err)
	}
	binNMU := strings.NewReplacer("Source: hello\n", "Source: hello (1:2.10-3)\n", "Version: 1:2.10-3", "Version: 1:2.10-3+b1").Replace(dropDsc(testChanges))
	binNMU = strings.ReplaceAll(binNMU, "hello_2.10-3_amd64.buildinfo", "hello_2.10-3+b1_amd64.buildinfo")
	if c, err := ReadChanges([]byte(binNMU)); err != nil || c.SourceVersion.String() != "1:2.10-3" || c.Version.Revision != "3+b1" {
		t.Errorf("binNMU: %v", err)
	}
}

// dropDsc makes a binary upload of a full one.
func dropDsc(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasSuffix(line, ".dsc\n") && !strings.HasSuffix(line, ".orig.tar.gz\n") {
			out.WriteString(line)
		}
	}
	return strings.Replace(out.String(), "Architecture: source amd64", "Architecture: amd64", 1)
}

// TestReadChangesRefuses has the rows B19 to B31 that can be told from the
// document alone.
func TestReadChangesRefuses(t *testing.T) {
	tests := []struct{ name, old, new string }{
		{"B19 no SHA-256", "Checksums-Sha256", "Checksums-Sha999"},
		{"B19 lists differ", " " + md5A + " 20 devel optional hello_2.10.orig.tar.gz\n", ""},
		{"B19 sizes differ", "\n " + md5A + " 20 ", "\n " + md5A + " 21 "},
		{"B19 field twice", "Source: hello\n", "Source: hello\nSource: hello\n"},
		{"B19 path", "hello_2.10.orig.tar.gz", "../hello_2.10.orig.tar.gz"},
		{"B19 name of the .dsc", "hello_2.10-3.dsc", "hello_2.10-4.dsc"},
		{"B19 name of the .buildinfo", "hello_2.10-3_amd64.buildinfo", "other_2.10-3_amd64.buildinfo"},
		{"B19 source", "Source: hello", "Source: ../hello"},
		{"B19 source version", "Source: hello\n", "Source: hello (x)\n"},
		{"B19 version", "Version: 1:2.10-3", "Version: 1:2.10/3"},
		{"B20 lists a .changes", "hello_2.10.orig.tar.gz", "hello_2.10-3_amd64.changes"},
		{"B20 lists a file twice", "hello_2.10.orig.tar.gz", "hello_2.10-3.dsc"},
		{"B20 no files", testChanges[strings.Index(testChanges, " "+sumA):], ""},
		{"B20 empty file", " 40 ", " 0 "},
		{"B23 no distribution", "Distribution: bookworm\n", ""},
		{"B23 two", "Distribution: bookworm", "Distribution: bookworm sid"},
		{"B23 path", "Distribution: bookworm", "Distribution: ../stable"},
		{"B24 source without .dsc", "hello_2.10-3.dsc", "hello_2.10-3.tar.gz"},
		{"B24 .dsc without source", "Architecture: source amd64", "Architecture: amd64"},
		{"B25 binary not listed", "Binary: hello", "Binary: other"},
		{"B26 architecture", "hello_2.10-3_amd64.deb", "hello_2.10-3_arm64.deb"},
		{"B26 name of a .deb", "hello_2.10-3_amd64.deb", "hello_amd64.deb"},
		{"B26 version of a .deb", "hello_2.10-3_amd64.deb", "hello_x_amd64.deb"},
		{"B31 no section", " devel optional hello_2.10.orig.tar.gz", " hello_2.10.orig.tar.gz"},
		{"B31 a column too many", " devel optional hello_2.10.orig.tar.gz", " devel optional x hello_2.10.orig.tar.gz"},
		{"unknown architecture", "Architecture: source amd64", "Architecture: source amd64 any"},
		{"architecture twice", "Architecture: source amd64", "Architecture: source amd64 amd64"},
		{"format", "Format: 1.8", "Format: 3.0 (quilt)"},
		{"date", "Date: Mon, 01 Jan 2024", "Date: yesterday"},
		{"no maintainer", "\nMaintainer: Test <test@example.org>", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			doc := strings.ReplaceAll(testChanges, tt.old, tt.new)
			if doc == testChanges {
				t.Fatalf("no %q in the document", tt.old)
			}
			if _, err := ReadChanges([]byte(doc)); fault.ClassOf(err) != fault.Input {
				t.Errorf("error is %v, class %q", err, fault.ClassOf(err))
			}
		})
	}
	if _, err := ReadChanges(nil); fault.ClassOf(err) != fault.Input {
		t.Errorf("empty: %v", err)
	}
}

func TestReadBuildinfo(t *testing.T) {
	b, err := ReadBuildinfo([]byte(testBuildinfo))
	if err != nil {
		t.Fatal(err)
	}
	want := []Installed{{"autoconf", "", "2.71-3"}, {"libc6", "i386", "2.36-9+deb12u3"}}
	if b.BuildArch != "amd64" || b.BuildPath == "" || len(b.Installed) != 2 || b.Installed[0] != want[0] || b.Installed[1] != want[1] {
		t.Errorf("read %+v", b)
	}
	c, err := ReadChanges([]byte(testChanges))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Agrees(c); err != nil {
		t.Error(err)
	}
	disagree := map[string]func(){
		"B30 source":   func() { b.Source = "other" },
		"B30 checksum": func() { b.Files[1].SHA256 = sumB },
		"B30 missing":  func() { b.Files = b.Files[:2] },
	}
	for name, change := range disagree {
		if b, err = ReadBuildinfo([]byte(testBuildinfo)); err != nil {
			t.Fatal(err)
		}
		change()
		if err := b.Agrees(c); fault.ClassOf(err) != fault.Input {
			t.Errorf("%s: %v", name, err)
		}
	}
	if strings.Contains(testBuildinfo, "Build-Path") {
		noPath := strings.Replace(testBuildinfo, "Build-Path: /build/reproducible-path/hello-2.10\n", "", 1)
		if b, err := ReadBuildinfo([]byte(noPath)); err != nil || b.BuildPath != "" {
			t.Errorf("without a path: %v", err)
		}
	}
}

func TestReadBuildinfoRefuses(t *testing.T) {
	const path = "Build-Path: /build/reproducible-path/hello-2.10"
	tests := []struct{ name, old, new string }{
		{"B30 path empty", path, "Build-Path:"},
		{"B30 path relative", path, "Build-Path: build"},
		{"B30 path with dots", path, "Build-Path: /build/../etc"},
		{"B30 path with quotes", path, `Build-Path: /build/"x`},
		{"B30 path with a command", path, "Build-Path: /build/$(id)"},
		{"B30 a million packages", " autoconf (= 2.71-3),\n", strings.Repeat(" a (= 1),\n", 1_000_000)},
		{"many packages", " autoconf (= 2.71-3),\n", strings.Repeat(" aa (= 1),\n", maxInstalled+1)},
		{"package without version", "autoconf (= 2.71-3)", "autoconf"},
		{"alternatives", "autoconf (= 2.71-3)", "autoconf (= 2.71-3) | b (= 1)"},
		{"no SHA-256", "Checksums-Sha256", "Checksums-Md5"},
		{"machine", "Build-Architecture: amd64", "Build-Architecture: any"},
		{"format", "Format: 1.0", "Format: 0.2"},
		{"source without .dsc", " " + sumA + " 10 hello_2.10-3.dsc\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			doc := strings.ReplaceAll(testBuildinfo, tt.old, tt.new)
			if doc == testBuildinfo {
				t.Fatalf("no %q in the document", tt.old)
			}
			if _, err := ReadBuildinfo([]byte(doc)); fault.ClassOf(err) != fault.Input {
				t.Errorf("error is %v, class %q", err, fault.ClassOf(err))
			}
		})
	}
}

// TestReadFile is B22.
func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a.changes")
	writeFile(t, file, testChanges)
	if b, err := ReadFile(file, 1<<20); err != nil || string(b) != testChanges {
		t.Errorf("read: %v", err)
	}
	paths := map[string]string{"directory": dir, "missing": filepath.Join(dir, "none"), "device": "/dev/zero"}
	put := func(name string, make func(path string) error) {
		paths[name] = filepath.Join(dir, name)
		if err := make(paths[name]); err != nil {
			t.Fatal(err)
		}
	}
	put("link", func(p string) error { return os.Symlink(file, p) })
	put("fifo", func(p string) error { return unix.Mkfifo(p, 0o600) })
	put("empty", func(p string) error { return os.WriteFile(p, nil, 0o600) })
	put("large", func(p string) error { return os.WriteFile(p, make([]byte, 1<<20+1), 0o600) })
	for name, path := range paths {
		if _, err := ReadFile(path, 1<<20); fault.ClassOf(err) != fault.Input {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDpkgGenchanges reads what the real tools write.
func TestDpkgGenchanges(t *testing.T) {
	for _, tool := range []string{"dpkg-source", "dpkg-genchanges", "dpkg-genbuildinfo", "dpkg-architecture"} {
		testenv.NeedProgram(t, tool)
	}
	top := t.TempDir()
	tree := filepath.Join(top, "hello")
	writeFile(t, filepath.Join(tree, "debian/control"), strings.Replace(testControl, "debhelper-compat (= 13), ", "", 1))
	writeFile(t, filepath.Join(tree, "debian/changelog"), strings.ReplaceAll(testChangelog, "2.10-3", "2.10"))
	writeFile(t, filepath.Join(tree, "debian/source/format"), "3.0 (native)\n")
	run := func(dir, program string, args ...string) string {
		cmd := exec.Command(program, args...)
		cmd.Dir = dir
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", program, err)
		}
		return string(out)
	}
	run(top, "dpkg-source", "-b", tree)
	run(tree, "dpkg-genbuildinfo", "--build=source")
	text := run(tree, "dpkg-genchanges", "--build=source", "-q")
	c, err := ReadChanges([]byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	f, ok := c.File(".buildinfo")
	if !ok {
		t.Fatalf("no .buildinfo in %+v", c.Files)
	}
	doc, err := ReadFile(filepath.Join(top, f.Name), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	b, err := ReadBuildinfo(doc)
	if err != nil {
		t.Fatalf("%v\n%s", err, doc)
	}
	if err := b.Agrees(c); err != nil || c.Distribution != "UNRELEASED" {
		t.Errorf("%v, distribution %q", err, c.Distribution)
	}
}

// checkAccepted is what the fuzz targets demand of every document that passes.
func checkAccepted(t *testing.T, files []deb.File) {
	t.Helper()
	seen := make(map[string]bool)
	for _, f := range files {
		if deb.CheckFileName(f.Name) != nil || len(f.SHA256) != 64 || f.Size <= 0 || seen[f.Name] {
			t.Errorf("accepted %+v", f)
		}
		seen[f.Name] = true
	}
	if len(files) == 0 {
		t.Error("accepted without files")
	}
}

// checkRefused demands one of the two classes.
func checkRefused(t *testing.T, err error) {
	t.Helper()
	if c := fault.ClassOf(err); c != fault.Input && c != fault.Trust {
		t.Errorf("class %q: %v", c, err)
	}
}

func FuzzDsc(f *testing.F) {
	p := quilt(f)
	signed, err := testSigningKey(f).Clearsign([]byte(p.text), now)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(p.text))
	f.Add(signed)
	f.Add([]byte(strings.Replace(p.text, "3.0 (quilt)", "1.0", 1)))
	f.Fuzz(func(t *testing.T, doc []byte) {
		s, err := parse(doc, "hello_2.10-3.dsc", Options{})
		if err != nil {
			checkRefused(t, err)
			return
		}
		var files []deb.File
		for _, f := range s.Files {
			files = append(files, deb.File{Name: f.Name, Size: f.Size, SHA256: f.SHA256})
			if !strings.HasPrefix(f.Name, s.Name+"_") {
				t.Errorf("file %q of %s", f.Name, s.Name)
			}
		}
		checkAccepted(t, files)
	})
}

func FuzzChanges(f *testing.F) {
	f.Add([]byte(testChanges))
	f.Add([]byte(dropDsc(testChanges)))
	f.Fuzz(func(t *testing.T, doc []byte) {
		c, err := ReadChanges(doc)
		if err != nil {
			checkRefused(t, err)
			return
		}
		checkAccepted(t, c.Files)
	})
}

func FuzzBuildinfo(f *testing.F) {
	f.Add([]byte(testBuildinfo))
	f.Fuzz(func(t *testing.T, doc []byte) {
		b, err := ReadBuildinfo(doc)
		if err != nil {
			checkRefused(t, err)
			return
		}
		checkAccepted(t, b.Files)
	})
}
