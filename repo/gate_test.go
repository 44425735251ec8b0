package repo

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dbuild/internal/fault"
)

// TestGate publishes uploads that do not agree with themselves. Each is
// refused for all of its reasons, and leaves nothing.
func TestGate(t *testing.T) {
	edit := func(u *Upload, old, new string) {
		u.Changes.Data = []byte(strings.Replace(string(u.Changes.Data), old, new, 1))
	}
	with := func(files ...File) func(testing.TB) Upload {
		return func(t testing.TB) Upload { return upload(t, "2.10-3", files...) }
	}
	hello := pkg{}.build(t)
	src := source(t, "2.10-3", "orig", "debian")
	tests := []struct {
		name   string
		upload func(testing.TB) Upload
		edit   func(*Upload)
		want   []Code
	}{
		{name: "file name and version differ", upload: with(pkg{version: "2.10-2", source: "hello (2.10-3)", fileName: hello.Name}.build(t)), want: []Code{CodeFileName}},
		{name: "file name and architecture differ", upload: with(pkg{arch: "arm64", fileName: hello.Name}.build(t)), want: []Code{CodeFileName, CodeArchitecture}},
		{name: "another source", upload: with(pkg{source: "goodbye"}.build(t)), want: []Code{CodeSource}},
		{name: "another source version", upload: with(pkg{source: "hello (2.10-2)"}.build(t)), want: []Code{CodeVersion}},
		{name: "malformed source", upload: with(pkg{source: "hello 2.10-2"}.build(t)), want: []Code{CodeSyntax}},
		{name: "unknown architecture", upload: with(pkg{arch: "pdp11"}.build(t)), want: []Code{CodeSyntax}},
		{name: "not in Binary", upload: with(hello), edit: func(u *Upload) { edit(u, "Binary: hello", "Binary: other") }, want: []Code{CodeBinary}},
		{name: "architecture not in .changes", upload: with(hello), edit: func(u *Upload) { edit(u, "Architecture: amd64", "Architecture: arm64") }, want: []Code{CodeArchitecture}},
		{name: "source without .dsc", upload: with(hello), edit: func(u *Upload) { edit(u, "Architecture: amd64", "Architecture: amd64 source") }, want: []Code{CodeArchitecture}},
		{name: "changes of another version", upload: with(hello), edit: func(u *Upload) { edit(u, "Version: 2.10-3", "Version: 2.10-4") }, want: []Code{CodeVersion, CodeVersion}},
		{name: "changes of another source", upload: with(hello), edit: func(u *Upload) { edit(u, "Source: hello", "Source: goodbye") }, want: []Code{CodeSource, CodeSource}},
		{name: "changes without Distribution", upload: with(hello), edit: func(u *Upload) { edit(u, "Distribution: bookworm\n", "") }, want: []Code{CodeField}},
		{name: "changes is no document", upload: with(hello), edit: func(u *Upload) { u.Changes.Data = []byte("nonsense") }, want: []Code{CodeSyntax}},
		{name: "changes with a repeated field", upload: with(hello), edit: func(u *Upload) { edit(u, "Urgency:", "Source: hello\nUrgency:") }, want: []Code{CodeSyntax}},
		{name: "changes lists what is not there", upload: with(hello), edit: func(u *Upload) { u.Files = nil }, want: []Code{CodeFileMissing}},
		{name: "package that changes does not list", upload: with(hello), edit: func(u *Upload) {
			u.Files = append(u.Files, pkg{name: "more", source: "hello"}.build(t))
			edit(u, "Binary: hello", "Binary: hello more")
		}, want: []Code{CodeFileUnlisted}},
		{name: "hash differs from changes", upload: with(hello), edit: func(u *Upload) {
			edit(u, hello.SHA256, strings.Repeat("0", 64))
		}, want: []Code{CodeFileHash}},
		{name: "size differs from caller", upload: with(hello), edit: func(u *Upload) { u.Files[0].Size++ }, want: []Code{CodeFileSize}},
		{name: "hash differs from caller", upload: with(hello), edit: func(u *Upload) { u.Files[0].SHA256 = strings.Repeat("0", 64) }, want: []Code{CodeFileHash}},
		{name: "same file twice", upload: with(hello), edit: func(u *Upload) { u.Files = append(u.Files, u.Files[0]) }, want: []Code{CodeFileRepeated}},
		{name: "file that is gone", upload: with(hello), edit: func(u *Upload) { u.Files[0].Path += "gone" }, want: []Code{CodeFileMissing}},
		{name: "unsafe name", upload: with(hello), edit: func(u *Upload) {
			u.Files = append(u.Files, File{Name: "../x.deb", Path: hello.Path, Size: hello.Size})
		}, want: []Code{CodeFileName}},
		{name: "file of no kind", upload: with(hello, writeFile(t, "notes.txt", []byte("x"))), want: []Code{CodeFileKind}},
		{name: "source file without .dsc", upload: with(hello, src[1]), want: []Code{CodeFileKind}},
		{name: "source without its tarball", upload: with(hello, src[0], src[2]), want: []Code{CodeFileMissing}},
		{name: "tarball with other bytes", upload: with(hello, src[0], writeFile(t, src[1].Name, []byte("other")), src[2]), want: []Code{CodeFileSize}},
		{name: ".dsc under another name", upload: with(hello, writeFile(t, "hello_2.10-2.dsc", readFile(t, src[0].Path)), src[1], src[2]), want: []Code{CodeFileName}},
		{name: ".dsc of another version", upload: with(append(source(t, "2.10-2", "orig", "debian"), hello)...), want: []Code{CodeVersion}},
		{name: "unsafe build name", upload: with(hello), edit: func(u *Upload) { u.Build = "../x" }, want: []Code{CodeBuild}},
		{name: "unsafe component", upload: with(hello), edit: func(u *Upload) { u.Component = "../x" }, want: []Code{CodeComponent}},
		{name: "unsafe name of the changes", upload: with(hello), edit: func(u *Upload) { u.Changes.Name = "../x.changes" }, want: []Code{CodeFileName}},
		{name: "unsafe name of the buildinfo", upload: with(hello), edit: func(u *Upload) {
			u.Buildinfo = buildinfo("hello", "2.10-3", "/build/x", hello)
			u.Buildinfo.Name = "a/b.buildinfo"
		}, want: []Code{CodeFileName}},
		{name: "not a .deb", upload: with(writeFile(t, hello.Name, []byte("hello"))), want: []Code{CodeSyntax}},
		{name: "changes lists itself", upload: with(hello), edit: func(u *Upload) {
			edit(u, "Checksums-Sha256:\n", "Checksums-Sha256:\n "+strings.Repeat("0", 64)+" 10 "+u.Changes.Name+"\n")
			edit(u, "Files:\n", "Files:\n "+strings.Repeat("0", 32)+" 10 devel optional "+u.Changes.Name+"\n")
		}, want: []Code{CodeFileKind}},
		{name: "changes lists a file twice", upload: with(hello), edit: func(u *Upload) {
			edit(u, "Checksums-Sha256:\n", "Checksums-Sha256:\n "+hello.SHA256+" "+itoa(hello.Size)+" "+hello.Name+"\n")
		}, want: []Code{CodeSyntax}},
		{name: "changes lists nothing", upload: with(), want: []Code{CodeSyntax}},
		{name: "changes without Files", upload: with(hello), edit: func(u *Upload) {
			text, _, _ := strings.Cut(string(u.Changes.Data), "Files:")
			u.Changes.Data = []byte(text)
		}, want: []Code{CodeField}},
		{name: "two suites", upload: with(hello), edit: func(u *Upload) { edit(u, "Distribution: bookworm", "Distribution: bookworm sid") }, want: []Code{CodeField}},
		{name: "suite above", upload: with(hello), edit: func(u *Upload) { edit(u, "Distribution: bookworm", "Distribution: ../stable") }, want: []Code{CodeField}},
		{name: "row without section", upload: with(hello), edit: func(u *Upload) { edit(u, " devel optional", "") }, want: []Code{CodeField}},
		{name: "row with one column more", upload: with(hello), edit: func(u *Upload) { edit(u, " devel optional", " devel optional more") }, want: []Code{CodeSyntax}},
		{name: "source without changes' word", upload: with(append(src[:3:3], hello)...), edit: func(u *Upload) {
			dsc := src[0]
			edit(u, "Files:\n", "Files:\n "+strings.Repeat("0", 32)+" "+itoa(dsc.Size)+" devel optional "+dsc.Name+"\n")
			edit(u, "Checksums-Sha256:\n", "Checksums-Sha256:\n "+dsc.SHA256+" "+itoa(dsc.Size)+" "+dsc.Name+"\n")
		}, want: []Code{CodeArchitecture}},
		{name: "buildinfo is no document", upload: with(hello), edit: func(u *Upload) { u.Buildinfo = Document{"hello.buildinfo", []byte("x")} }, want: []Code{CodeSyntax}},
		{name: "buildinfo of another source", upload: with(hello), edit: func(u *Upload) { u.Buildinfo = buildinfo("other", "2.10-3", "/build/x", hello) }, want: []Code{CodeSource}},
		{name: "buildinfo of another version", upload: with(hello), edit: func(u *Upload) { u.Buildinfo = buildinfo("hello", "2.10-4", "/build/x", hello) }, want: []Code{CodeVersion}},
		{name: "buildinfo of other bytes", upload: with(hello), edit: func(u *Upload) {
			other := hello
			other.SHA256 = strings.Repeat("0", 64)
			u.Buildinfo = buildinfo("hello", "2.10-3", "/build/x", other)
		}, want: []Code{CodeFileHash}},
		{name: "buildinfo with a build path that is none", upload: with(hello), edit: func(u *Upload) { u.Buildinfo = buildinfo("hello", "2.10-3", "/build/../x", hello) }, want: []Code{CodeField}},
		{name: "buildinfo with quotes in its build path", upload: with(hello), edit: func(u *Upload) { u.Buildinfo = buildinfo("hello", "2.10-3", `/build/"x`, hello) }, want: []Code{CodeField}},
		{name: "buildinfo with a field that is too long", upload: with(hello), edit: func(u *Upload) {
			u.Buildinfo = buildinfo("hello", "2.10-3", "/build/x", hello)
			u.Buildinfo.Data = append(u.Buildinfo.Data, "Installed-Build-Depends:\n"+strings.Repeat(" a-package (= 1.0-1),\n", 1_000_000)...)
		}, want: []Code{CodeSyntax}},
		{name: "package that ends early", upload: with(writeFile(t, hello.Name, readFile(t, hello.Path)[:hello.Size-40])), want: []Code{CodeSyntax}},
		{name: "package with a path above the root", upload: with(pkg{path: "../etc/passwd"}.build(t)), want: []Code{CodeSyntax}},
		{name: "everything at once", upload: with(pkg{source: "goodbye", fileName: "hello_1_amd64.deb"}.build(t)), edit: func(u *Upload) { u.Version = "9"; u.Build = "a/b" }, want: []Code{CodeVersion, CodeBuild, CodeFileName, CodeSource}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := newEnv(t)
			before := snapshot(t, e.Dir())
			u := tt.upload(t)
			if tt.edit != nil {
				tt.edit(&u)
			}
			_, err := e.Publish(t.Context(), u)
			wantCodes(t, err, tt.want)
			if diff := cmp.Diff(before, snapshot(t, e.Dir())); diff != "" {
				t.Errorf("a refused upload left (-before +after):\n%s", diff)
			}
		})
	}
}

