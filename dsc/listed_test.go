package dsc

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dbuild/internal/fault"
)

func TestListedFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hello_1.dsc")
	sum := "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	md5 := "d41d8cd98f00b204e9800998ecf8427e"
	doc := "Format: 3.0 (native)\nSource: hello\nBinary: hello\nArchitecture: any\nVersion: 1\nMaintainer: A <a@b.c>\n" +
		"Checksums-Sha256:\n " + sum + " 10 hello_1.tar.xz\nFiles:\n " + md5 + " 10 hello_1.tar.xz\n"
	if err := os.WriteFile(path, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := ListedFiles(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"hello_1.tar.xz"}, got); diff != "" {
		t.Error(diff)
	}
	if _, err := ListedFiles(filepath.Join(filepath.Dir(path), "none_1.dsc")); fault.ClassOf(err) != fault.Input {
		t.Errorf("a missing file: %v", err)
	}
}
