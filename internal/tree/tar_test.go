package tree

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dbuild/internal/testenv"
)

func tarOf(t *testing.T, m Manifest, dir string, o TarOptions) ([]byte, Manifest) {
	t.Helper()
	var b bytes.Buffer
	got, err := WriteTar(t.Context(), &b, m, Layers{Dirs: []string{dir}, Map: ids()}, o)
	must(t, err)
	return b.Bytes(), got
}

func TestTarRoundTrip(t *testing.T) {
	dir := sampleTree(t)
	m, _ := read1(t, dir)
	b, _ := tarOf(t, m, dir, TarOptions{})
	got, err := ReadTar(t.Context(), bytes.NewReader(b))
	must(t, err)
	if diff := cmp.Diff(m.Canonical(), got.Canonical()); diff != "" {
		t.Error(diff)
	}
	if got.Digest() != m.Digest() {
		t.Error("digests differ")
	}
}

func TestTarIsReproducible(t *testing.T) {
	one, two := sampleTree(t), sampleTree(t)
	file(t, two, "tmp/more", "x")
	file(t, two, "etc/hosts", "x")
	m1, _ := read1(t, one)
	m2, _ := read1(t, two)
	pipe := mustFind(t, m1, "var/pipe").MTime
	m2.Lookup("var/pipe").MTime = pipe // made at another second, perhaps
	b1, _ := tarOf(t, m1, one, TarOptions{})
	b2, _ := tarOf(t, m2, two, TarOptions{})
	if !bytes.Equal(b1, b2) {
		t.Error("equal trees gave different bytes")
	}
}

func TestTarHeaders(t *testing.T) {
	dir := sampleTree(t)
	long := "usr/share/" + strings.Repeat("n", 120) + "/" + strings.Repeat("m", 120)
	file(t, dir, long, "x")
	m, _ := read1(t, dir)
	b, _ := tarOf(t, m, dir, TarOptions{Clamp: 1_600_000_000, OmitDevices: true})
	tr := tar.NewReader(bytes.NewReader(b))
	var names []string
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		names = append(names, h.Name)
		if h.Uname != "" || h.Gname != "" || h.Uid != 0 || h.ModTime.Unix() != 1_600_000_000 || h.ModTime.Nanosecond() != 0 {
			t.Errorf("%q: %+v", h.Name, h)
		}
		if h.Name == "./usr/share/z" && (h.Typeflag != tar.TypeLink || h.Linkname != "./usr/bin/a") {
			t.Errorf("hard link is %+v", h)
		}
		if pax := len(h.PAXRecords) > 0; pax != strings.Contains(h.Name, "nnn") {
			t.Errorf("%q: records %v", h.Name, h.PAXRecords)
		}
	}
	want := []string{
		"./", "./bin", "./dev/", "./dev/fd", "./dev/pts/", "./dev/shm/", "./dev/stderr", "./dev/stdin", "./dev/stdout",
		"./empty/", "./etc/", "./etc/passwd", "./proc/", "./run/", "./sys/", "./tmp/", "./usr/", "./usr/bin/", "./usr/bin/a", "./usr/bin/a b\\c\n",
		"./usr/bin.d/", "./usr/bin.d/b", "./usr/share/", "./usr/share/big", "./" + filepath.Dir(long) + "/", "./" + long, "./usr/share/z",
		"./var/", "./var/pipe", "./var/tmp/",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}

func TestTarTakesFilesFromTheirLayers(t *testing.T) {
	low, up := sampleTree(t), t.TempDir()
	file(t, up, "etc/passwd", "newer")
	file(t, up, "usr/new", "n")
	lower, _ := read1(t, low)
	upper, _ := read1(t, up)
	var b bytes.Buffer
	_, err := WriteTar(t.Context(), &b, Merge(lower, upper), Layers{Dirs: []string{low, up}, Map: ids()}, TarOptions{})
	must(t, err)
	got, err := ReadTar(t.Context(), &b)
	must(t, err)
	if got.Digest() != Merge(lower, upper).Digest() {
		t.Error("digests differ")
	}
	if mustFind(t, got, "etc/passwd").SHA256 != mustFind(t, upper, "etc/passwd").SHA256 {
		t.Error("etc/passwd is the lower one")
	}
}

