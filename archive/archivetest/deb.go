package archivetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Epoch is the modification time of all that is made here, so that equal
// packages have equal bytes.
var Epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Package is a binary package to be made.
type Package struct {
	Name, Version string
	Architecture  string            // "": all
	Depends       string            // "": no field
	Fields        string            // further control fields, one per line
	Long          string            // further lines of the description, each with its blank
	Files         map[string]string // content by path, "usr/share/doc/x/copyright"; "": one such file
	Scripts       map[string]string // members of the control archive: "postinst", "conffiles"
	Compression   string            // of the members: "gz" (for ""), "xz", "zst", "none"
}

// Control returns the package's control file.
func (p Package) Control() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Package: %s\nVersion: %s\nArchitecture: %s\nMaintainer: Test <test@example.org>\n",
		p.Name, p.Version, p.arch())
	for _, name := range []string{"Section", "Priority"} {
		if !strings.Contains("\n"+p.Fields, "\n"+name+":") {
			fmt.Fprintf(&b, "%s: %s\n", name, map[string]string{"Section": "misc", "Priority": "optional"}[name])
		}
	}
	if p.Depends != "" {
		fmt.Fprintf(&b, "Depends: %s\n", p.Depends)
	}
	if f := strings.TrimSpace(p.Fields); f != "" {
		b.WriteString(f + "\n")
	}
	fmt.Fprintf(&b, "Description: test package %s\n%s", p.Name, p.Long)
	return b.String()
}

// FileName returns the name of the package's .deb, without an epoch.
func (p Package) FileName() string {
	_, version, ok := strings.Cut(p.Version, ":")
	if !ok {
		version = p.Version
	}
	return p.Name + "_" + version + "_" + p.arch() + ".deb"
}

func (p Package) arch() string {
	if p.Architecture == "" {
		return "all"
	}
	return p.Architecture
}

// Deb returns the bytes of the package.
func (p Package) Deb() []byte {
	control := map[string]string{"control": p.Control()}
	maps.Copy(control, p.Scripts)
	files := p.Files
	if files == nil {
		files = map[string]string{"usr/share/doc/" + p.Name + "/copyright": "Public domain.\n"}
	}
	ext := map[string]string{"": ".gz", "gz": ".gz", "xz": ".xz", "zst": ".zst", "none": ""}[p.Compression]
	var b bytes.Buffer
	b.WriteString("!<arch>\n")
	member(&b, "debian-binary", []byte("2.0\n"))
	member(&b, "control.tar"+ext, Compress(ext, tarball(control)))
	member(&b, "data.tar"+ext, Compress(ext, tarball(files)))
	return b.Bytes()
}

// member appends a member of an ar archive as dpkg-deb writes it.
func member(b *bytes.Buffer, name string, data []byte) {
	fmt.Fprintf(b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", name, Epoch.Unix(), 0, 0, "100644", len(data))
	b.Write(data)
	if len(data)%2 == 1 {
		b.WriteByte('\n')
	}
}

// tarball makes a tar archive of files with their directories, sorted, owned
// by root. Maintainer scripts and files below a bin directory are executable.
func tarball(files map[string]string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	seen := map[string]bool{}
	add := func(h tar.Header, content string) {
		h.ModTime, h.Uname, h.Gname, h.Format = Epoch, "root", "root", tar.FormatGNU
		if err := w.WriteHeader(&h); err != nil {
			panic(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			panic(err)
		}
	}
	var dirs func(dir string)
	dirs = func(dir string) {
		if seen[dir] {
			return
		}
		seen[dir] = true
		if dir != "." {
			dirs(path.Dir(dir))
			dir = "./" + dir
		}
		add(tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755}, "")
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		dirs(path.Dir(name))
		mode := int64(0o644)
		if slices.Contains([]string{"preinst", "postinst", "prerm", "postrm", "config"}, name) || path.Base(path.Dir(name)) == "bin" {
			mode = 0o755
		}
		add(tar.Header{Typeflag: tar.TypeReg, Name: "./" + name, Mode: mode, Size: int64(len(files[name]))}, files[name])
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// Compress packs data in the form that the extension names: ".gz", ".xz",
// ".zst" or "". The .xz is a valid one that does not compress.
func Compress(ext string, data []byte) []byte {
	var b bytes.Buffer
	switch ext {
	case "":
		return data
	case ".gz":
		pack(gzip.NewWriter(&b), data)
	case ".zst":
		w, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
		if err != nil {
			panic(err)
		}
		pack(w, data)
	case ".xz":
		return storeXZ(data)
	default:
		panic("archivetest: unknown compression " + ext)
	}
	return b.Bytes()
}

// pack writes data to a compressor whose output cannot fail.
func pack(w io.WriteCloser, data []byte) {
	_, err := w.Write(data)
	if err = errors.Join(err, w.Close()); err != nil {
		panic(err)
	}
}