// buildinfo is that of a build of one package.
func buildinfo(source, version, dir string, f File) Document {
	return Document{"hello_2.10-3_amd64.buildinfo", fmt.Appendf(nil,
		"Format: 1.0\nSource: %s\nBinary: hello\nArchitecture: amd64\nVersion: %s\nChecksums-Sha256:\n %s %d %s\nBuild-Origin: Debian\nBuild-Architecture: amd64\nBuild-Path: %s\n",
		source, version, f.SHA256, f.Size, f.Name, dir)}
}

// A .changes that is no small regular file is refused without being read.
func TestReadUploadsOpensRegularFilesOnly(t *testing.T) {
	dir := t.TempDir()
	name := func(n string) string { return filepath.Join(dir, n+".changes") }
	if err := errors.Join(syscall.Mkfifo(name("fifo"), 0o600), os.Symlink("/etc/passwd", name("link")), os.Mkdir(name("dir"), 0o700),
		os.WriteFile(name("empty"), nil, 0o600), os.WriteFile(name("large"), nil, 0o600), os.Truncate(name("large"), 100<<20)); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"fifo", "link", "dir", "empty", "large", "none"} {
		if _, err := ReadUploads("bookworm", []string{name(n)}); fault.ClassOf(err) != fault.Input {
			t.Errorf("%s: %v", n, err)
		}
	}
}

