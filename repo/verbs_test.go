package repo

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dbuild/internal/fault"
)

// short is a package as a line of a listing.
func short(all []Package) (lines []string) {
	for _, p := range all {
		lines = append(lines, strings.Join([]string{p.Name, p.Version, p.Suite, p.Arch}, " "))
	}
	return lines
}

func (e *env) list(t testing.TB, q Query) []string {
	t.Helper()
	found, err := e.List(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return short(found)
}

func TestList(t *testing.T) {
	e := newEnv(t)
	publishSome(t, e)
	if diff := cmp.Diff([]string{
		"hello 1:3-1 bookworm amd64", "hello 2.10-3 bookworm amd64", "hello 2.10-3 bookworm source",
		"hello-doc 1:3-1 bookworm all",
	}, e.list(t, Query{Names: []string{"hello-doc", "hello"}})); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	if all := e.list(t, Query{Suite: "bookworm"}); len(all) != 6 {
		t.Errorf("all: %q", all)
	}
	if _, err := e.List(t.Context(), Query{Suite: "sid"}); fault.ClassOf(err) != fault.Usage {
		t.Errorf("a suite that is not there: %v", err)
	}
	found, err := e.List(t.Context(), Query{Names: []string{"hello-doc"}})
	if err != nil || !strings.Contains(found[0].Stanza, "\nFilename: "+found[0].Path+"\n") || !strings.HasPrefix(found[0].Stanza, "Package: hello-doc\n") {
		t.Errorf("stanza: %+v, %v", found, err)
	}
}

// A listing is that of the indexes, whatever the database says.
func TestListWithAFreshDatabase(t *testing.T) {
	e := newEnv(t)
	publishSome(t, e)
	want := e.list(t, Query{})
	e.Repo.db = openDB(t, filepath.Join(t.TempDir(), "other.db"))
	if diff := cmp.Diff(want, e.list(t, Query{})); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
}

func TestRemove(t *testing.T) {
	for _, tt := range []struct {
		name    string
		sel     Selection
		removed []string
		left    int
	}{
		{"a name", Selection{Names: []string{"hello"}}, []string{"hello 1:3-1 bookworm amd64", "hello 2.10-3 bookworm amd64", "hello 2.10-3 bookworm source"}, 3},
		{"one version", Selection{Names: []string{"hello=1:3-1"}}, []string{"hello 1:3-1 bookworm amd64"}, 5},
		{"twice the same", Selection{Names: []string{"hello-doc", "hello-doc=1:3-1"}}, []string{"hello-doc 1:3-1 bookworm all"}, 5},
		{
			"all of a source's version", Selection{Names: []string{"hello=1:3-1"}, BySource: true},
			[]string{"hello 1:3-1 bookworm amd64", "hello-doc 1:3-1 bookworm all", "hello-extra 7 bookworm amd64", "hello-udeb 1:3-1 bookworm amd64"}, 2,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEnv(t)
			publishSome(t, e)
			tt.sel.Suite = "bookworm"
			removed, err := e.Remove(t.Context(), tt.sel)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.removed, union(short(removed))); diff != "" {
				t.Errorf("removed (-want +got):\n%s", diff)
			}
			look(t, e.Dir(), "bookworm")
			e.Repo.db = openDB(t, filepath.Join(t.TempDir(), "other.db"))
			if left := e.list(t, Query{}); len(left) != tt.left {
				t.Errorf("left: %q", left)
			}
		})
	}
}

func TestRemoveWhatIsNotThere(t *testing.T) {
	e := newEnv(t)
	publishSome(t, e)
	before := snapshot(t, e.Dir())
	for _, names := range [][]string{{"nothing"}, {"hello", "nothing"}, {"hello=9"}, {}} {
		if _, err := e.Remove(t.Context(), Selection{Suite: "bookworm", Names: names}); fault.ClassOf(err) != fault.Usage {
			t.Errorf("remove %q: %v", names, err)
		}
	}
	if diff := cmp.Diff(before, snapshot(t, e.Dir())); diff != "" {
		t.Errorf("tree (-before +after):\n%s", diff)
	}
}

func TestVerify(t *testing.T) {
	for _, tt := range []struct {
		name string
		path string // "" for no damage
		fix  func(path string) error
	}{
		{name: "nothing"},
		{"a package", "pool/bookworm/main/h/hello/hello_2.10-3_amd64.deb", func(p string) error { return os.Truncate(p, 10) }},
		{"a file of a source", "pool/bookworm/main/h/hello/hello_2.10.orig.tar.gz", os.Remove},
		{"an index", "dists/bookworm/main/binary-amd64/Packages.gz", func(p string) error { return os.Truncate(p, 10) }},
		{"a signature", "dists/bookworm/InRelease", func(p string) error { return os.Truncate(p, 300) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEnv(t)
			publishSome(t, e)
			want := 0
			if tt.path != "" {
				want = 1
				if err := tt.fix(filepath.Join(e.Dir(), tt.path)); err != nil {
					t.Fatal(err)
				}
			}
			v, err := e.Verify(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if (len(v.Findings) > 0) != (want > 0) || v.Suites != 1 {
				t.Errorf("verified: %+v", v)
			}
			if want == 0 && (v.Files != 8 || v.Indexes != 6) {
				t.Errorf("verified: %+v", v)
			}
		})
	}
}

func TestReadUploads(t *testing.T) {
	dir := t.TempDir()
	files := append(source(t, "2.10-3", "orig", "debian"), pkg{}.build(t), pkg{name: "other"}.build(t), pkg{name: "hello-doc", source: "hello", arch: "all"}.build(t))
	u := upload(t, "2.10-3", files[3])
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, f.Name), readFile(t, f.Path), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, u.Changes.Name), u.Changes.Data, 0o644); err != nil {
		t.Fatal(err)
	}
	epoch := pkg{version: "1:3-1"}.build(t)
	if err := os.WriteFile(filepath.Join(dir, "hello_1%3a3-1_amd64.deb"), readFile(t, epoch.Path), 0o644); err != nil {
		t.Fatal(err)
	}
	at := func(names ...string) (paths []string) {
		for _, n := range names {
			paths = append(paths, filepath.Join(dir, n))
		}
		return paths
	}
	for _, tt := range []struct {
		name  string
		paths []string
		files []int // of each upload
		class fault.Class
	}{
		{"changes", at("hello_2.10-3_amd64.changes"), []int{1}, fault.OK},
		{"dsc", at("hello_2.10-3.dsc"), []int{3}, fault.OK},
		{"packages by source", at("hello_2.10-3_amd64.deb", "other_2.10-3_amd64.deb", "hello-doc_2.10-3_all.deb"), []int{2, 1}, fault.OK},
		{"as apt names it", at("hello_1%3a3-1_amd64.deb"), []int{1}, fault.OK},
		{"something else", at("hello_2.10.orig.tar.gz"), nil, fault.Usage},
		{"not there", at("none.deb"), nil, fault.Input},
		{"no changes at all", at("none.changes"), nil, fault.Input},
	} {
		t.Run(tt.name, func(t *testing.T) {
			uploads, err := ReadUploads("bookworm", tt.paths)
			if err != nil || tt.class != fault.OK {
				if fault.ClassOf(err) != tt.class {
					t.Errorf("class %q: %v", fault.ClassOf(err), err)
				}
				return
			}
			var got []int
			e := newEnv(t)
			for _, u := range uploads {
				got = append(got, len(u.Files))
				e.publish(t, u)
			}
			if diff := cmp.Diff(tt.files, got); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}
