package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"dbuild/internal/testenv"
)

// What mkdsc packs is what dpkg-source would unpack: the scripts stand on it.
func TestMkdscAgreesWithDpkgSource(t *testing.T) {
	dpkgSource := testenv.NeedProgram(t, "dpkg-source")
	tests := []struct {
		name, format, version string
		files                 []string
	}{
		{"native", "3.0 (native)", "1.0", []string{"tiny_1.0.tar.gz"}},
		{"quilt", "3.0 (quilt)", "1:1.0-2", []string{"tiny_1.0.orig.tar.gz", "tiny_1.0-2.debian.tar.gz"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			tree := filepath.Join(dir, "tree")
			unpackTiny(t, tree)
			write(t, filepath.Join(tree, "debian/source/format"), tt.format+"\n")
			write(t, filepath.Join(tree, "debian/changelog"), "tiny ("+tt.version+") bookworm; urgency=low\n\n  * Test.\n\n -- A <a@example.org>  Wed, 01 Jan 2025 00:00:00 +0000\n")
			if err := packSource(tree, dir); err != nil {
				t.Fatal(err)
			}
			for _, name := range tt.files {
				if !exists(filepath.Join(dir, name)) {
					t.Errorf("no %s", name)
				}
			}
			found, err := filepath.Glob(filepath.Join(dir, "*.dsc"))
			if err != nil || len(found) != 1 {
				t.Fatalf("found %q, %v", found, err)
			}
			out := filepath.Join(dir, "out")
			cmd := exec.Command(dpkgSource, "--no-check", "--require-strong-checksums", "-x", found[0], out)
			cmd.Env = append(os.Environ(), "TMPDIR="+dir)
			if text, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("dpkg-source: %v\n%s", err, text)
			}
			if text, err := exec.Command("diff", "-r", "--exclude=.pc", tree, out).CombinedOutput(); err != nil {
				t.Errorf("unpacked tree differs: %v\n%s", err, text)
			}
			rules, err := os.Stat(filepath.Join(out, "debian/rules"))
			if err != nil || rules.Mode().Perm()&0o111 == 0 {
				t.Errorf("debian/rules: %v, %v", rules.Mode(), err)
			}
		})
	}
}

func unpackTiny(t *testing.T, tree string) {
	t.Helper()
	source, err := txtar.ParseFile("testdata/source/tiny.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range source.Files {
		write(t, filepath.Join(tree, f.Name), string(f.Data))
	}
	if err := os.Chmod(filepath.Join(tree, "debian/rules"), 0o755); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
