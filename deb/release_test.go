package deb

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	sumA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	sumB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// releaseText is a valid Release file; tests replace parts of it.
const releaseText = `Origin: Debian
Label: Debian
Suite: oldstable
Version: 12.10
Codename: bookworm
Date: Sat, 15 Mar 2025 09:29:28 UTC
Valid-Until: Sat, 22 Mar 2025 09:29:28 UTC
Acquire-By-Hash: yes
No-Support-for-Architecture-all: Packages
Architectures: all amd64 arm64
Components: main contrib non-free-firmware
Description: Debian 12.10
MD5Sum:
 00000000000000000000000000000000 17 main/binary-amd64/Packages.xz
SHA256:
 ` + sumA + `       17 main/binary-amd64/Packages.xz
 ` + emptySHA256 + `        0 main/binary-all/Packages
 ` + sumB + ` 2048 main/dep11/icons-48x48@2.tar.gz
`

func TestParseRelease(t *testing.T) {
	got, err := ParseRelease([]byte(releaseText))
	if err != nil {
		t.Fatal(err)
	}
	want := &Release{
		Origin: "Debian", Label: "Debian", Suite: "oldstable", Codename: "bookworm", Version: "12.10",
		Description:   "Debian 12.10",
		Date:          time.Date(2025, 3, 15, 9, 29, 28, 0, time.UTC),
		ValidUntil:    time.Date(2025, 3, 22, 9, 29, 28, 0, time.UTC),
		Architectures: []string{"all", "amd64", "arm64"},
		Components:    []string{"main", "contrib", "non-free-firmware"},
		ByHash:        true,
		Files: map[string]IndexFile{
			"main/binary-amd64/Packages.xz":   {"main/binary-amd64/Packages.xz", 17, sumA},
			"main/binary-all/Packages":        {"main/binary-all/Packages", 0, emptySHA256},
			"main/dep11/icons-48x48@2.tar.gz": {"main/dep11/icons-48x48@2.tar.gz", 2048, sumB},
		},
		NoSupportForAll: "Packages",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseReleaseVariants(t *testing.T) {
	for _, tc := range []struct {
		name, old, new string
		check          func(*Release) bool
	}{
		{"no Valid-Until", "Valid-Until: Sat, 22 Mar 2025 09:29:28 UTC\n", "", func(r *Release) bool { return r.ValidUntil.IsZero() }},
		{"GMT", "09:29:28 UTC\nV", "09:29:28 GMT\nV", func(r *Release) bool { return r.Date.Hour() == 9 }},
		{"numeric zone", "09:29:28 UTC\nV", "09:29:28 +0000\nV", func(r *Release) bool { return r.Date.Hour() == 9 }},
		{"one digit", "Sat, 15 Mar 2025 09", "Sat,  1 Mar 2025 9", func(r *Release) bool { return r.Date.Day() == 1 }},
		{"no by-hash", "Acquire-By-Hash: yes\n", "", func(r *Release) bool { return !r.ByHash }},
		{"backports", "Acquire-By-Hash", "NotAutomatic: yes\nButAutomaticUpgrades: yes\nAcquire-By-Hash",
			func(r *Release) bool { return r.NotAutomatic && r.ButAutomaticUpgrades }},
		{"flat repository", "main/binary-amd64/Packages.xz\n " + emptySHA256, "./Packages.xz\n " + emptySHA256,
			func(r *Release) bool { return r.Files["Packages.xz"].Size == 17 }},
		{"the same row twice", "SHA256:\n", "SHA256:\n " + sumA + " 17 main/binary-amd64/Packages.xz\n",
			func(r *Release) bool { return len(r.Files) == 3 }},
		{"no suite", "Suite: oldstable\n", "", func(r *Release) bool { return r.Suite == "" }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := ParseRelease([]byte(replaceOnce(t, releaseText, tc.old, tc.new)))
			if err != nil {
				t.Fatal(err)
			}
			if !tc.check(r) {
				t.Errorf("got %+v", r)
			}
		})
	}
}

// replaceOnce fails the test if old is not in s, so that no case goes stale.
func replaceOnce(t *testing.T, s, old, new string) string {
	t.Helper()
	if !strings.Contains(s, old) {
		t.Fatalf("%q is not in the text", old)
	}
	return strings.Replace(s, old, new, 1)
}

func TestParseReleaseRefuses(t *testing.T) {
	date := "Date: Sat, 15 Mar 2025 09:29:28 UTC\n"
	row := "       17 main/binary-amd64/Packages.xz"
	for _, tc := range []struct {
		name, old, new string
		field          string
	}{
		{"no Date", date, "", "Date"},
		{"Date empty", date, "Date:\n", "Date"},
		{"Date unparsable", date, "Date: yesterday\n", "Date"},
		{"Date in ISO form", date, "Date: 2025-03-15 09:29:28 UTC\n", "Date"},
		{"Date in another zone", date, "Date: Sat, 15 Mar 2025 09:29:28 CET\n", "Date"},
		{"Date with an offset", date, "Date: Sat, 15 Mar 2025 09:29:28 +0100\n", "Date"},
		{"Date without a zone", date, "Date: Sat, 15 Mar 2025 09:29:28\n", "Date"},
		{"Date out of range", date, "Date: Sat, 31 Feb 2025 09:29:28 UTC\n", "Date"},
		{"two Dates", date, date + date, "Date"},
		{"two Dates in other cases", date, date + "date: Sun, 16 Mar 2025 09:29:28 UTC\n", "date"},
		{"Valid-Until before Date", "Sat, 22 Mar", "Sat, 08 Mar", "Valid-Until"},
		{"Valid-Until unparsable", "Sat, 22 Mar", "22 Mar", "Valid-Until"},
		{"architecture with a slash", "amd64 arm64", "amd64 ../x", "Architectures"},
		{"component with dots", "main contrib", "main ../contrib", "Components"},
		{"component absolute", "main contrib", "/main contrib", "Components"},
		{"switch of another word", "Acquire-By-Hash: yes", "Acquire-By-Hash: maybe", "Acquire-By-Hash"},
		{"suite on two lines", "Suite: oldstable", "Suite: oldstable\n stable", "Suite"},
		{"rows that disagree in size", "SHA256:\n", "SHA256:\n " + sumA + " 18 main/binary-amd64/Packages.xz\n", "SHA256"},
		{"rows that disagree in hash", "SHA256:\n", "SHA256:\n " + sumB + " 17 main/binary-amd64/Packages.xz\n", "SHA256"},
		{"rows that disagree behind ./", "SHA256:\n", "SHA256:\n " + sumB + " 17 ./main/binary-amd64/Packages.xz\n", "SHA256"},
		{"size 0 of a file with content", row, " 0 main/binary-amd64/Packages.xz", "SHA256"},
		{"size of an empty file", "        0 main", "        1 main", "SHA256"},
		{"size negative", row, " -17 main/binary-amd64/Packages.xz", "SHA256"},
		{"size with a plus sign", row, " +17 main/binary-amd64/Packages.xz", "SHA256"},
		{"size of 20 digits", row, " 10000000000000000000 main/binary-amd64/Packages.xz", "SHA256"},
		{"size in hex", row, " 0x11 main/binary-amd64/Packages.xz", "SHA256"},
		{"hash too short", sumA, sumA[1:], "SHA256"},
		{"hash upper case", sumA, strings.ToUpper(sumA), "SHA256"},
		{"hash not hex", sumA, "g" + sumA[1:], "SHA256"},
		{"two columns", row, " main/binary-amd64/Packages.xz", "SHA256"},
		{"four columns", row, row + " x", "SHA256"},
		{"path with dots", row, " 17 main/../../etc/passwd", "SHA256"},
		{"path of dots", row, " 17 ..", "SHA256"},
		{"path absolute", row, " 17 /etc/passwd", "SHA256"},
		{"path with an empty component", row, " 17 main//Packages", "SHA256"},
		{"path with an escape", row, " 17 main/%2e%2e/Packages", "SHA256"},
		{"path with a query", row, " 17 main/Packages?x", "SHA256"},
		{"path with a backslash", row, ` 17 main\Packages`, "SHA256"},
		{"path with a colon", row, " 17 http:x", "SHA256"},
		{"path like an option", row, " 17 -main/Packages", "SHA256"},
		{"path of 2000 bytes", row, " 17 " + strings.Repeat("a/", 1000) + "b", "SHA256"},
		{"NUL in a path", row, " 17 main/Pack\x00ages", ""},
		{"second paragraph", "SHA256:\n", "\nSHA256:\n", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := ParseRelease([]byte(replaceOnce(t, releaseText, tc.old, tc.new)))
			var syntax *SyntaxError
			if !errors.As(err, &syntax) {
				t.Fatalf("got %+v, error %v", r, err)
			}
			if syntax.Field != tc.field {
				t.Errorf("field %q is blamed, want %q (%v)", syntax.Field, tc.field, err)
			}
		})
	}
}

func TestParseReleaseWeakHashes(t *testing.T) {
	for _, new := range []string{"SHA1:\n", "SHA512:\n", "X-SHA256:\n"} {
		if _, err := ParseRelease([]byte(replaceOnce(t, releaseText, "SHA256:\n", new))); !errors.Is(err, ErrNoSHA256) {
			t.Errorf("%q: error %v, want ErrNoSHA256", new, err)
		}
	}
	head, _, _ := strings.Cut(releaseText, "SHA256:")
	if _, err := ParseRelease([]byte(head + "SHA256:\n")); !errors.Is(err, ErrNoSHA256) {
		t.Errorf("no rows: error %v, want ErrNoSHA256", err)
	}
}

func TestParseReleaseTooLarge(t *testing.T) {
	var b strings.Builder
	b.WriteString(releaseText)
	for i := 0; b.Len() < 20<<20; i++ {
		fmt.Fprintf(&b, " %s 17 main/file-%d\n", sumA, i)
	}
	var limit *LimitError
	if _, err := ParseRelease([]byte(b.String())); !errors.As(err, &limit) {
		t.Errorf("error %v, want a LimitError", err)
	}
}