func wantCodes(t *testing.T, err error, want []Code) {
	t.Helper()
	var rejected *RejectedError
	if !errors.As(err, &rejected) || fault.ClassOf(err) != fault.Input {
		t.Fatalf("got %v", err)
	}
	var got []Code
	for _, p := range rejected.Problems {
		got = append(got, p.Code)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("codes (-want +got):\n%s\n%v", diff, err)
	}
	if strings.ContainsAny(err.Error(), "\n\x1b") {
		t.Errorf("the message is not one clean line: %q", err)
	}
}

// Nothing but a regular file is opened, and no FIFO is waited for.
func TestGateOpensRegularFilesOnly(t *testing.T) {
	e := newEnv(t)
	hello := pkg{}.build(t)
	dir := t.TempDir()
	fifo, link := filepath.Join(dir, "fifo"), filepath.Join(dir, "link")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(hello.Path, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, link, dir, filepath.Join(dir, "none")} {
		u := upload(t, "2.10-3", hello)
		u.Files[0].Path = path
		_, err := e.Publish(t.Context(), u)
		wantCodes(t, err, []Code{CodeFileMissing})
	}
}

// TestSuiteRules publishes uploads that agree with themselves, but not with
// what the suite holds.
func TestSuiteRules(t *testing.T) {
	type try struct {
		upload Upload
		want   []Code
	}
	first := upload(t, "2.10-3", append(source(t, "2.10-3", "orig", "debian"), pkg{content: "first"}.build(t))...)
	other := upload(t, "2.10-3", pkg{content: "second"}.build(t))
	goodbye := upload(t, "2.10-3", pkg{source: "goodbye"}.build(t))
	goodbye.Source = "goodbye"
	goodbye.Changes.Data = bytes.Replace(goodbye.Changes.Data, []byte("Source: hello"), []byte("Source: goodbye"), 1)
	older := upload(t, "2.10-2", pkg{version: "2.10-2"}.build(t))
	epoch := upload(t, "1:2.10-3", pkg{version: "1:2.10-3"}.build(t))
	moved := upload(t, "2.10-3", pkg{content: "first"}.build(t))
	moved.Component = "contrib"
	nextOrig := upload(t, "2.10-4", append(source(t, "2.10-4", "other orig", "debian"), pkg{version: "2.10-4"}.build(t))...)
	nextSame := upload(t, "2.10-4", append(source(t, "2.10-4", "orig", "debian 4"), pkg{version: "2.10-4"}.build(t))...)
	for _, tt := range []struct {
		name      string
		immutable bool
		try       try
	}{
		{"rebuild replaces", false, try{other, nil}},
		{"version below the highest", false, try{older, nil}},
		{"rebuild is refused", true, try{other, []Code{CodeImmutable}}},
		{"same again", true, try{first, nil}},
		{"package of another source", false, try{goodbye, []Code{CodeTaken}}},
		{"same file name, another epoch", false, try{epoch, []Code{CodeTaken}}},
		{"moved to another component", false, try{moved, nil}},
		{"moved in an immutable suite", true, try{moved, []Code{CodeTaken}}},
		{"shared tarball with other bytes", false, try{nextOrig, []Code{CodeShared}}},
		{"shared tarball", true, try{nextSame, nil}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEnv(t)
			s := DefaultSuite("bookworm")
			s.Immutable = tt.immutable
			if err := e.CreateSuite(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			e.publish(t, first)
			before := look(t, e.Dir(), "bookworm")
			_, err := e.Publish(t.Context(), tt.try.upload)
			after := look(t, e.Dir(), "bookworm")
			if tt.try.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantCodes(t, err, tt.try.want)
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("listing (-before +after):\n%s", diff)
			}
		})
	}
}

