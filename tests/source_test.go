package tests

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/md5" //nolint:gosec // .dsc still lists MD5
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/rogpeppe/go-internal/txtar"

	"dbuild/archive"
	"dbuild/deb"
)

// cmdTree unpacks a package of testdata/source.
func cmdTree(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 2, "tree NAME DIR")
	ts.Check(unpackTree(filepath.Join(ts.Getenv("SOURCES"), args[0]+".txtar"), ts.MkAbs(args[1])))
}

// unpackTree makes the source tree that a txtar file describes.
func unpackTree(txtarFile, dir string) error {
	source, err := txtar.ParseFile(txtarFile)
	if err != nil {
		return err
	}
	for _, f := range source.Files {
		file := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, f.Data, 0o644); err != nil {
			return err
		}
	}
	return os.Chmod(filepath.Join(dir, "debian/rules"), 0o755)
}

// cmdMkdsc packs a tree as dpkg-source would, without it: what dbuild reads is
// then not made by the program it is compared with.
func cmdMkdsc(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 1 || len(args) == 2, "mkdsc TREE [DIR]")
	tree, out := ts.MkAbs(args[0]), filepath.Dir(ts.MkAbs(args[0]))
	if len(args) == 2 {
		out = ts.MkAbs(args[1])
	}
	ts.Check(os.MkdirAll(out, 0o755))
	ts.Check(packSource(tree, out))
}

// packSource writes the .dsc and tarballs of a tree into out.
func packSource(tree, out string) error {
	control, err := readParagraphs(filepath.Join(tree, "debian/control"))
	if err != nil {
		return err
	}
	entry, err := firstEntry(filepath.Join(tree, "debian/changelog"))
	if err != nil {
		return err
	}
	version, err := deb.ParseVersion(entry.Version)
	if err != nil {
		return err
	}
	format := "3.0 (native)"
	if data, err := os.ReadFile(filepath.Join(tree, "debian/source/format")); err == nil {
		format = strings.TrimSpace(string(data))
	}
	files, err := packFiles(tree, entry.Source, version, format)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(out, f.name), f.data, 0o644); err != nil {
			return err
		}
	}
	dsc := dscText(control, entry, format, files)
	return os.WriteFile(filepath.Join(out, entry.Source+"_"+version.NoEpoch()+".dsc"), []byte(dsc), 0o644)
}

type sourceFile struct {
	name string
	data []byte
}

// packFiles makes the tarballs of a format.
func packFiles(tree, source string, version deb.Version, format string) ([]sourceFile, error) {
	inDebian := func(name string) bool { return name == "debian" || strings.HasPrefix(name, "debian/") }
	switch format {
	case "3.0 (native)":
		all, err := tarball(tree, source, func(string) bool { return true })
		return []sourceFile{{source + "_" + version.NoEpoch() + ".tar.gz", all}}, err
	case "3.0 (quilt)":
		orig, err := tarball(tree, source+"-"+version.Upstream, func(name string) bool { return !inDebian(name) })
		if err != nil {
			return nil, err
		}
		debian, err := tarball(tree, "", inDebian)
		return []sourceFile{
			{source + "_" + version.Upstream + ".orig.tar.gz", orig},
			{source + "_" + version.NoEpoch() + ".debian.tar.gz", debian},
		}, err
	}
	return nil, fmt.Errorf("pack source format %q: unknown to the tests", format)
}

// tarball packs the entries of a tree that keep wants, below prefix, with fixed
// times and owners.
func tarball(tree, prefix string, keep func(string) bool) ([]byte, error) {
	var buf bytes.Buffer
	zip := gzip.NewWriter(&buf)
	tw := tar.NewWriter(zip)
	err := filepath.WalkDir(tree, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(tree, file)
		if err != nil || name != "." && !keep(name) || name == "." && prefix == "" {
			return err
		}
		return addEntry(tw, file, path.Join(prefix, name), d)
	})
	if err != nil {
		return nil, err
	}
	if err := tw.Close(); err != nil {
		return nil, err
	}
	if err := zip.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func addEntry(tw *tar.Writer, file, name string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	link := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if link, err = os.Readlink(file); err != nil {
			return err
		}
	}
	header, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	header.Name = name
	if d.IsDir() {
		header.Name += "/"
	}
	header.Uid, header.Gid, header.Uname, header.Gname = 0, 0, "root", "root"
	header.ModTime, header.Format = time.Unix(1_700_000_000, 0), tar.FormatGNU
	if err := tw.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
		return err
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	_, err = tw.Write(data)
	return err
}

// dscText writes an unsigned .dsc with the fields that dpkg-source writes.
func dscText(control []*deb.Paragraph, entry deb.ChangelogEntry, format string, files []sourceFile) string {
	var binaries, arches []string
	for _, p := range control[1:] {
		binaries = append(binaries, p.Get("Package"))
		arches = append(arches, p.Get("Architecture"))
	}
	var b strings.Builder
	field := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s: %s\n", name, value)
		}
	}
	field("Format", format)
	field("Source", entry.Source)
	field("Binary", strings.Join(binaries, ", "))
	field("Architecture", strings.Join(arches, " "))
	field("Version", entry.Version)
	for _, name := range []string{"Maintainer", "Standards-Version", "Build-Depends", "Build-Depends-Arch", "Build-Depends-Indep", "Build-Conflicts"} {
		field(name, strings.TrimSpace(strings.ReplaceAll(control[0].Get(name), "\n", " ")))
	}
	b.WriteString("Checksums-Sha256:\n")
	for _, f := range files {
		fmt.Fprintf(&b, " %x %d %s\n", sha256.Sum256(f.data), len(f.data), f.name)
	}
	b.WriteString("Files:\n")
	for _, f := range files {
		fmt.Fprintf(&b, " %x %d %s\n", md5.Sum(f.data), len(f.data), f.name) //nolint:gosec // as above
	}
	return b.String()
}

func readParagraphs(file string) (all []*deb.Paragraph, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for text := range strings.SplitSeq(strings.TrimSpace(string(data)), "\n\n") {
		p, err := deb.ParseParagraph([]byte(text+"\n"), deb.Limits{})
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

func firstEntry(file string) (deb.ChangelogEntry, error) {
	f, err := os.Open(file)
	if err != nil {
		return deb.ChangelogEntry{}, err
	}
	defer func() { _ = f.Close() }()
	entries, err := deb.ParseChangelog(f, 1)
	if err != nil {
		return deb.ChangelogEntry{}, err
	}
	if len(entries) == 0 {
		return deb.ChangelogEntry{}, fmt.Errorf("read %q: no entry", file)
	}
	return entries[0], nil
}

// aptSources returns the one-line apt sources of a suite on the host's mirror.
func aptSources(ts *testscript.TestScript, name string) (lines []string) {
	suite, err := archive.FindSuite(name)
	ts.Check(err)
	sources, err := suite.Sources(archive.SourceOptions{})
	ts.Check(err)
	for _, s := range sources {
		lines = append(lines, fmt.Sprintf("deb %s %s %s", s.URL, s.Suite, strings.Join(s.Components, " ")))
	}
	return lines
}
