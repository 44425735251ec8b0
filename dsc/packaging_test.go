package dsc

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dbuild/internal/fault"
)

func itoa(n int) string { return strconv.Itoa(n) }

// newFile is a hunk of a .diff.gz that creates a file.
func newFile(name, content string) string {
	var b strings.Builder
	count := strings.Count(content, "\n")
	fmt.Fprintf(&b, "--- hello-2.10.orig/%[1]s\n+++ hello-2.10/%[1]s\n@@ -0,0 +1,%[2]d @@\n", name, count)
	for line := range strings.Lines(content) {
		b.WriteString("+" + line)
	}
	return b.String()
}

func TestReadPackaging(t *testing.T) {
	debian := []member{{"debian/changelog", testChangelog}, {"debian/control", testControl}}
	under := func(dir string) []member {
		return []member{{dir + "debian/control", testControl}, {dir + "debian/changelog", testChangelog}}
	}
	quilted := func(m ...member) []member {
		return []member{{"hello_2.10.orig.tar.gz", tarGz(t, member{"x", "y"})}, {"hello_2.10-3.debian.tar.gz", tarGz(t, m...)}}
	}
	diff := "--- hello-2.10.orig/README\n+++ hello-2.10/README\n@@ -1 +1 @@\n-hi\n+ho\n" +
		newFile("debian/changelog", testChangelog) + newFile("debian/control", testControl)
	old := func(diff string) []member {
		return []member{{"hello_2.10.orig.tar.gz", tarGz(t, member{"x", "y"})}, {"hello_2.10-3.diff.gz", gz(t, diff)}}
	}
	other := strings.Replace(testControl, "Source: hello", "Source: other", 1)
	tests := []struct {
		name, format, version string
		files                 []member
		want                  fault.Class
	}{
		{"quilt", "3.0 (quilt)", "2.10-3", quilted(debian...), fault.OK},
		{"quilt, dot paths", "3.0 (quilt)", "2.10-3", quilted(under("./")...), fault.OK},
		{"native", "3.0 (native)", "2.10", []member{{"hello_2.10.tar.gz", tarGz(t, under("any-dir/")...)}}, fault.OK},
		{"1.0 with diff", "1.0", "2.10-3", old(diff), fault.OK},
		{"1.0 native", "1.0", "2.10", []member{{"hello_2.10.tar.gz", tarGz(t, under("hello/")...)}}, fault.OK},
		{"nothing inside", "3.0 (quilt)", "2.10-3", quilted(member{"debian/rules", "x"}), fault.Input},
		{"control of another package", "3.0 (quilt)", "2.10-3", quilted(debian[0], member{"debian/control", other}), fault.Input},
		{"too deep", "3.0 (quilt)", "2.10-3", quilted(under("hello/")...), fault.Input},
		{"not a tarball", "3.0 (native)", "2.10", []member{{"hello_2.10.tar.gz", gz(t, "hello")}}, fault.Input},
		{"truncated tarball", "3.0 (native)", "2.10", []member{{"hello_2.10.tar.gz", tarGz(t, member{"a", strings.Repeat("x", 9000)})[:60]}}, fault.Input},
		{"truncated diff", "1.0", "2.10-3", old(newFile("debian/control", testControl)[:200]), fault.Input},
		{"B13 bomb", "3.0 (native)", "2.10", []member{{"hello_2.10.tar.gz", tarGz(t, append([]member{{"a", strings.Repeat("\x00", 140<<20)}}, under("h/")...)...)}}, fault.Resource},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := makePackage(t, tt.format, tt.version, tt.files...)
			s, err := Read(t.Context(), p.path(), Options{})
			if err != nil {
				t.Fatal(err)
			}
			err = s.ReadPackaging(t.Context())
			if fault.ClassOf(err) != tt.want {
				t.Fatalf("error is %v, class %q, want %q", err, fault.ClassOf(err), tt.want)
			}
			if err == nil && (Suite(s.Changelog) != "trixie" || s.RulesRequiresRoot() != "no" || len(s.Binaries) != 2) {
				t.Errorf("read %+v", s.Packaging)
			}
		})
	}
}

// tree writes an unpacked package.
func tree(t *testing.T, format string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "hello")
	writeFile(t, filepath.Join(dir, "debian/control"), testControl)
	writeFile(t, filepath.Join(dir, "debian/changelog"), testChangelog)
	if format != "" {
		writeFile(t, filepath.Join(dir, "debian/source/format"), format+"\n")
	}
	return dir
}

