package deb

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dbuild/internal/testenv"
)

func readSystemFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Skipf("not a Debian system: %v", err)
	}
	return b
}

// mirror returns the first archive of the machine's own apt configuration
// and its first suite.
func mirror(t *testing.T) (url, suite string) {
	t.Helper()
	testenv.NeedNetwork(t)
	files, err := filepath.Glob("/etc/apt/sources.list.d/*.sources")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		testenv.Skip(t, "network", "apt has no deb822 sources here")
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewControlReader(bytes.NewReader(b), Limits{}).Next()
	if err != nil {
		t.Fatalf("%s: %v", files[0], err)
	}
	return strings.TrimSuffix(strings.Fields(p.Get("URIs"))[0], "/"), strings.Fields(p.Get("Suites"))[0]
}

func get(t *testing.T, url string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("get %s: %s, %v", url, resp.Status, err)
	}
	return b
}

// TestWholeArchive reads every stanza, version and relation of a Debian
// release, and one of its packages.
func TestWholeArchive(t *testing.T) {
	base, suite := mirror(t)
	inRelease := get(t, base+"/dists/"+suite+"/InRelease")
	_, text, _ := bytes.Cut(inRelease, []byte("\n\n"))
	text, _, ok := bytes.Cut(text, []byte("\n-----BEGIN PGP SIGNATURE-----\n"))
	if !ok {
		t.Fatal("InRelease is not clearsigned")
	}
	release, err := ParseRelease(text)
	if err != nil {
		t.Fatal(err)
	}
	if release.Codename == "" || len(release.Files) < 100 || len(release.Components) == 0 {
		t.Errorf("release %q of %d files", release.Codename, len(release.Files))
	}
	index := func(path string) []byte { return fetchIndex(t, base+"/dists/"+suite+"/", release.Files[path]) }

	smallest := checkWholePackages(t, index("main/binary-"+HostArch()+"/Packages.xz"))
	checkWholeSources(t, index("main/source/Sources.xz"))
	checkRealDeb(t, get(t, base+"/"+smallest.Filename), smallest)
}

// fetchIndex also holds that the row of the Release file is the right one.
func fetchIndex(t *testing.T, base string, row IndexFile) []byte {
	t.Helper()
	packed := get(t, base+row.Path)
	if sum := sha256.Sum256(packed); int64(len(packed)) != row.Size || hex.EncodeToString(sum[:]) != row.SHA256 {
		t.Fatalf("%s is not what its Release file says", row.Path)
	}
	r, err := Decompress(row.Path, bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func checkWholePackages(t *testing.T, index []byte) (smallest *Package) {
	t.Helper()
	n := 0
	err := ScanStanzas(bytes.NewReader(index), func(stanza []byte, _ int64) error {
		n++
		p, err := ParsePackage(stanza)
		if err != nil {
			t.Error(err)
			return nil
		}
		if smallest == nil || p.Size < smallest.Size {
			smallest = p
		}
		for _, field := range []string{p.PreDepends, p.Depends, p.Provides, p.Conflicts, p.Breaks, p.Replaces} {
			checkRoundTrip(t, p.Name, field)
		}
		return nil
	})
	if want := bytes.Count(index, []byte("\nPackage: ")) + 1; err != nil || n != want {
		t.Errorf("%d stanzas, want %d, error %v", n, want, err)
	}
	t.Logf("%d binary packages", n)
	return smallest
}

func checkWholeSources(t *testing.T, index []byte) {
	t.Helper()
	n := 0
	err := ScanStanzas(bytes.NewReader(index), func(stanza []byte, _ int64) error {
		n++
		e, err := ParseSourceEntry(stanza)
		if err != nil {
			t.Error(err)
			return nil
		}
		for _, field := range []string{"Build-Depends", "Build-Depends-Arch", "Build-Depends-Indep", "Build-Conflicts", "Build-Conflicts-Arch", "Build-Conflicts-Indep"} {
			checkRoundTrip(t, e.Name, e.Paragraph.Get(field))
		}
		return nil
	})
	if want := bytes.Count(index, []byte("\nPackage: ")) + 1; err != nil || n != want {
		t.Errorf("%d stanzas, want %d, error %v", n, want, err)
	}
	t.Logf("%d source packages", n)
}

func checkRoundTrip(t *testing.T, name, field string) {
	t.Helper()
	if d, err := ParseDependency(field); err != nil || d.String() != field {
		t.Errorf("%s: %v, %q instead of %q", name, err, d, field)
	}
}

func checkRealDeb(t *testing.T, file []byte, want *Package) {
	t.Helper()
	b, err := openBytes(file)
	if err != nil {
		t.Fatal(err)
	}
	if b.Control.Get("Package") != want.Name || b.Control.Get("Version") != want.Version {
		t.Errorf("%s holds %v", want.Filename, b.Control)
	}
	path := filepath.Join(t.TempDir(), "x.deb")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(needProgram(t, "dpkg-deb"), "-f", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	var printed bytes.Buffer
	if _, err := b.Control.WriteTo(&printed); err != nil {
		t.Fatal(err)
	}
	if printed.String() != trimLines(out) {
		t.Errorf("control file %q, dpkg-deb prints %q", printed.String(), out)
	}
}
