package archivetest

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dbuild/deb"
	"dbuild/internal/testenv"
)

func TestDebIsReadable(t *testing.T) {
	for _, compression := range []string{"gz", "xz", "zst", "none"} {
		t.Run(compression, func(t *testing.T) {
			p := Package{
				Name: "hello", Version: "1:2.10-3", Architecture: "amd64", Depends: "libc6 (>= 2.36)", Compression: compression,
				Files:   map[string]string{"usr/bin/hello": "#!/bin/sh\n", "usr/share/doc/hello/copyright": "x\n"},
				Scripts: map[string]string{"postinst": "#!/bin/sh\n"},
			}
			data := p.Deb()
			if p.FileName() != "hello_2.10-3_amd64.deb" || !bytes.Equal(data, p.Deb()) {
				t.Errorf("name %s, or two builds differ", p.FileName())
			}
			b, err := deb.OpenDeb(bytes.NewReader(data), int64(len(data)))
			if err != nil {
				t.Fatal(err)
			}
			if b.Control.Get("Version") != p.Version || len(b.ControlFiles["postinst"]) == 0 {
				t.Errorf("control reads %+v", b.Control)
			}
			testenv.NeedProgram(t, "dpkg-deb")
			name := filepath.Join(t.TempDir(), p.FileName())
			if err := os.WriteFile(name, data, 0o644); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command("dpkg-deb", "--contents", name).CombinedOutput()
			if err != nil || !strings.Contains(string(out), "-rwxr-xr-x root/root") {
				t.Errorf("dpkg-deb: %v\n%s", err, out)
			}
		})
	}
}

// TestCompress reads everything back, and asks the xz tool about ours.
func TestCompress(t *testing.T) {
	for _, size := range []int{0, 1, 1 << 16, 1<<16 + 1, 300_001} {
		data := bytes.Repeat([]byte("0123456789"), size/10+1)[:size]
		for _, ext := range []string{"", ".gz", ".xz", ".zst"} {
			packed := Compress(ext, data)
			r, err := deb.Decompress("x"+ext, bytes.NewReader(packed))
			if err != nil {
				t.Fatalf("%d bytes %s: %v", size, ext, err)
			}
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes %s: read back %d, %v", size, ext, len(got), err)
			}
			if _, err := exec.LookPath("xz"); err != nil || ext != ".xz" {
				continue
			}
			cmd := exec.Command("xz", "--test")
			cmd.Stdin = bytes.NewReader(packed)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%d bytes: xz: %v %s", size, err, out)
			}
		}
	}
}

func TestSourcePackageUnpacks(t *testing.T) {
	a := New(t)
	a.AddSuite(Suite{Name: "sid"})
	dsc := a.AddSource("sid", "main", SourcePackage{Name: "hello", Version: "2.10", Files: map[string]string{"README": "x\n"}})
	a.Publish("sid")
	testenv.NeedProgram(t, "dpkg-source")
	dir := t.TempDir()
	a.WriteTo(dir)
	out, err := exec.Command("dpkg-source", "--no-check", "-x", filepath.Join(dir, dsc), filepath.Join(dir, "tree")).CombinedOutput()
	if err != nil {
		t.Fatalf("dpkg-source: %v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "tree/README")); err != nil {
		t.Error(err)
	}
}
