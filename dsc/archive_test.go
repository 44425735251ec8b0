package dsc

import (
	"context"
	"errors"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dbuild/archive"
	"dbuild/archive/archivetest"
	"dbuild/internal/fault"
	"dbuild/internal/testenv"
)

// lab is an archive on loopback with two suites, and a copy of it.
type lab struct {
	archive *archivetest.Archive
	server  *archivetest.Server
	copy    *archive.Copy
	states  []*archive.State
	dir     string
}

func newLab(t *testing.T, fill func(*archivetest.Archive)) *lab {
	t.Helper()
	a := archivetest.New(t)
	a.AddSuite(archivetest.Suite{Name: "bookworm", Components: []string{"main", "contrib"}})
	a.AddSuite(archivetest.Suite{Name: "bookworm-updates"})
	fill(a)
	a.Publish("bookworm")
	a.Publish("bookworm-updates")
	l := &lab{archive: a, server: a.Serve(t), dir: t.TempDir()}
	var err error
	if l.copy, err = archive.Open(t.TempDir(), archive.Options{}); err != nil {
		t.Fatal(err)
	}
	srcs := []archive.Source{l.server.Source("bookworm", "main", "contrib"), l.server.Source("bookworm-updates")}
	if l.states, err = l.copy.Update(t.Context(), srcs); err != nil {
		t.Fatal(err)
	}
	return l
}

func hello(version string) archivetest.SourcePackage {
	return archivetest.SourcePackage{Name: "hello", Version: version}
}

func TestFromArchive(t *testing.T) {
	l := newLab(t, func(a *archivetest.Archive) {
		a.AddSource("bookworm", "main", hello("2.9"))
		a.AddSource("bookworm", "main", hello("2.10"))
		a.AddSource("bookworm-updates", "main", hello("2.10.1"))
		a.AddSource("bookworm", "contrib", archivetest.SourcePackage{Name: "extra", Version: "1"})
		a.AddSource("bookworm", "main", archivetest.SourcePackage{Name: "kept", Version: "1", Fields: "Extra-Source-Only: yes"})
	})
	tests := []struct {
		name       string
		ask        Name
		components []string
		want       string // version, "" if refused
		hint       string
	}{
		{"newest", Name{Package: "hello"}, nil, "2.10.1", ""},
		{"named", Name{Package: "hello", Version: "2.9"}, nil, "2.9", ""},
		{"other component", Name{Package: "extra"}, nil, "1", ""},
		{"component not asked for", Name{Package: "extra"}, []string{"main"}, "", "no source package"},
		{"no such version", Name{Package: "hello", Version: "3"}, nil, "", "available: 2.10.1 (bookworm-updates), 2.10 (bookworm), 2.9 (bookworm)"},
		{"no such package", Name{Package: "none"}, nil, "", "no source package"},
		{"kept for its licence only", Name{Package: "kept"}, nil, "", ""},
		{"the same, named", Name{Package: "kept", Version: "1"}, nil, "1", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			s, err := FromArchive(t.Context(), l.copy, l.states, tt.components, tt.ask, dir, Options{Keyring: l.archive.Key.Keyring(), RequireSignature: true})
			if tt.want == "" {
				if fault.ClassOf(err) != fault.Input || !strings.Contains(fault.HintOf(err), tt.hint) {
					t.Errorf("error %v, hint %q", err, fault.HintOf(err))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if s.Version.String() != tt.want || s.Signature.State != Good {
				t.Errorf("version %s, signature %+v", s.Version, s.Signature)
			}
			again, err := Read(t.Context(), filepath.Join(dir, s.ID()+".dsc"), Options{})
			if err != nil || len(again.AllFiles()) != len(s.AllFiles()) {
				t.Errorf("what lies in the directory: %v", err)
			}
			if s.Component == "contrib" != (tt.ask.Package == "extra") {
				t.Errorf("component %q", s.Component)
			}
		})
	}
}

// TestFromArchiveDisagrees: the .dsc is another than its row says.
func TestFromArchiveDisagrees(t *testing.T) {
	other := hello("2.10")
	for name, change := range map[string]func(row string) string{
		"version": func(row string) string { return strings.Replace(row, "Version: 2.10\n", "Version: 2.11\n", 1) },
		"name":    func(row string) string { return strings.Replace(row, "Package: hello\n", "Package: hallo\n", 1) },
		"format":  func(row string) string { return strings.Replace(row, "3.0 (native)", "3.0 (quilt)", 1) },
		"further file": func(row string) string {
			doc := []byte("x")
			return strings.Replace(row, "Checksums-Sha256:\n", "Checksums-Sha256:\n "+archivetest.SHA256(doc)+" 1 hello_2.10.orig.tar.gz.asc\n", 1) +
				" 9dd4e461268c8034f5c8564e155c67a6 1 hello_2.10.orig.tar.gz.asc\n"
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, func(a *archivetest.Archive) {
				dir := "pool/main/h/hello"
				a.Put(path.Join(dir, "hello_2.10.orig.tar.gz.asc"), []byte("x"))
				for file, data := range other.Build(t, a) {
					a.Put(path.Join(dir, file), data)
					if strings.HasSuffix(file, ".dsc") {
						a.AddStanza("bookworm", "main", "source", change(stanza(t, a, other)))
					}
				}
			})
			ask := Name{Package: "hello"}
			if name == "name" {
				ask.Package = "hallo"
			}
			_, err := FromArchive(t.Context(), l.copy, l.states, nil, ask, l.dir, Options{})
			if fault.ClassOf(err) != fault.Trust {
				t.Errorf("error %v, class %q", err, fault.ClassOf(err))
			}
			if left := listing(t, l.dir); left != "" {
				t.Errorf("left behind: %s", left)
			}
		})
	}
}

