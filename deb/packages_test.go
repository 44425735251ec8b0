package deb

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const packageText = `Package: hello-traditional
Source: hello (2.10-2)
Version: 2.10-3
Essential: yes
Multi-Arch: foreign
Priority: optional
Section: devel
Maintainer: Nobody <nobody@example.org>
Architecture: amd64
Pre-Depends: dpkg (>= 1.17)
Depends: libc6 (>= 2.34),
 other
Provides: hi (= 1)
Conflicts: c
Breaks: b
Replaces: r
Description: text
 more
Filename: pool/main/h/hello/hello-traditional_2.10-3_amd64.deb
Size: 53080
MD5sum: 52b0cad2e741dd722c3e2e16a0aae57e
SHA256: ` + sumA + "\n"

func TestParsePackage(t *testing.T) {
	text := []byte(packageText)
	got, err := ParsePackage(text)
	if err != nil {
		t.Fatal(err)
	}
	want := &Package{
		Name: "hello-traditional", Version: "2.10-3", Architecture: "amd64",
		Source: "hello", SourceVersion: "2.10-2",
		Section: "devel", Priority: "optional", MultiArch: "foreign", Essential: true,
		PreDepends: "dpkg (>= 1.17)", Depends: "libc6 (>= 2.34),\n other", Provides: "hi (= 1)",
		Conflicts: "c", Breaks: "b", Replaces: "r",
		Filename: "pool/main/h/hello/hello-traditional_2.10-3_amd64.deb", Size: 53080, SHA256: sumA,
		Stanza: []byte(packageText),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if text[0] = 'X'; got.Stanza[0] != 'P' {
		t.Error("Stanza is not a copy")
	}
}

func TestParsePackageVariants(t *testing.T) {
	for _, tc := range []struct {
		name, old, new string
		check          func(*Package) bool
	}{
		{"no Source", "Source: hello (2.10-2)\n", "", func(p *Package) bool { return p.Source == "hello-traditional" && p.SourceVersion == "2.10-3" }},
		{"Source without version", "Source: hello (2.10-2)", "Source: hello", func(p *Package) bool { return p.Source == "hello" && p.SourceVersion == "2.10-3" }},
		{"flat repository", "Filename: pool/main/h/hello/", "Filename: ./", func(p *Package) bool { return p.Filename == "hello-traditional_2.10-3_amd64.deb" }},
		{"not essential", "Essential: yes", "Essential: no", func(p *Package) bool { return !p.Essential }},
		{"field in another case", "SHA256:", "sha256:", func(p *Package) bool { return p.SHA256 == sumA }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := ParsePackage([]byte(replaceOnce(t, packageText, tc.old, tc.new)))
			if err != nil {
				t.Fatal(err)
			}
			if !tc.check(p) {
				t.Errorf("got %+v", p)
			}
		})
	}
}

func TestParsePackageRefuses(t *testing.T) {
	file := "Filename: pool/main/h/hello/hello-traditional_2.10-3_amd64.deb"
	for _, tc := range []struct {
		name, old, new string
		field          string
	}{
		{"no Package", "Package: hello-traditional\n", "", "Package"},
		{"no Version", "Version: 2.10-3\n", "", "Version"},
		{"no Architecture", "Architecture: amd64\n", "", "Architecture"},
		{"no Filename", file + "\n", "", "Filename"},
		{"no Size", "Size: 53080\n", "", "Size"},
		{"name with a slash", "Package: hello", "Package: ../hello", "Package"},
		{"name upper case", "Package: hello", "Package: Hello", "Package"},
		{"version malformed", "Version: 2.10-3", "Version: 2.10-", "Version"},
		{"version of another script", "Version: 2.10-3", "Version: ٢.10", "Version"},
		{"architecture with a slash", "Architecture: amd64", "Architecture: ../amd64", "Architecture"},
		{"two architectures", "Architecture: amd64", "Architecture: amd64 i386", "Architecture"},
		{"Essential of another word", "Essential: yes", "Essential: perhaps", "Essential"},
		{"Source with a slash", "Source: hello", "Source: ../hello", "Source"},
		{"Source with a bad version", "hello (2.10-2)", "hello (x)", "Source"},
		{"Source with an open bracket", "hello (2.10-2)", "hello (2.10-2", "Source"},
		{"Source with more text", "hello (2.10-2)", "hello (2.10-2) x", "Source"},
		{"Filename with dots", file, "Filename: pool/../../etc/passwd", "Filename"},
		{"Filename absolute", file, "Filename: /etc/passwd", "Filename"},
		{"Filename with an escape", file, "Filename: pool%2f..%2fx", "Filename"},
		{"Filename on two lines", file, "Filename: pool/a\n b", "Filename"},
		{"Filename with a query", file, "Filename: pool/a?b", "Filename"},
		{"Filename URL", file, "Filename: http://example.org/a", "Filename"},
		{"Filename with a blank", file, "Filename: pool/a b", "Filename"},
		{"Size 0", "Size: 53080", "Size: 0", "Size"},
		{"Size negative", "Size: 53080", "Size: -1", "Size"},
		{"Size of 20 digits", "Size: 53080", "Size: 99999999999999999999", "Size"},
		{"SHA256 too short", sumA, sumA[2:], "SHA256"},
		{"SHA256 not hex", sumA, "x" + sumA[1:], "SHA256"},
		{"field twice", "Size: 53080", "Size: 53080\nSize: 53081", "Size"},
		{"NUL", "Description: text", "Description: te\x00xt", ""},
		{"two stanzas", "Section: devel", "\nSection: devel", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := ParsePackage([]byte(replaceOnce(t, packageText, tc.old, tc.new)))
			var syntax *SyntaxError
			if !errors.As(err, &syntax) {
				t.Fatalf("got %+v, error %v", p, err)
			}
			if syntax.Field != tc.field {
				t.Errorf("field %q is blamed, want %q (%v)", syntax.Field, tc.field, err)
			}
		})
	}
	if _, err := ParsePackage([]byte(replaceOnce(t, packageText, "SHA256:", "SHA1:"))); !errors.Is(err, ErrNoSHA256) {
		t.Errorf("weak hashes: error %v, want ErrNoSHA256", err)
	}
	if _, err := ParsePackage(nil); err == nil {
		t.Error("an empty stanza is accepted")
	}
}