// A suite whose versions rise refuses a lower one, and takes what it has again.
func TestRisingVersions(t *testing.T) {
	e := newEnv(t)
	if err := e.CreateSuite(t.Context(), Suite{Name: "bookworm", Rules: Rules{Rising: true}}); err != nil {
		t.Fatal(err)
	}
	one, two := versionUpload(t, "1"), versionUpload(t, "2")
	e.publish(t, one)
	e.publish(t, two)
	e.publish(t, two)
	e.publish(t, one) // is in the suite
	_, err := e.Publish(t.Context(), versionUpload(t, "1.5"))
	wantCodes(t, err, []Code{CodeOlder})
	if l := look(t, e.Dir(), "bookworm"); len(l) != 2 {
		t.Errorf("listing: %v", l)
	}
}

func TestBinaryOnlyRebuild(t *testing.T) {
	e := newEnv(t)
	e.publish(t, upload(t, "2.10-3", pkg{}.build(t)))
	u := upload(t, "2.10-3+b1", pkg{version: "2.10-3+b1", source: "hello (2.10-3)"}.build(t))
	u.Changes.Data = bytes.Replace(u.Changes.Data, []byte("Source: hello"), []byte("Source: hello (2.10-3)"), 1)
	if p := e.publish(t, u); len(p.Replaced) != 0 {
		t.Errorf("replaced %q", p.Replaced)
	}
	l := look(t, e.Dir(), "bookworm")
	if len(l) != 2 {
		t.Errorf("listing: %v", l)
	}
}

func TestUploadWithoutChanges(t *testing.T) {
	e := newEnv(t)
	e.publish(t, Upload{Suite: "bookworm", Files: []File{pkg{}.build(t)}})
	_, err := e.Publish(t.Context(), Upload{Suite: "bookworm", Files: []File{
		pkg{version: "3"}.build(t), pkg{name: "other", version: "3"}.build(t),
	}})
	wantCodes(t, err, []Code{CodeSource})
}