// stanza is the row that AddSource would make, taken from an archive of its
// own that has the same key.
func stanza(t *testing.T, a *archivetest.Archive, p archivetest.SourcePackage) string {
	t.Helper()
	b := archivetest.New(t)
	b.Key = a.Key
	b.AddSuite(archivetest.Suite{Name: "x", Forms: []string{""}})
	b.AddSource("x", "main", p)
	b.Publish("x")
	return string(b.Get("dists/x/main/source/Sources"))
}

func TestFetch(t *testing.T) {
	l := newLab(t, func(a *archivetest.Archive) { a.AddSource("bookworm", "main", hello("2.10")) })
	url := l.server.URL + "/pool/main/h/hello/hello_2.10.dsc"
	s, err := Fetch(t.Context(), l.copy, url, l.dir, Options{Keyring: l.archive.Key.Keyring(), RequireSignature: true})
	if err != nil {
		t.Fatal(err)
	}
	if s.Origin != url || s.Dsc.Path != filepath.Join(l.dir, "hello_2.10.dsc") || s.Signature.State != Good {
		t.Errorf("read %+v", s)
	}
	before := listing(t, l.dir)
	if _, err := Fetch(t.Context(), l.copy, url, l.dir, Options{}); fault.ClassOf(err) != fault.Input {
		t.Errorf("over files that are there: %v", err)
	}
	if after := listing(t, l.dir); after != before {
		t.Errorf("the directory has %s, before %s", after, before)
	}
}

func TestFetchRefuses(t *testing.T) {
	const dsc = "/pool/main/h/hello/hello_2.10.dsc"
	tests := []struct {
		name  string
		url   string // "": the good one
		fault *archivetest.Fault
		o     Options
		want  fault.Class
	}{
		{"ftp", "ftp://example.org/hello_2.10.dsc", nil, Options{}, fault.Usage},
		{"file", "file:///etc/passwd", nil, Options{}, fault.Usage},
		{"line break", "http://example.org/%0ahello_2.10.dsc", nil, Options{}, fault.Usage},
		{"no file name", "http://example.org/", nil, Options{}, fault.Usage},
		{"not a .dsc", "http://example.org/hello_2.10.tar.gz", nil, Options{}, fault.Usage},
		{"offline", "", nil, Options{Offline: true}, fault.Network},
		{"404", "", &archivetest.Fault{Path: ".dsc", Status: 404}, Options{}, fault.Network},
		{"broken off", "", &archivetest.Fault{Path: ".dsc", Truncate: 10}, Options{}, fault.Network},
		{"endless", "", &archivetest.Fault{Path: ".dsc", Endless: true}, Options{}, fault.Network},
		{"web page", "", &archivetest.Fault{Path: ".dsc", HTML: true}, Options{}, fault.Network},
		{"redirect to a file", "", &archivetest.Fault{Path: ".dsc", Redirect: "file:///etc/passwd"}, Options{}, fault.Network},
		{"redirect loop", "", &archivetest.Fault{Path: ".dsc", Redirect: dsc}, Options{}, fault.Network},
		{"redirect to a local address", "", &archivetest.Fault{Path: ".dsc", Redirect: "http://169.254.169.254" + dsc}, Options{}, fault.Network},
		{"changed tarball", "", &archivetest.Fault{Path: ".tar.gz", Flip: true}, Options{}, fault.Trust},
		{"no tarball", "", &archivetest.Fault{Path: ".tar.gz", Status: 404}, Options{}, fault.Network},
		{"unknown key", "", nil, Options{RequireSignature: true, Keyring: testSigningKey(t).Keyring()}, fault.Trust},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t, func(a *archivetest.Archive) { a.AddSource("bookworm", "main", hello("2.10")) })
			if tt.fault != nil {
				l.server.Fault(*tt.fault)
			}
			if tt.url == "" {
				tt.url = l.server.URL + dsc
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			_, err := Fetch(ctx, l.copy, tt.url, l.dir, tt.o)
			if fault.ClassOf(err) != tt.want {
				t.Errorf("error %v, class %q, want %q", err, fault.ClassOf(err), tt.want)
			}
			if left := listing(t, l.dir); left != "" {
				t.Errorf("left behind: %s", left)
			}
		})
	}
}