func TestTarFindsDamage(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"content": func(p string) error { return os.WriteFile(p, []byte("tOol"), 0o644) },
		"size":    func(p string) error { return os.WriteFile(p, []byte("longer"), 0o644) },
		"mode":    func(p string) error { return os.Chmod(p, 0o600) },
		"type":    func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o755)) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := sampleTree(t)
			m, _ := read1(t, dir)
			must(t, change(filepath.Join(dir, "usr/bin/a")))
			_, err := WriteTar(t.Context(), io.Discard, m, Layers{Dirs: []string{dir}, Map: ids()}, TarOptions{})
			if !isDamaged(err, "usr/bin/a") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// failingWriter fails at the n-th byte.
type failingWriter struct{ left int }

var errFull = errors.New("full")

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestTarStopsWhenTheWriterFails(t *testing.T) {
	dir := sampleTree(t)
	m, _ := read1(t, dir)
	for _, n := range []int{0, 5000, 2 << 20} {
		_, err := WriteTar(t.Context(), &failingWriter{n}, m, Layers{Dirs: []string{dir}, Map: ids()}, TarOptions{})
		if !errors.Is(err, errFull) {
			t.Errorf("after %d bytes: got %v", n, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := WriteTar(ctx, io.Discard, m, Layers{Dirs: []string{dir}, Map: ids()}, TarOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

func TestReadTarInAnyOrder(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "/z", Typeflag: tar.TypeReg, Mode: 0o644},
		{Name: "d/m", Typeflag: tar.TypeLink, Linkname: "z"},
		{Name: "./a", Typeflag: tar.TypeLink, Linkname: "d/m"},
		{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755},
	} {
		must(t, w.WriteHeader(&h))
	}
	must(t, w.Close())
	m, err := ReadTar(t.Context(), &b)
	must(t, err)
	var got []string
	for _, e := range m {
		got = append(got, e.Path+"="+e.HardLink)
	}
	if diff := cmp.Diff([]string{".=", "a=", "d=", "d/m=a", "z=a"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestReadTarRefuses(t *testing.T) {
	root := tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}
	for name, headers := range map[string][]tar.Header{
		"leaves the root": {root, {Name: "../x", Typeflag: tar.TypeReg}},
		"dot dot inside":  {root, {Name: "a/../x", Typeflag: tar.TypeReg}},
		"twice":           {root, {Name: "x", Typeflag: tar.TypeReg}, {Name: "./x", Typeflag: tar.TypeReg}},
		"no directory":    {root, {Name: "a/x", Typeflag: tar.TypeReg}},
		"in a file":       {root, {Name: "a", Typeflag: tar.TypeReg}, {Name: "a/x", Typeflag: tar.TypeReg}},
		"link forward":    {root, {Name: "a", Typeflag: tar.TypeLink, Linkname: "b"}, {Name: "b", Typeflag: tar.TypeReg}},
		"no root":         {{Name: "x", Typeflag: tar.TypeReg}},
		"odd type":        {root, {Name: "x", Typeflag: 'Q'}},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			for _, h := range headers {
				must(t, w.WriteHeader(&h))
			}
			must(t, w.Close())
			if m, err := ReadTar(t.Context(), &b); !errors.Is(err, ErrSyntax) {
				t.Errorf("got %v, %v", m, err)
			}
		})
	}
}

// TestRootTarUnpacks lets tar(1) unpack what we wrote, and reads that again.
func TestRootTarUnpacks(t *testing.T) {
	testenv.NeedRoot(t)
	tool := testenv.NeedProgram(t, "tar")
	dir := sampleTree(t)
	xattr(t, dir, "usr/bin.d/b", capsAttr, "\x01\x00\x00\x02\x00\x20\x00\x00"+strings.Repeat("\x00", 12))
	must(t, os.Lchown(filepath.Join(dir, "usr/bin/a b\\c\n"), 3_000_000, 12))
	m, _, err := Read(t.Context(), dir, IDMap{}, 2)
	must(t, err)
	out := t.TempDir()
	cmd := exec.Command(tool, "-x", "-p", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-C", out)
	in, err := cmd.StdinPipe()
	must(t, err)
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	_, err = WriteTar(t.Context(), in, m, Layers{Dirs: []string{dir}}, TarOptions{})
	must(t, err, in.Close(), cmd.Wait())
	got, _, err := Read(t.Context(), out, IDMap{}, 2)
	must(t, err)
	if diff := cmp.Diff(m.Canonical(), got.Canonical()); diff != "" {
		t.Error(diff)
	}
	if e := mustFind(t, got, "dev/null"); e.Type != TypeChar || e.Mode != 0o666 {
		t.Errorf("dev/null is %+v", e)
	}
	if problems, _ := Scan(got); len(problems) > 0 {
		t.Errorf("problems %q", problems)
	}
}