func TestParsePackageLongVersion(t *testing.T) {
	long := "1" + strings.Repeat("~", 64<<10)
	p, err := ParsePackage([]byte(replaceOnce(t, packageText, "Version: 2.10-3", "Version: "+long)))
	if err != nil {
		t.Fatal(err)
	}
	if CompareVersions(p.Version, "1") >= 0 || CompareVersions(p.Version, p.Version+"~") <= 0 {
		t.Error("a chain of tildes compares wrongly")
	}
}

const sourceText = `Package: hello
Binary: hello, hello-doc
Version: 2.10-3
Architecture: any all
Format: 3.0 (quilt)
Section: devel
Directory: pool/main/h/hello
Files:
 e7bd195571b19d33bd83d1c379fe6432 1183 hello_2.10-3.dsc
 6cd0ffea3884a4e79330338dcc2987d6 725946 hello_2.10.orig.tar.gz
Checksums-Sha256:
 ` + sumA + ` 1183 hello_2.10-3.dsc
 ` + sumB + ` 725946 hello_2.10.orig.tar.gz
`

func TestParseSourceEntry(t *testing.T) {
	got, err := ParseSourceEntry([]byte(sourceText))
	if err != nil {
		t.Fatal(err)
	}
	if got.Paragraph.Get("Format") != "3.0 (quilt)" {
		t.Errorf("paragraph %v", got.Paragraph)
	}
	got.Paragraph = nil
	want := &SourceEntry{
		Name: "hello", Version: "2.10-3", Format: "3.0 (quilt)", Directory: "pool/main/h/hello", Section: "devel",
		Binaries: []string{"hello", "hello-doc"}, Architectures: []string{"any", "all"},
		Files: []SourceFile{{"hello_2.10-3.dsc", 1183, sumA}, {"hello_2.10.orig.tar.gz", 725946, sumB}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, dir := range []string{".", "./"} {
		e, err := ParseSourceEntry([]byte(replaceOnce(t, sourceText, "pool/main/h/hello", dir)))
		if err != nil || e.Directory != "" {
			t.Errorf("directory %q: %+v, %v", dir, e, err)
		}
	}
}

func TestParseSourceEntryRefuses(t *testing.T) {
	for _, tc := range []struct {
		name, old, new string
		field          string
	}{
		{"no Package", "Package: hello\n", "", "Package"},
		{"no Version", "Version: 2.10-3\n", "", "Version"},
		{"no Directory", "Directory: pool/main/h/hello\n", "", "Directory"},
		{"Directory with dots", "pool/main/h/hello", "pool/../../x", "Directory"},
		{"Directory absolute", "pool/main/h/hello", "/pool", "Directory"},
		{"Directory with an escape", "pool/main/h/hello", "pool/%2e%2e", "Directory"},
		{"Binary with a slash", "hello-doc", "../hello", "Binary"},
		{"Architecture with a slash", "any all", "any /all", "Architecture"},
		{"no .dsc", sumA + " 1183 hello_2.10-3.dsc\n ", "", "Files"},
		{"file name with a slash", sumB + " 725946 hello", sumB + " 725946 ../hello", "Checksums-Sha256"},
		{"sizes differ", sumB + " 725946", sumB + " 725947", "Files"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e, err := ParseSourceEntry([]byte(replaceOnce(t, sourceText, tc.old, tc.new)))
			var syntax *SyntaxError
			if !errors.As(err, &syntax) || syntax.Field != tc.field {
				t.Errorf("got %+v, error %v", e, err)
			}
		})
	}
	two := strings.ReplaceAll(sourceText, "hello_2.10.orig.tar.gz", "other.dsc")
	if _, err := ParseSourceEntry([]byte(two)); err == nil {
		t.Error("two .dsc files are accepted")
	}
	if _, err := ParseSourceEntry([]byte(replaceOnce(t, sourceText, "Checksums-Sha256", "Checksums-Sha1"))); !errors.Is(err, ErrNoSHA256) {
		t.Errorf("weak hashes: error %v, want ErrNoSHA256", err)
	}
}