func TestFetchHidesPassword(t *testing.T) {
	l := newLab(t, func(*archivetest.Archive) {})
	for _, url := range []string{"http://user:secret@127.0.0.1:1/hello_2.10.dsc", "ftp://user:secret@x/a.dsc"} {
		_, err := Fetch(t.Context(), l.copy, url, l.dir, Options{})
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("error shows the password: %v", err)
		}
	}
}

func TestOrigFromArchive(t *testing.T) {
	orig := tarGz(t, member{"hello-2.10/README", "hi\n"})
	debian := tarGz(t, member{"debian/changelog", testChangelog}, member{"debian/control", testControl})
	p := makePackage(t, "3.0 (quilt)", "2.10-1", member{"hello_2.10.orig.tar.gz", orig}, member{"hello_2.10-1.debian.tar.gz", debian})
	l := newLab(t, func(a *archivetest.Archive) {
		pool := "pool/main/h/hello"
		row := strings.Replace(p.text, "Source: hello", "Package: hello\nDirectory: "+pool, 1)
		doc := []byte(p.text)
		row = row[:strings.Index(row, "Checksums-Sha1")] + row[strings.Index(row, "Checksums-Sha256"):strings.Index(row, "Files:")] +
			" " + archivetest.SHA256(doc) + " " + itoa(len(doc)) + " " + p.name + "\n"
		a.Put(path.Join(pool, p.name), doc)
		for name, content := range p.files {
			a.Put(path.Join(pool, name), []byte(content))
		}
		a.AddStanza("bookworm", "main", "source", row)
	})
	s, err := ReadTree(t.Context(), tree(t, "3.0 (quilt)"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := OrigFromArchive(t.Context(), l.copy, l.states, s, l.dir)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(l.dir, "hello_2.10.orig.tar.gz"))
	if err != nil || string(data) != orig || len(files) != 1 {
		t.Errorf("got %v, %v", files, err)
	}
	s.Version.Upstream = "2.11"
	if _, err := OrigFromArchive(t.Context(), l.copy, l.states, s, l.dir); !errors.Is(err, ErrNoOrig) || fault.ClassOf(err) != fault.Input {
		t.Errorf("no such upstream version: %v", err)
	}
}

// TestRealArchive gets a package from the mirror that this machine uses, by
// name and then by the address of its .dsc.
func TestRealArchive(t *testing.T) {
	testenv.NeedNetwork(t)
	suite, err := archive.FindSuite("bookworm")
	if err != nil {
		t.Fatal(err)
	}
	srcs, err := suite.Sources(archive.SourceOptions{Components: []string{"main"}})
	if err != nil {
		t.Fatal(err)
	}
	cp, err := archive.Open(t.TempDir(), archive.Options{AllowExpired: true}) // freshness is not what this is about
	if err != nil {
		t.Fatal(err)
	}
	states, err := cp.Update(t.Context(), srcs[:1])
	if err != nil {
		t.Fatal(err)
	}
	s, err := FromArchive(t.Context(), cp, states, nil, Name{Package: "hello", Version: "2.10-3"}, t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.ReadPackaging(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.Format != "3.0 (quilt)" || s.Signature.State != Unverified || Suite(s.Changelog) != "unstable" {
		t.Errorf("format %q, signature %+v, suite %q", s.Format, s.Signature, Suite(s.Changelog))
	}
	dir := t.TempDir()
	again, err := Fetch(t.Context(), cp, srcs[0].URL+"/pool/main/h/hello/hello_2.10-3.dsc", dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if again.Dsc.SHA256 != s.Dsc.SHA256 || len(strings.Fields(listing(t, dir))) != len(s.AllFiles()) {
		t.Errorf("by URL: %+v", again)
	}
}
