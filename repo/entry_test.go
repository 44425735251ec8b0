package repo

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dbuild/deb"
)

func TestPoolDir(t *testing.T) {
	for _, tt := range []struct{ source, want string }{
		{"hello", "pool/sid/main/h/hello"},
		{"libhello", "pool/sid/main/libh/libhello"},
		{"lib", "pool/sid/main/l/lib"},
		{"0ad", "pool/sid/main/0/0ad"},
	} {
		if got := poolDir("sid", "main", tt.source); got != tt.want {
			t.Errorf("poolDir(%q) = %q, want %q", tt.source, got, tt.want)
		}
	}
}

func TestSourceOf(t *testing.T) {
	for _, tt := range []struct {
		field, source, version string
		ok                     bool
	}{
		{"", "hello", "1", true},
		{"src", "src", "1", true},
		{"src (2)", "src", "2", true},
		{"src  ( 2)", "src", "", false},
		{"src (2", "src", "", false},
		{"src 2", "src", "", false},
		{"src (2) x", "src", "", false},
		{"../src", "", "", false},
		{"src\n (2)", "", "", false},
	} {
		source, version, err := sourceOf(tt.field, "hello", "1")
		if (err == nil) != tt.ok || tt.ok && (source != tt.source || version != tt.version) {
			t.Errorf("sourceOf(%q) = %q, %q, %v", tt.field, source, version, err)
		}
	}
}

func TestParseIndexPath(t *testing.T) {
	for _, x := range []index{
		{"main", kindDeb, "amd64"}, {"non-free-firmware", kindUdeb, "arm64"}, {"contrib", kindSource, archSource},
	} {
		if got, ok := parseIndexPath(x.path()); !ok || got != x {
			t.Errorf("%q: %+v, %v", x.path(), got, ok)
		}
	}
	for _, p := range []string{"", "main", "main/binary-amd64/Packages.gz", "main/binary-amd64/Release", "main/i18n/Translation-en", "main/source/Sources.zst"} {
		if x, ok := parseIndexPath(p); ok {
			t.Errorf("%q is taken for %+v", p, x)
		}
	}
}

func TestIndexOrder(t *testing.T) {
	var entries []entry
	for _, v := range []string{"10", "9", "1:1", "9~rc1"} {
		entries = append(entries, entry{stanza: stanza{kind: kindDeb, name: "b", version: v, arch: "amd64", text: []byte("V: " + v + "\n")}})
	}
	entries = append(entries, entry{stanza: stanza{kind: kindDeb, name: "a", version: "99", arch: "all", text: []byte("V: a\n")}})
	slices.SortFunc(entries, entry.compare)
	text, err := indexText(Rules{}, entries)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	err = deb.ScanStanzas(bytes.NewReader(text), func(b []byte, _ int64) error {
		got = append(got, deb.StanzaField(b, "V"))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "9~rc1", "9", "10", "1:1"}, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

// FuzzBinaryStanza: whatever a package brings as control data, its place in an
// index is exactly one stanza, which says what was read from the package and
// where the repository put it.
func FuzzBinaryStanza(f *testing.F) {
	for _, seed := range []string{
		"Package: hello\nVersion: 1\nArchitecture: amd64\n",
		"Package: hello\nVersion: 1:2-3\nArchitecture: all\nSource: src (4)\nDescription: a\n b\n .\n c\n",
		"Package: hello\nVersion: 1\nArchitecture: amd64\nFilename: pool/x\nsize: 3\nSHA256: 0\nFiles:\n x y z\n",
		"Package: hello\nVersion: 1\nArchitecture: amd64\nX:\n a\n \t\n b\nPackage2: x\n",
		"Package: hello\nVersion: 1\nArchitecture: amd64\nX: \xff\xfe\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, control []byte) {
		p, err := deb.ParseParagraph(control, deb.DefaultLimits)
		if err != nil {
			return
		}
		s, err := binaryStanza(p, kindDeb)
		if err != nil {
			return
		}
		s.sha256, s.size = sha(control), int64(len(control))
		want := entry{stanza: s, component: "main", path: "pool/sid/main/h/hello/" + s.fileName()}
		checkRoundTrip(t, index{"main", kindDeb, "amd64"}, want)
	})
}

// FuzzSourceStanza is the same for the .dsc of a source.
func FuzzSourceStanza(f *testing.F) {
	row := sha(nil) + " 0 hello_1.tar.gz\nFiles:\n d41d8cd98f00b204e9800998ecf8427e 0 hello_1.tar.gz\n"
	for _, seed := range []string{
		"Format: 1.0\nSource: hello\nVersion: 1\nChecksums-Sha256:\n " + row,
		"Format: 1.0\nSource: hello\nVersion: 1\nDirectory: pool/x\nPackage: evil\nChecksums-Sha256:\n " + row,
		"Format: 1.0\nSource: hello\nVersion: 1\nPackage-List:\n hello deb devel optional arch=any\nChecksums-Sha256:\n " + row,
		"Format: 1.0\nSource: hello\nVersion: 1\nPackage-List:\n a b c/d\x00 e\nChecksums-Sha256:\n " + row,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, dsc []byte) {
		p, files, err := parseControl(dsc)
		if err != nil {
			return
		}
		name := stanza{kind: kindSource, name: p.Get("Source"), version: p.Get("Version")}.fileName()
		if slices.ContainsFunc(files, func(f deb.File) bool { return f.Name == name || f.MD5 == "" }) {
			return // the gate measures every file, and none can hold its own hash
		}
		s, err := sourceStanza(p, deb.File{Name: name, Size: int64(len(dsc)), MD5: "0123456789abcdef0123456789abcdef", SHA256: sha(dsc)}, files)
		if err != nil {
			return
		}
		want := entry{stanza: s, component: "main", path: "pool/sid/main/h/hello"}
		checkRoundTrip(t, index{"main", kindSource, archSource}, want)
	})
}

func checkRoundTrip(t *testing.T, x index, want entry) {
	t.Helper()
	var got []entry
	text, err := indexText(Rules{}, []entry{want})
	if err != nil {
		t.Fatal(err)
	}
	err = deb.ScanStanzas(bytes.NewReader(text), func(b []byte, _ int64) error {
		e, err := parseEntry(x, bytes.Clone(b), nil)
		got = append(got, e)
		return err
	})
	if err != nil {
		t.Fatalf("the index cannot be read: %v\n%s", err, text)
	}
	if diff := cmp.Diff([]entry{want}, got, cmp.AllowUnexported(entry{}, stanza{})); diff != "" {
		t.Errorf("entry (-want +got):\n%s\n%s", diff, text)
	}
}
