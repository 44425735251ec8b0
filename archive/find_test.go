package archive_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dbuild/archive"
	"dbuild/internal/fault"
)

func stanza(fields ...string) string {
	return strings.Join(fields, "\n") + "\nFilename: pool/x.deb\nSize: 1\nSHA256: " + strings.Repeat("a", 64) + "\n"
}

func TestFindPackage(t *testing.T) {
	index := strings.Join([]string{
		stanza("Package: first", "Version: 1", "Architecture: amd64"),
		stanza("Package: two", "Version: 1.10", "Architecture: amd64", "Description: x", " Package: decoy"),
		stanza("Package: two", "Version: 1.9", "Architecture: amd64"),
		stanza("Package: two-extra", "Version: 5", "Architecture: amd64"),
		stanza("Version: 3", "Package: late", "Architecture: all"),
		stanza("package:  odd", "Version: 4", "Architecture: all"),
		stanza("Package: bad", "Version: no version", "Architecture: all"),
		stanza("Package: doubled", "Version: 1", "Architecture: all"),
		strings.Replace(stanza("Package: doubled", "Version: 1", "Architecture: all"), "aaaa", "bbbb", 1),
		stanza("Package: last", "Version: 1", "Architecture: amd64"),
	}, "\n")
	path := filepath.Join(t.TempDir(), "Packages")
	if err := os.WriteFile(path, []byte(index), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, version, arch, want string }{
		{"first", "", "", "1"},
		{"two", "", "", "1.10"},
		{"two", "1.9", "amd64", "1.9"},
		{"late", "", "all", "3"},
		{"odd", "", "", "4"},
		{"last", "", "", "1"},
	}
	for _, tt := range tests {
		p, err := archive.FindPackage(path, tt.name, tt.version, tt.arch)
		if err != nil || p.Version != tt.want || p.Name != tt.name {
			t.Errorf("%v: got %+v, %v", tt, p, err)
		}
	}
	for _, tt := range [][3]string{{"decoy"}, {"two", "2"}, {"first", "1", "arm64"}, {"tw"}, {""}} {
		if _, err := archive.FindPackage(path, tt[0], tt[1], tt[2]); !errors.Is(err, archive.ErrNotFound) {
			t.Errorf("%v: %v", tt, err)
		}
	}
	_, err := archive.FindPackage(path, "bad", "", "")
	wantClass(t, err, fault.Input)
	_, err = archive.FindPackage(path, "doubled", "", "")
	wantClass(t, err, fault.Trust)

	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := archive.FindPackage(empty, "x", "", ""); !errors.Is(err, archive.ErrNotFound) {
		t.Errorf("empty index: %v", err)
	}
	if _, err := archive.FindPackage(filepath.Join(t.TempDir(), "missing"), "x", "", ""); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing index: %v", err)
	}
}

func TestFindPackages(t *testing.T) {
	index := strings.Join([]string{
		stanza("Package: one", "Version: 1", "Architecture: amd64"),
		stanza("Package: one", "Version: 2", "Architecture: amd64"),
		stanza("Package: one", "Version: 2", "Architecture: amd64"),
		stanza("Package: two", "Version: 1", "Architecture: all"),
		strings.Replace(stanza("Package: two", "Version: 1", "Architecture: all"), "aaaa", "bbbb", 1),
		stanza("Package: bad", "Version: no version", "Architecture: all"),
	}, "\n")
	path := filepath.Join(t.TempDir(), "Packages")
	if err := os.WriteFile(path, []byte(index), 0o644); err != nil {
		t.Fatal(err)
	}
	one := archive.PackageKey{Name: "one", Version: "2", Arch: "amd64"}
	found, err := archive.FindPackages(path, map[archive.PackageKey]bool{one: true, {Name: "one", Version: "2", Arch: "arm64"}: true})
	if err != nil || len(found) != 1 || found[one] == nil || found[one].Version != "2" {
		t.Errorf("got %v, %v; want one 2", found, err)
	}
	_, err = archive.FindPackages(path, map[archive.PackageKey]bool{{Name: "two", Version: "1", Arch: "all"}: true})
	wantClass(t, err, fault.Trust)
	_, err = archive.FindPackages(path, map[archive.PackageKey]bool{{Name: "bad"}: true})
	wantClass(t, err, fault.Input)
}
