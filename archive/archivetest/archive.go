package archivetest

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dbuild/sign"
)

// Archive is an archive in memory: files by path below its root.
type Archive struct {
	Key *sign.Key // signs Release files and .dsc

	t      testing.TB
	mu     sync.Mutex
	files  map[string][]byte
	suites map[string]*Suite
}

// Suite is the shape of a suite's Release and indexes.
type Suite struct {
	Name          string    // directory below dists/; for Flat below the root
	Suite         string    // field of the Release; "": Name
	Codename      string    // "": Name
	Components    []string  // nil: main
	Architectures []string  // nil: amd64; packages of "all" are in each of them
	Date          time.Time // zero: an hour ago
	ValidUntil    time.Time // zero: no field
	Forms         []string  // of the indexes: ".gz", ".xz", ".zst", ""; nil: ".gz". The row of "" is always there
	Fields        string    // further fields of the Release, one per line
	NoByHash      bool
	Flat          bool
	Detached      bool // Release and Release.gpg, no InRelease

	packages map[string]map[string][]string // component, arch (or "source"): stanzas
}

// New returns an empty archive with a key of its own.
func New(t testing.TB) *Archive {
	t.Helper()
	key, err := sign.Generate("Test archive", Epoch)
	if err != nil {
		t.Fatalf("make archive key: %v", err)
	}
	return &Archive{Key: key, t: t, files: map[string][]byte{}, suites: map[string]*Suite{}}
}

// AddSuite adds a suite. It is visible after [Archive.Publish].
func (a *Archive) AddSuite(s Suite) {
	if s.Suite == "" {
		s.Suite = s.Name
	}
	if s.Codename == "" {
		s.Codename = s.Name
	}
	if s.Components == nil {
		s.Components = []string{"main"}
	}
	if s.Architectures == nil {
		s.Architectures = []string{"amd64"}
	}
	if s.Forms == nil {
		s.Forms = []string{".gz"}
	}
	if s.Date.IsZero() {
		s.Date = time.Now().Add(-time.Hour).Truncate(time.Second)
	}
	s.packages = map[string]map[string][]string{}
	for _, c := range s.Components {
		s.packages[c] = map[string][]string{}
	}
	a.suites[s.Name] = &s
}

// AddPackage makes a .deb, puts it into the pool and into the indexes of its
// architecture. It returns the path below the root.
func (a *Archive) AddPackage(suite, component string, p Package) string {
	a.t.Helper()
	s := a.suite(suite)
	data := p.Deb()
	name := "pool/" + component + "/" + p.Name[:1] + "/" + p.Name + "/" + p.FileName()
	if s.Flat {
		name = path.Join(s.Name, p.FileName())
	}
	a.Put(name, data)
	a.AddStanza(suite, component, p.arch(), fmt.Sprintf("%sFilename: %s\nSize: %d\nSHA256: %s\n", p.Control(), name, len(data), SHA256(data)))
	return name
}

// AddSource makes a source package and adds it likewise. It returns the path
// of the .dsc.
func (a *Archive) AddSource(suite, component string, p SourcePackage) string {
	a.t.Helper()
	files := p.Build(a.t, a)
	dir := "pool/" + component + "/" + p.Name[:1] + "/" + p.Name
	dsc := ""
	for name, data := range files {
		a.Put(path.Join(dir, name), data)
		if strings.HasSuffix(name, ".dsc") {
			dsc = name
		}
	}
	a.AddStanza(suite, component, "source", p.stanza(dir, files, files[dsc]))
	return path.Join(dir, dsc)
}

// AddStanza adds a stanza as it is to an index; arch "source" is Sources and
// "all" is every architecture.
func (a *Archive) AddStanza(suite, component, arch, stanza string) {
	a.t.Helper()
	s := a.suite(suite)
	if s.packages[component] == nil {
		a.t.Fatalf("suite %s has no component %s", suite, component)
	}
	arches := []string{arch}
	if arch == "all" && !slices.Contains(s.Architectures, "all") {
		arches = s.Architectures
	}
	for _, arch := range arches {
		s.packages[component][arch] = append(s.packages[component][arch], strings.TrimRight(stanza, "\n")+"\n")
	}
}

// SetDates changes the dates of a suite for the next Publish.
func (a *Archive) SetDates(suite string, date, validUntil time.Time) {
	s := a.suite(suite)
	s.Date, s.ValidUntil = date, validUntil
}

// Publish writes the indexes and the signed Release of a suite.
func (a *Archive) Publish(suite string) {
	a.t.Helper()
	s := a.suite(suite)
	dir := s.dir()
	var rows strings.Builder
	for _, index := range s.indexes() {
		for _, ext := range []string{"", ".gz", ".xz", ".zst"} {
			stored := slices.Contains(s.Forms, ext)
			if !stored && ext != "" {
				continue
			}
			data := Compress(ext, index.data)
			name := index.name + ext
			fmt.Fprintf(&rows, " %s %d %s\n", SHA256(data), len(data), name)
			if !stored {
				continue
			}
			a.Put(path.Join(dir, name), data)
			if !s.NoByHash {
				a.Put(path.Join(dir, path.Dir(name), "by-hash/SHA256", SHA256(data)), data)
			}
		}
	}
	a.Sign(suite, s.release(rows.String()))
}

