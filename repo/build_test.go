package repo

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dbuild/archive/archivetest"
)

// pkg describes a tiny package to be made; the zero values are those of hello
// for this machine.
type pkg struct {
	name, version, arch string
	source              string // the Source field
	section             string
	content             string // tells one build from another
	ext                 string // "deb"
	control             string // further control fields, with newlines
	long                string // further lines of the description
	path                string // of its one file
	fileName            string // if it shall lie
}

func (p pkg) withDefaults() pkg {
	set := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	set(&p.name, "hello")
	set(&p.version, "2.10-3")
	set(&p.arch, "amd64")
	set(&p.section, "devel")
	set(&p.ext, "deb")
	set(&p.path, "usr/share/doc/"+p.name+"/content")
	_, noEpoch, ok := strings.Cut(p.version, ":")
	if !ok {
		noEpoch = p.version
	}
	set(&p.fileName, fmt.Sprintf("%s_%s_%s.%s", p.name, noEpoch, p.arch, p.ext))
	return p
}

// build writes the package into a new directory.
func (p pkg) build(t testing.TB) File {
	t.Helper()
	p = p.withDefaults()
	fields := "Section: " + p.section + "\n" + p.control
	if p.source != "" {
		fields += "Source: " + p.source + "\n"
	}
	return writeFile(t, p.fileName, archivetest.Package{
		Name: p.name, Version: p.version, Architecture: p.arch, Fields: fields, Long: p.long,
		Files: map[string]string{p.path: p.content},
	}.Deb())
}

func writeFile(t testing.TB, name string, data []byte) File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "input")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return File{Name: name, Path: path, Size: int64(len(data)), SHA256: sha(data)}
}

func sha(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// source writes hello's .dsc and files; content tells tarballs apart.
func source(t testing.TB, version, origContent, debianContent string) []File {
	t.Helper()
	upstream, _, _ := strings.Cut(version, "-")
	orig := writeFile(t, "hello_"+upstream+".orig.tar.gz", archivetest.Compress(".gz", []byte(origContent)))
	debian := writeFile(t, "hello_"+version+".debian.tar.gz", archivetest.Compress(".gz", []byte(debianContent)))
	var b strings.Builder
	fmt.Fprintf(&b, "Format: 3.0 (quilt)\nSource: hello\nBinary: hello\nArchitecture: any\nVersion: %s\nMaintainer: A Maintainer <a@example.org>\nStandards-Version: 4.6.2\nBuild-Depends: debhelper-compat (= 13)\nPackage-List:\n hello deb devel optional arch=any\n", version)
	writeRows(t, &b, "Checksums-Sha256", "", orig, debian)
	writeRows(t, &b, "Files", "", orig, debian)
	dsc := writeFile(t, "hello_"+version+".dsc", []byte(b.String()))
	return []File{dsc, orig, debian}
}

// writeRows writes a list of files as in a .dsc, or with section and priority
// as in a .changes.
func writeRows(t testing.TB, b *strings.Builder, field, section string, files ...File) {
	t.Helper()
	b.WriteString(field + ":\n")
	for _, f := range files {
		data := readFile(t, f.Path)
		if field == "Files" {
			fmt.Fprintf(b, " %x %d %s%s\n", md5.Sum(data), len(data), section, f.Name)
		} else {
			fmt.Fprintf(b, " %x %d %s\n", sha256.Sum256(data), len(data), f.Name)
		}
	}
}

// upload makes an upload of hello into bookworm with a fitting .changes for
// the binaries among files.
func upload(t testing.TB, version string, files ...File) Upload {
	t.Helper()
	var listed []File
	arches, binaries := map[string]bool{}, map[string]bool{}
	for _, f := range files {
		if base, ok := strings.CutSuffix(f.Name, filepath.Ext(f.Name)); ok && strings.HasSuffix(f.Name, "deb") {
			parts := strings.Split(base, "_")
			binaries[parts[0]], arches[parts[len(parts)-1]] = true, true
			listed = append(listed, f)
		}
	}
	words := func(m map[string]bool) (s []string) {
		for w := range m {
			s = append(s, w)
		}
		return union(s)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Format: 1.8\nDate: Sat, 01 Jan 2022 00:00:00 +0000\nSource: hello\nBinary: %s\nArchitecture: %s\nVersion: %s\nDistribution: bookworm\nUrgency: medium\nMaintainer: A Maintainer <a@example.org>\n",
		strings.Join(words(binaries), " "), strings.Join(words(arches), " "), version)
	writeRows(t, &b, "Checksums-Sha256", "", listed...)
	writeRows(t, &b, "Files", "devel optional ", listed...)
	return Upload{
		Suite: "bookworm", Source: "hello", Version: version, Architectures: []string{"amd64"}, Files: files,
		Changes: Document{"hello_" + version[strings.Index(version, ":")+1:] + "_amd64.changes", []byte(b.String())},
		Build:   "build-1",
	}
}