func TestReadTree(t *testing.T) {
	dir := tree(t, "3.0 (quilt)")
	s, err := ReadTree(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if s.Name != "hello" || s.Version.String() != "2.10-3" || s.Format != "3.0 (quilt)" || s.Tree != dir || s.Component != "contrib" {
		t.Errorf("read %+v", s)
	}
	if strings.Join(s.Architecture, " ") != "all any" || strings.Join(s.Binary, " ") != "hello hello-doc" || len(s.AllFiles()) != 0 {
		t.Errorf("architectures %q, binaries %q, files %v", s.Architecture, s.Binary, s.AllFiles())
	}
	if s.Entry().Maintainer == "" || s.RulesRequiresRoot() != "no" || !strings.Contains(s.BuildDepends().Depends, "bar | baz") {
		t.Errorf("entry %+v, build dependencies %+v", s.Entry(), s.BuildDepends())
	}
	if s, err := ReadTree(t.Context(), tree(t, "")); err != nil || s.Format != "1.0" {
		t.Errorf("without debian/source/format: %v", err)
	}
}

// TestReadTreeRefuses is B16 and B17.
func TestReadTreeRefuses(t *testing.T) {
	outside := t.TempDir()
	writeFile(t, filepath.Join(outside, "control"), testControl)
	writeFile(t, filepath.Join(outside, "changelog"), testChangelog)
	replace := func(name string, put func(path string) error) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			path := filepath.Join(dir, name)
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			if err := put(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	write := func(name, content string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { writeFile(t, filepath.Join(dir, name), content) }
	}
	tests := []struct {
		name   string
		change func(*testing.T, string)
	}{
		{"no debian", replace("debian", func(string) error { return nil })},
		{"no changelog", replace("debian/changelog", func(string) error { return nil })},
		{"debian leads out", replace("debian", func(p string) error { return os.Symlink(outside, p) })},
		{"control leads out", replace("debian/control", func(p string) error { return os.Symlink("../../../etc/passwd", p) })},
		{"control is absolute", replace("debian/control", func(p string) error { return os.Symlink(filepath.Join(outside, "control"), p) })},
		{"link loop", replace("debian", func(p string) error { return os.Symlink("debian", p) })},
		{"FIFO", replace("debian/changelog", func(p string) error { return unix.Mkfifo(p, 0o600) })},
		{"directory", replace("debian/control", func(p string) error { return os.Mkdir(p, 0o755) })},
		{"format unknown", write("debian/source/format", "3.0 (bzr)\n")},
		{"only comments", write("debian/control", "# nothing\n")},
		{"no binary", write("debian/control", "Source: hello\n")},
		{"binary twice", write("debian/control", testControl+"\nPackage: hello\nArchitecture: any\n")},
		{"another source", write("debian/control", strings.Replace(testControl, "Source: hello", "Source: other", 1))},
		{"field twice", write("debian/control", "Source: hello\nSource: hello\n")},
		{"large field", write("debian/control", "Source: hello\nX: "+strings.Repeat("x", 10<<20))},
		{"relation", write("debian/control", strings.Replace(testControl, "bar | baz", "bar |", 1))},
		{"version", write("debian/changelog", strings.Replace(testChangelog, "2.10-3", "x/../y", 1))},
		{"empty changelog", write("debian/changelog", "")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := tree(t, "3.0 (quilt)")
			tt.change(t, dir)
			if _, err := ReadTree(t.Context(), dir); fault.ClassOf(err) != fault.Input {
				t.Errorf("error is %v, class %q", err, fault.ClassOf(err))
			}
		})
	}
	if _, err := ReadTree(t.Context(), filepath.Join(outside, "none")); fault.ClassOf(err) != fault.Input {
		t.Errorf("no directory: %v", err)
	}
	inside := tree(t, "3.0 (quilt)")
	if err := os.Rename(filepath.Join(inside, "debian"), filepath.Join(inside, "packaging")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("packaging", filepath.Join(inside, "debian")); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadTree(t.Context(), inside); err != nil {
		t.Errorf("a link that stays inside: %v", err)
	}
}

func TestFindOrig(t *testing.T) {
	dir := tree(t, "3.0 (quilt)")
	parent := filepath.Dir(dir)
	s, err := ReadTree(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := FindOrig(t.Context(), s); fault.ClassOf(err) != fault.Input || fault.HintOf(err) == "" {
		t.Errorf("none there: %v", err)
	}
	for _, name := range []string{"hello_2.10.orig.tar.xz", "hello_2.10.orig.tar.xz.asc", "hello_2.10.orig-a.tar.gz",
		"hello_2.10.orig-b.tar.gz.asc", "hello_2.9.orig.tar.gz", "hello_2.10.tar.gz", "hello_2.10-3.debian.tar.gz", "other_2.10.orig.tar.gz"} {
		writeFile(t, filepath.Join(parent, name), name)
	}
	files, err := FindOrig(t.Context(), s, filepath.Join(parent, "none"), parent)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, f.Name)
		if r, err := f.Open(); err != nil {
			t.Error(err)
		} else {
			r.Close()
		}
	}
	if got := strings.Join(names, " "); got != "hello_2.10.orig-a.tar.gz hello_2.10.orig.tar.xz hello_2.10.orig.tar.xz.asc" {
		t.Errorf("found %s", got)
	}
	writeFile(t, filepath.Join(parent, "hello_2.10.orig.tar.gz"), "x")
	if _, err := FindOrig(t.Context(), s); fault.ClassOf(err) != fault.Input {
		t.Errorf("two compressions: %v", err)
	}
	native := tree(t, "3.0 (native)")
	if s, err = ReadTree(t.Context(), native); err != nil {
		t.Fatal(err)
	}
	if files, err := FindOrig(t.Context(), s); files != nil || err != nil {
		t.Errorf("native: %v, %v", files, err)
	}
}
