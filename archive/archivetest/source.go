package archivetest

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"strings"
	"testing"
)

// SourcePackage is a source package of format 3.0 (native) to be made.
type SourcePackage struct {
	Name, Version string
	Architecture  string            // "": all
	BuildDepends  string            // "": debhelper-compat (= 13)
	Files         map[string]string // below the source tree; control and changelog are made if missing
	Fields        string            // further .dsc fields, one per line
	Unsigned      bool              // leave the .dsc unsigned
}

// Build returns the .dsc and the tarball by name. The .dsc is signed by the
// archive's key.
func (s SourcePackage) Build(t testing.TB, a *Archive) map[string][]byte {
	t.Helper()
	if s.Architecture == "" {
		s.Architecture = "all"
	}
	if s.BuildDepends == "" {
		s.BuildDepends = "debhelper-compat (= 13)"
	}
	base := s.Name + "_" + noEpoch(s.Version)
	tarName := base + ".tar.gz"
	tarData := Compress(".gz", tarball(s.tree()))
	dsc := fmt.Sprintf("Format: 3.0 (native)\nSource: %[1]s\nBinary: %[1]s\nArchitecture: %[2]s\nVersion: %[3]s\n"+
		"Maintainer: Test <test@example.org>\nStandards-Version: 4.7.0\nBuild-Depends: %[4]s\n"+
		"Package-List:\n %[1]s deb misc optional arch=%[2]s\n", s.Name, s.Architecture, s.Version, s.BuildDepends)
	if f := strings.TrimSpace(s.Fields); f != "" {
		dsc += f + "\n"
	}
	dsc += fmt.Sprintf("Checksums-Sha256:\n %s %d %s\nFiles:\n %s %d %s\n",
		SHA256(tarData), len(tarData), tarName, md5sum(tarData), len(tarData), tarName)
	signed := []byte(dsc)
	if !s.Unsigned {
		var err error
		if signed, err = a.Key.Clearsign(signed, Epoch); err != nil {
			t.Fatalf("sign .dsc: %v", err)
		}
	}
	return map[string][]byte{base + ".dsc": signed, tarName: tarData}
}

// tree returns the files of the source tree below its top directory.
func (s SourcePackage) tree() map[string]string {
	top := s.Name + "-" + noEpoch(s.Version)
	files := map[string]string{
		top + "/debian/changelog": fmt.Sprintf("%s (%s) unstable; urgency=medium\n\n  * Test.\n\n -- Test <test@example.org>  %s\n",
			s.Name, s.Version, Epoch.Format("Mon, 02 Jan 2006 15:04:05 -0700")),
		top + "/debian/control": fmt.Sprintf("Source: %[1]s\nSection: misc\nPriority: optional\nMaintainer: Test <test@example.org>\n"+
			"Build-Depends: %[2]s\nStandards-Version: 4.7.0\n\nPackage: %[1]s\nArchitecture: %[3]s\nDescription: test package %[1]s\n",
			s.Name, s.BuildDepends, s.Architecture),
		top + "/debian/source/format": "3.0 (native)\n",
	}
	for name, content := range s.Files {
		files[path.Join(top, name)] = content
	}
	return files
}

// stanza is the entry of a Sources index.
func (s SourcePackage) stanza(dir string, files map[string][]byte, dsc []byte) string {
	text := string(dsc)
	if _, body, ok := strings.Cut(text, "-----BEGIN PGP SIGNED MESSAGE-----"); ok {
		_, body, _ = strings.Cut(body, "\n\n")
		text, _, _ = strings.Cut(body, "-----BEGIN PGP SIGNATURE-----")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Package: %s\n", s.Name)
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "Checksums-") {
			break
		}
		if !strings.HasPrefix(line, "Source:") {
			b.WriteString(line)
		}
	}
	fmt.Fprintf(&b, "Directory: %s\nChecksums-Sha256:\n", dir)
	for _, name := range sortedKeys(files) {
		fmt.Fprintf(&b, " %s %d %s\n", SHA256(files[name]), len(files[name]), name)
	}
	b.WriteString("Files:\n")
	for _, name := range sortedKeys(files) {
		fmt.Fprintf(&b, " %s %d %s\n", md5sum(files[name]), len(files[name]), name)
	}
	return b.String()
}

func noEpoch(version string) string {
	if _, v, ok := strings.Cut(version, ":"); ok {
		return v
	}
	return version
}

// SHA256 returns the hash of data in lower-case hex.
func SHA256(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func md5sum(data []byte) string {
	sum := md5.Sum(data)
	return hex.EncodeToString(sum[:])
}
