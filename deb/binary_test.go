package deb

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dbuild/internal/testenv"
)

const controlText = "Package: tiny\nVersion: 1.0-1\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: x\n"

// arFile builds an ar archive from names and contents.
func arFile(pairs ...string) []byte {
	var b bytes.Buffer
	b.WriteString(arMagic)
	for i := 0; i < len(pairs); i += 2 {
		fmt.Fprintf(&b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n%s", pairs[i], 0, 0, 0, "100644", len(pairs[i+1]), pairs[i+1])
		if len(pairs[i+1])%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

// tarFile builds a tar archive; a header without Size and Typeflag is that
// of a regular file with the content given.
func tarFile(t testing.TB, members ...tarMember) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := m.Header
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		h.Size = int64(len(m.content))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type tarMember struct {
	tar.Header
	content string
}

func regular(name, content string) tarMember {
	return tarMember{tar.Header{Name: name}, content}
}

func controlTar(t testing.TB) string {
	return string(tarFile(t,
		tarMember{tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: time.Unix(1, 0)}, ""},
		tarMember{tar.Header{Name: "./control", ModTime: time.Unix(2, 0)}, controlText},
		tarMember{tar.Header{Name: "./postinst", Mode: 0o755, ModTime: time.Unix(3, 0)}, "#!/bin/sh\n"}))
}

func dataTar(t testing.TB) string {
	return string(tarFile(t, tarMember{tar.Header{Name: "./usr/", Typeflag: tar.TypeDir, Mode: 0o755}, ""}, regular("./usr/file", "content")))
}

// debFile builds a valid .deb with both tars compressed by one suffix.
func debFile(t testing.TB, suffix string) []byte {
	t.Helper()
	pack := func(s string) string {
		switch suffix {
		case ".gz":
			return string(gzipped(t, []byte(s)))
		case ".zst":
			return string(zstded(t, []byte(s)))
		}
		return s
	}
	return arFile("debian-binary", "2.0\n", "control.tar"+suffix, pack(controlTar(t)), "data.tar"+suffix, pack(dataTar(t)))
}

// oddDeb is a valid .deb with a member of odd length.
func oddDeb(t testing.TB) []byte {
	return arFile("debian-binary", "2.10\n", "control.tar", controlTar(t), "data.tar", dataTar(t))
}

func openBytes(b []byte) (*BinaryFile, error) {
	return OpenDeb(bytes.NewReader(b), int64(len(b)))
}

func TestOpenDeb(t *testing.T) {
	for _, suffix := range []string{"", ".gz", ".zst"} {
		t.Run("tar"+suffix, func(t *testing.T) {
			file := debFile(t, suffix)
			got, err := openBytes(file)
			if err != nil {
				t.Fatal(err)
			}
			if v := got.Control.Get("Version"); v != "1.0-1" {
				t.Errorf("version %q", v)
			}
			want := map[string][]byte{"control": []byte(controlText), "postinst": []byte("#!/bin/sh\n")}
			if diff := cmp.Diff(want, got.ControlFiles); diff != "" {
				t.Error(diff)
			}
			if len(got.ControlHeaders) != 3 || got.ControlHeaders[2].Mode != 0o755 || got.ControlHeaders[2].ModTime.Unix() != 3 {
				t.Errorf("headers %+v", got.ControlHeaders)
			}
			if got.DataName != "data.tar"+suffix {
				t.Errorf("data member %q", got.DataName)
			}
			data, err := got.Data(bytes.NewReader(file))
			if err != nil {
				t.Fatal(err)
			}
			defer data.Close()
			if b, err := io.ReadAll(data); err != nil || string(b) != dataTar(t) {
				t.Errorf("data: %d bytes, %v", len(b), err)
			}
		})
	}
}

func TestOpenDebVariants(t *testing.T) {
	control, data := controlTar(t), dataTar(t)
	for name, b := range map[string][]byte{
		"odd length":             oddDeb(t),
		"names that end in /":    arFile("debian-binary/", "2.0\n", "control.tar/", control, "data.tar/", data),
		"kinds that differ":      arFile("debian-binary", "2.0\n", "control.tar.zst", string(zstded(t, []byte(control))), "data.tar.gz", string(gzipped(t, []byte(data)))),
		"control file without .": arFile("debian-binary", "2.0\n", "control.tar", string(tarFile(t, regular("control", controlText))), "data.tar", data),
	} {
		if got, err := openBytes(b); err != nil || got.Control.Get("Package") != "tiny" {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// TestOpenDebByDpkg reads what dpkg-deb writes, xz among it.
func TestOpenDebByDpkg(t *testing.T) {
	program := needProgram(t, "dpkg-deb")
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	if err := os.MkdirAll(filepath.Join(tree, "DEBIAN"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"DEBIAN/control": controlText, "DEBIAN/md5sums": "x\n", "file": "content\n"} {
		if err := os.WriteFile(filepath.Join(tree, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, compression := range []string{"gzip", "xz", "zstd", "none"} {
		for _, uniform := range []string{"--uniform-compression", "--no-uniform-compression"} {
			t.Run(compression+uniform, func(t *testing.T) {
				file := filepath.Join(t.TempDir(), "x.deb")
				out, err := exec.Command(program, "--root-owner-group", uniform, "-Z"+compression, "-b", tree, file).CombinedOutput()
				if err != nil {
					t.Skipf("dpkg-deb cannot write %s: %s", compression, out)
				}
				b, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				got, err := openBytes(b)
				if err != nil {
					t.Fatal(err)
				}
				if got.Control.Get("Package") != "tiny" || string(got.ControlFiles["md5sums"]) != "x\n" {
					t.Errorf("got %+v", got)
				}
				data, err := got.Data(bytes.NewReader(b))
				if err != nil {
					t.Fatal(err)
				}
				defer data.Close()
				names := ""
				for r := tar.NewReader(data); ; {
					h, err := r.Next()
					if err != nil {
						break
					}
					names += h.Name + " "
				}
				if names != "./ ./file " {
					t.Errorf("data holds %q", names)
				}
			})
		}
	}
}

// negativeSizeAr is the 68-byte file that keeps some readers busy for ever:
// its size of -60 leads back to its own header.
const negativeSizeAr = arMagic + "debian-binary   0           0     0     100644  -60       `\n"

// malformedDebs are also the seeds of FuzzDebOpen.
func malformedDebs(t testing.TB) map[string][]byte {
	control, data := controlTar(t), dataTar(t)
	member := func(name, size string) []byte {
		return fmt.Appendf([]byte(arMagic), "%-16s%-12d%-6d%-6d%-8s%-10s`\n", name, 0, 0, 0, "100644", size)
	}
	withControl := func(members ...tarMember) []byte {
		return arFile("debian-binary", "2.0\n", "control.tar", string(tarFile(t, members...)), "data.tar", data)
	}
	good := debFile(t, "")
	edit := func(old, new string) []byte {
		if !bytes.Contains(good, []byte(old)) {
			t.Fatalf("%q is not in the file", old)
		}
		return bytes.Replace(good, []byte(old), []byte(new), 1)
	}
	many := []tarMember{regular("control", controlText)}
	for i := range maxControlMembers {
		many = append(many, regular(fmt.Sprintf("f%d", i), ""))
	}
	return map[string][]byte{
		"empty":                     nil,
		"7 bytes":                   []byte(arMagic[:7]),
		"not ar":                    []byte("not an ar archive at all"),
		"thin ar":                   []byte("!<thin>\n" + string(good[8:])),
		"magic only":                []byte(arMagic),
		"header only":               member("debian-binary", "4"),
		"size negative":             []byte(negativeSizeAr),
		"size huge":                 member("debian-binary", "9999999999"),
		"size not decimal":          member("debian-binary", "0x4"),
		"size with a plus sign":     member("debian-binary", "+4"),
		"size blank":                member("debian-binary", ""),
		"size with a blank first":   member("debian-binary", " 4"),
		"size with a blank inside":  member("debian-binary", "1 4"),
		"name blank":                append(member("", "4"), "2.0\n"...),
		"name table":                append(member("//", "4"), "2.0\n"...),
		"name in the table":         append(member("/0", "4"), "2.0\n"...),
		"name of BSD kind":          append(member("#1/13", "4"), "2.0\n"...),
		"name with a slash":         append(member("x/debian-binary", "4"), "2.0\n"...),
		"owner not a number":        edit("debian-binary   0           0     ", "debian-binary   0           x     "),
		"header end wrong":          edit("`\n", "``"),
		"padding not a newline":     bytes.Replace(oddDeb(t), []byte("2.10\n\n"), []byte("2.10\nx"), 1),
		"padding missing":           bytes.Replace(oddDeb(t), []byte("2.10\n\n"), []byte("2.10\n"), 1),
		"junk at the end":           append(bytes.Clone(good), "junk"...),
		"newline at the end":        append(bytes.Clone(good), '\n'),
		"wrong order":               arFile("debian-binary", "2.0\n", "data.tar", data, "control.tar", control),
		"debian-binary second":      arFile("control.tar", control, "debian-binary", "2.0\n", "data.tar", data),
		"debian-binary missing":     arFile("control.tar", control, "data.tar", data),
		"control missing":           arFile("debian-binary", "2.0\n", "data.tar", data),
		"data missing":              arFile("debian-binary", "2.0\n", "control.tar", control),
		"two control members":       arFile("debian-binary", "2.0\n", "control.tar", control, "control.tar", control, "data.tar", data),
		"two data members":          arFile("debian-binary", "2.0\n", "control.tar", control, "data.tar", data, "data.tar", data),
		"extra member first":        arFile("_x", "x", "debian-binary", "2.0\n", "control.tar", control, "data.tar", data),
		"extra member between":      arFile("debian-binary", "2.0\n", "_x", "x", "control.tar", control, "data.tar", data),
		"extra member last":         arFile("debian-binary", "2.0\n", "control.tar", control, "data.tar", data, "gpgorigin", "x"),
		"extra member twice":        arFile("debian-binary", "2.0\n", "control.tar", control, "data.tar", data, "_x", "x", "_y", "y", "_x", "x"),
		"data behind an extra one":  arFile("debian-binary", "2.0\n", "control.tar", control, "_x", "x", "data.tar", data),
		"second data behind it":     arFile("debian-binary", "2.0\n", "control.tar", control, "data.tar", data, "_x", "x", "data.tar", data),
		"format 3.0":                arFile("debian-binary", "3.0\n", "control.tar", control, "data.tar", data),
		"format without newline":    arFile("debian-binary", "2.0", "control.tar", control, "data.tar", data),
		"format with more lines":    arFile("debian-binary", "2.0\n3.0\n", "control.tar", control, "data.tar", data),
		"format without minor":      arFile("debian-binary", "2.\n", "control.tar", control, "data.tar", data),
		"format of 64 KiB":          arFile("debian-binary", "2.0\n"+strings.Repeat("\n", 64<<10), "control.tar", control, "data.tar", data),
		"format empty":              arFile("debian-binary", "", "control.tar", control, "data.tar", data),
		"control bz2":               arFile("debian-binary", "2.0\n", "control.tar.bz2", control, "data.tar", data),
		"control lzma":              arFile("debian-binary", "2.0\n", "control.tar.lzma", control, "data.tar", data),
		"control unknown suffix":    arFile("debian-binary", "2.0\n", "control.tar.foo", control, "data.tar", data),
		"control not as its suffix": arFile("debian-binary", "2.0\n", "control.tar.gz", control, "data.tar", data),
		"control zst empty":         arFile("debian-binary", "2.0\n", "control.tar.zst", "", "data.tar", data),
		"control gz cut":            arFile("debian-binary", "2.0\n", "control.tar.gz", string(gzipped(t, []byte(control))[:100]), "data.tar", data),
		"control gz with junk":      arFile("debian-binary", "2.0\n", "control.tar.gz", string(gzipped(t, []byte(control)))+"junk", "data.tar", data),
		"control not a tar":         arFile("debian-binary", "2.0\n", "control.tar", strings.Repeat("x", 1024), "data.tar", data),
		"control cut":               arFile("debian-binary", "2.0\n", "control.tar", control[:700], "data.tar", data),
		"data zst empty":            arFile("debian-binary", "2.0\n", "control.tar", control, "data.tar.zst", ""),
		"data bz2":                  arFile("debian-binary", "2.0\n", "control.tar", control, "data.tar.bz2", data),
		"data lzma":                 arFile("debian-binary", "2.0\n", "control.tar", control, "data.tar.lzma", data),
		"data unknown suffix":       arFile("debian-binary", "2.0\n", "control.tar", control, "data.tarx", data),
		"no control file":           withControl(regular("./postinst", "x")),
		"two control files":         withControl(regular("./control", controlText), regular("control", controlText)),
		"control file is a link":    withControl(tarMember{tar.Header{Name: "control", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, ""}),
		"control file hard link":    withControl(regular("x", controlText), tarMember{tar.Header{Name: "control", Typeflag: tar.TypeLink, Linkname: "x"}, ""}),
		"control file FIFO":         withControl(tarMember{tar.Header{Name: "control", Typeflag: tar.TypeFifo}, ""}),
		"control file device":       withControl(tarMember{tar.Header{Name: "control", Typeflag: tar.TypeChar}, ""}),
		"locked directory":          withControl(regular("control", controlText), tarMember{tar.Header{Name: "./d/", Typeflag: tar.TypeDir, Mode: 0o100}, ""}, regular("./d/f", "x")),
		"directory as control":      withControl(tarMember{tar.Header{Name: "./control/", Typeflag: tar.TypeDir}, ""}),
		"control file above":        withControl(regular("control", controlText), regular("../x", "x")),
		"control file absolute":     withControl(regular("/control", controlText)),
		"control file deeper":       withControl(regular("./././control", controlText)),
		"too many control files":    withControl(many...),
		"control file empty":        withControl(regular("control", "")),
		"control: two paragraphs":   withControl(regular("control", controlText+"\nPackage: other\n")),
		"control: duplicate field":  withControl(regular("control", controlText+"package: other\n")),
		"control: no version":       withControl(regular("control", "Package: tiny\nArchitecture: all\n")),
		"control: name with slash":  withControl(regular("control", strings.Replace(controlText, "tiny", "../tiny", 1))),
		"control: bad version":      withControl(regular("control", strings.Replace(controlText, "1.0-1", "1.0-", 1))),
		"control: bad architecture": withControl(regular("control", strings.Replace(controlText, "all", "../all", 1))),
		"control: NUL":              withControl(regular("control", strings.Replace(controlText, "tiny", "ti\x00ny", 1))),
	}
}

// A signature may be added to a .deb: dpkg does not look at it, nor do we.
func TestOpenDebIgnoresAddedMembers(t *testing.T) {
	built := oddDeb(t)
	added := append(bytes.Clone(built), arFile("_gpgorigin", "odd", "_x", "")[len(arMagic):]...)
	b, err := openBytes(added)
	if err != nil {
		t.Fatal(err)
	}
	if b.BuiltSize != int64(len(built)) || !cmp.Equal(b.Added, []string{"_gpgorigin", "_x"}) {
		t.Errorf("built size %d of %d, added %q", b.BuiltSize, len(built), b.Added)
	}
	if b, err = openBytes(built); err != nil || b.BuiltSize != int64(len(built)) || b.Added != nil {
		t.Errorf("without: %+v, %v", b, err)
	}
	dpkg := testenv.NeedProgram(t, "dpkg-deb")
	path := filepath.Join(t.TempDir(), "x.deb")
	if err := os.WriteFile(path, added, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(dpkg, "--contents", path).CombinedOutput(); err != nil {
		t.Errorf("dpkg-deb: %v\n%s", err, out)
	}
}

func TestOpenDebRefuses(t *testing.T) {
	for name, b := range malformedDebs(t) {
		t.Run(name, func(t *testing.T) {
			done := make(chan error, 1)
			go func() {
				_, err := openBytes(b)
				done <- err
			}()
			select {
			case err := <-done:
				if err == nil {
					t.Error("is accepted")
				}
			case <-time.After(5 * time.Second):
				t.Fatal("does not end")
			}
		})
	}
}

// paxHeader returns an extended header in front of the next member;
// archive/tar does not write all that it reads.
func paxHeader(t testing.TB, records ...string) []byte {
	t.Helper()
	var content strings.Builder
	for _, r := range records {
		// The length counts its own digits: here always two.
		fmt.Fprintf(&content, "%02d %s\n", len(r)+4, r)
	}
	b := tarFile(t, regular("PaxHeaders/x", content.String()))
	b = b[:len(b)-1024] // without the end of the archive
	b[156] = tar.TypeXHeader
	copy(b[148:156], "        ")
	sum := 0
	for _, c := range b[:512] {
		sum += int(c)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

func TestOpenDebSparseControlFile(t *testing.T) {
	for _, tc := range []struct {
		name    string
		records []string
		ok      bool
	}{
		{"other records", []string{"comment=nothing special"}, true},
		{"sparse", []string{"GNU.sparse.major=0", "GNU.sparse.minor=1", "GNU.sparse.numblocks=1", "GNU.sparse.map=0,1", "GNU.sparse.size=1048576"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			control := append(paxHeader(t, tc.records...), tarFile(t, regular("x", "x"), regular("control", controlText))...)
			_, err := openBytes(arFile("debian-binary", "2.0\n", "control.tar", string(control), "data.tar", dataTar(t)))
			if (err == nil) != tc.ok {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestOpenDebTruncated(t *testing.T) {
	for _, suffix := range []string{"", ".gz", ".zst"} {
		file := debFile(t, suffix)
		whole, err := openBytes(file)
		if err != nil {
			t.Fatal(err)
		}
		step := max(1, len(file)/2000)
		for n := 0; n < len(file); n += step {
			if _, err := openBytes(file[:n]); err == nil {
				t.Errorf("tar%s: %d of %d bytes are accepted", suffix, n, len(file))
			}
			// The size that the caller gives may be wrong as well.
			if _, err := OpenDeb(bytes.NewReader(file[:n]), int64(len(file))); err == nil && int64(n) < whole.DataOffset {
				t.Errorf("tar%s: %d of %d bytes with a size too large are accepted", suffix, n, len(file))
			}
		}
	}
}

func TestOpenDebControlBomb(t *testing.T) {
	big := strings.Repeat("\x00", 65<<20)
	for name, control := range map[string][]byte{
		"65 MiB control file": tarFile(t, regular("control", controlText), regular("big", big)),
		"65 MiB after the tar": append(tarFile(t, regular("control", controlText)),
			big...),
		"many large files": tarFile(t, regular("a", big[:33<<20]), regular("b", big[:33<<20])),
	} {
		t.Run(name, func(t *testing.T) {
			packed := string(zstded(t, control))
			if len(packed) > 1<<20 {
				t.Fatalf("the bomb has %d bytes", len(packed))
			}
			_, err := openBytes(arFile("debian-binary", "2.0\n", "control.tar.zst", packed, "data.tar", dataTar(t)))
			var limit *LimitError
			if !errors.As(err, &limit) {
				t.Errorf("error %v, want a LimitError", err)
			}
		})
	}
}

func TestReadAr(t *testing.T) {
	b := arFile("a", "xy", "b/", "z", "c", "")
	got, err := readAr(bytes.NewReader(b), int64(len(b)), 3)
	if err != nil {
		t.Fatal(err)
	}
	want := []arMember{{name: "a", offset: 68, size: 2}, {name: "b", offset: 130, size: 1}, {name: "c", offset: 192}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(arMember{})); diff != "" {
		t.Error(diff)
	}
	if _, err := readAr(bytes.NewReader(b), int64(len(b)), 2); err == nil {
		t.Error("more members than allowed are accepted")
	}
}
