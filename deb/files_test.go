package deb

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	md5Text  = strings.Repeat("1", 32)
	sha1Text = strings.Repeat("2", 40)
)

func changesFields() *Paragraph {
	return paragraph(
		"Checksums-Sha1", "\n "+sha1Text+" 10 a_1.dsc\n "+sha1Text+" 20 a_1_all.deb",
		"Checksums-Sha256", "\n "+sumA+" 10 a_1.dsc\n "+sumB+" 20 a_1_all.deb",
		"Files", "\n "+md5Text+" 20 non-free/libs optional a_1_all.deb\n "+md5Text+" 10 devel - a_1.dsc",
	)
}

func TestParseFiles(t *testing.T) {
	got, err := ParseFiles(changesFields())
	if err != nil {
		t.Fatal(err)
	}
	want := []File{
		{Name: "a_1.dsc", Size: 10, MD5: md5Text, SHA1: sha1Text, SHA256: sumA, Section: "devel", Priority: "-"},
		{Name: "a_1_all.deb", Size: 20, MD5: md5Text, SHA1: sha1Text, SHA256: sumB, Section: "non-free/libs", Priority: "optional"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseFilesVariants(t *testing.T) {
	dsc := changesFields()
	dsc.Set("Files", "\n "+md5Text+" 10 a_1.dsc\n "+md5Text+" 20 a_1_all.deb")
	if got, err := ParseFiles(dsc); err != nil || got[0].Section != "" || got[0].MD5 != md5Text {
		t.Errorf("three columns: %v, %v", got, err)
	}
	buildinfo := changesFields()
	buildinfo.Del("Files")
	buildinfo.Del("Checksums-Sha1")
	if got, err := ParseFiles(buildinfo); err != nil || len(got) != 2 || got[0].MD5 != "" {
		t.Errorf("SHA-256 only: %v, %v", got, err)
	}
}

func TestParseFilesRefuses(t *testing.T) {
	for _, tc := range []struct {
		name, field, old, new string
	}{
		{"name with a slash", "Checksums-Sha256", "a_1.dsc", "x/a_1.dsc"},
		{"name with dots", "Checksums-Sha256", "a_1.dsc", "../a_1.dsc"},
		{"name absolute", "Checksums-Sha256", "a_1.dsc", "/etc/passwd"},
		{"name starts with a hyphen", "Checksums-Sha256", "a_1.dsc", "-a_1.dsc"},
		{"name starts with a period", "Checksums-Sha256", "a_1.dsc", ".a_1.dsc"},
		{"name with a blank", "Checksums-Sha256", "a_1.dsc", "a 1.dsc"},
		{"name not ASCII", "Checksums-Sha256", "a_1.dsc", "ä_1.dsc"},
		{"name with NUL", "Checksums-Sha256", "a_1.dsc", "a\x00.dsc"},
		{"name of 300 bytes", "Checksums-Sha256", "a_1.dsc", strings.Repeat("a", 300)},
		{"no name", "Checksums-Sha256", " a_1.dsc", ""},
		{"file twice", "Checksums-Sha256", "a_1_all.deb", "a_1.dsc"},
		{"no rows", "Checksums-Sha256", "", ""},
		{"size negative", "Checksums-Sha256", " 10 ", " -10 "},
		{"size too large", "Checksums-Sha256", " 10 ", " 9223372036854775808 "},
		{"hash of another kind", "Checksums-Sha256", sumA, sha1Text},
		{"five columns", "Checksums-Sha256", " 10 ", " 10 devel optional "},
		{"Files: another name", "Files", "a_1.dsc", "b_1.dsc"},
		{"Files: one row less", "Files", "\n " + md5Text + " 10 devel - a_1.dsc", ""},
		{"Files: no rows", "Files", "", ""},
		{"Files: file twice", "Files", "a_1_all.deb", "a_1.dsc"},
		{"Files: another size", "Files", " 20 ", " 21 "},
		{"Files: hash of another kind", "Files", md5Text, sha1Text},
		{"Files: no section in one row", "Files", " devel -", ""},
		{"Files: no priority", "Files", " devel -", " devel"},
		{"Files: column too many", "Files", " devel -", " devel - -"},
		{"Files: section with an escape sequence", "Files", " devel -", " \x1b[m -"},
		{"Checksums-Sha1: another name", "Checksums-Sha1", "a_1.dsc", "b_1.dsc"},
		{"Checksums-Sha1: another size", "Checksums-Sha1", " 20 ", " 2 "},
		{"Checksums-Sha1: five columns", "Checksums-Sha1", " 10 ", " 10 devel - "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := changesFields()
			value := ""
			if tc.old != "" {
				value = replaceOnce(t, p.Get(tc.field), tc.old, tc.new)
			}
			p.Set(tc.field, value)
			got, err := ParseFiles(p)
			var syntax *SyntaxError
			if !errors.As(err, &syntax) {
				t.Fatalf("got %v, error %v", got, err)
			}
			if syntax.Field != tc.field {
				t.Errorf("field %q is blamed, want %q", syntax.Field, tc.field)
			}
		})
	}
	weak := changesFields()
	weak.Del("Checksums-Sha256")
	if _, err := ParseFiles(weak); !errors.Is(err, ErrNoSHA256) {
		t.Errorf("weak hashes: error %v, want ErrNoSHA256", err)
	}
}