// Sign signs text with the archive's key and puts it in place as the Release
// of a suite, whatever it says.
func (a *Archive) Sign(suite, text string) {
	a.t.Helper()
	s := a.suite(suite)
	if !s.Detached {
		a.PutRelease(suite, a.Clearsign(text))
		return
	}
	signature, err := a.Key.DetachSign([]byte(text), time.Now(), "")
	if err != nil {
		a.t.Fatalf("sign Release: %v", err)
	}
	a.Put(path.Join(s.dir(), "Release"), []byte(text))
	a.Put(path.Join(s.dir(), "Release.gpg"), signature)
}

// Clearsign signs text with the archive's key.
func (a *Archive) Clearsign(text string) []byte {
	a.t.Helper()
	signed, err := a.Key.Clearsign([]byte(text), time.Now())
	if err != nil {
		a.t.Fatalf("sign Release: %v", err)
	}
	return signed
}

// PutRelease puts raw bytes in place as the InRelease of a suite.
func (a *Archive) PutRelease(suite string, raw []byte) {
	a.Put(path.Join(a.suite(suite).dir(), "InRelease"), raw)
}

// ReleaseText returns the text that Publish signed.
func (a *Archive) ReleaseText(suite string) string {
	a.t.Helper()
	if s := a.suite(suite); s.Detached {
		return string(a.Get(path.Join(s.dir(), "Release")))
	}
	text, _, err := sign.SplitClearsigned(a.Get(path.Join(a.suite(suite).dir(), "InRelease")))
	if err != nil {
		a.t.Fatalf("read InRelease: %v", err)
	}
	return string(text)
}

// Keyring writes the archive's public key into a temporary file and returns
// its path.
func (a *Archive) Keyring() string {
	a.t.Helper()
	name := filepath.Join(a.t.TempDir(), "archive-keyring.asc")
	if err := os.WriteFile(name, a.Key.PublicArmored(), 0o644); err != nil {
		a.t.Fatal(err)
	}
	return name
}

// Put stores a file below the root; Get returns it (nil if there is none) and
// Remove takes it away.
func (a *Archive) Put(name string, data []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.files[path.Clean(name)] = bytes.Clone(data)
}

// Get returns a file, nil if there is none. It must not be changed.
func (a *Archive) Get(name string) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.files[path.Clean(name)]
}

// Remove takes a file away.
func (a *Archive) Remove(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.files, path.Clean(name))
}

// Snapshot returns all files as they are now, for a later [Archive.Restore].
func (a *Archive) Snapshot() map[string][]byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.files)
}

// Restore puts the files of a snapshot in place of all others.
func (a *Archive) Restore(files map[string][]byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.files = maps.Clone(files)
}

// WriteTo writes the archive below a directory, for tools that read file: URIs.
func (a *Archive) WriteTo(dir string) {
	a.t.Helper()
	for name, data := range a.Snapshot() {
		name = filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			a.t.Fatal(err)
		}
		if err := os.WriteFile(name, data, 0o644); err != nil {
			a.t.Fatal(err)
		}
	}
}

func (a *Archive) suite(name string) *Suite {
	a.t.Helper()
	s, ok := a.suites[name]
	if !ok {
		a.t.Fatalf("no suite %s", name)
	}
	return s
}

func (s *Suite) dir() string {
	if s.Flat {
		return path.Clean(s.Name)
	}
	return "dists/" + s.Name
}

type index struct {
	name string
	data []byte
}

func (s *Suite) indexes() []index {
	var list []index
	add := func(name string, stanzas []string) {
		list = append(list, index{name, []byte(strings.Join(stanzas, "\n"))})
	}
	if s.Flat {
		c := s.packages[s.Components[0]]
		add("Packages", c[s.Architectures[0]])
		add("Sources", c["source"])
		return list
	}
	for _, c := range s.Components {
		for _, arch := range s.Architectures {
			add(c+"/binary-"+arch+"/Packages", s.packages[c][arch])
		}
		add(c+"/source/Sources", s.packages[c]["source"])
	}
	return list
}

// release is the text of the Release file.
func (s *Suite) release(rows string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Origin: Test\nLabel: Test\nSuite: %s\nCodename: %s\nDate: %s\n", s.Suite, s.Codename, releaseDate(s.Date))
	if !s.ValidUntil.IsZero() {
		fmt.Fprintf(&b, "Valid-Until: %s\n", releaseDate(s.ValidUntil))
	}
	if !s.NoByHash {
		b.WriteString("Acquire-By-Hash: yes\n")
	}
	fmt.Fprintf(&b, "Architectures: %s\n", strings.Join(s.Architectures, " "))
	if !s.Flat {
		fmt.Fprintf(&b, "Components: %s\n", strings.Join(s.Components, " "))
	}
	if f := strings.TrimSpace(s.Fields); f != "" {
		b.WriteString(f + "\n")
	}
	return b.String() + "SHA256:\n" + rows
}

func releaseDate(t time.Time) string { return t.UTC().Format("Mon, 02 Jan 2006 15:04:05 UTC") }

func sortedKeys(m map[string][]byte) []string { return slices.Sorted(maps.Keys(m)) }
