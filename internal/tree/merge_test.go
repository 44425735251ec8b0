package tree

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// layer makes a manifest of a root with these entries.
func layer(entries ...Entry) Manifest {
	return append(Manifest{{Path: ".", Type: TypeDir}}, entries...)
}

func dir(path string) Entry    { return Entry{Path: path, Type: TypeDir} }
func reg(path string) Entry    { return Entry{Path: path, Type: TypeFile} }
func hidden(path string) Entry { return Entry{Path: path, Type: TypeWhiteout} }
func opaque(path string) Entry {
	return Entry{Path: path, Type: TypeDir, Opaque: true}
}
func hard(path, first string) Entry { return Entry{Path: path, Type: TypeFile, HardLink: first} }
func on(layer int, e Entry) Entry   { e.Layer = layer; return e }

func TestMerge(t *testing.T) {
	for _, test := range []struct {
		name        string
		lower       Manifest
		upper, want Manifest
	}{
		{
			"names of both",
			layer(dir("a"), reg("a/x"), reg("c")),
			layer(dir("a"), reg("a/y"), reg("b")),
			Manifest{on(1, dir(".")), on(1, dir("a")), reg("a/x"), on(1, reg("a/y")), on(1, reg("b")), reg("c")},
		},
		{
			"whiteouts of a file, a directory and of nothing",
			layer(dir("a"), dir("a/d"), reg("a/d/x"), reg("a/x"), reg("a.b")),
			layer(dir("a"), hidden("a/d"), hidden("a/x"), hidden("q")),
			Manifest{on(1, dir(".")), on(1, dir("a")), reg("a.b")},
		},
		{
			"opaque with whiteout and file inside",
			layer(dir("a"), reg("a/1"), dir("a/2"), reg("a/2/x"), reg("a/3"), reg("b")),
			layer(opaque("a"), reg("a/2"), hidden("a/25")),
			Manifest{on(1, dir(".")), on(1, dir("a")), on(1, reg("a/2")), reg("b")},
		},
		{
			"file over directory, directory over file",
			layer(dir("a"), reg("a/x"), reg("b")),
			layer(reg("a"), dir("b"), reg("b/y")),
			Manifest{on(1, dir(".")), on(1, reg("a")), on(1, dir("b")), on(1, reg("b/y"))},
		},
		{
			"hard links stay in their layer",
			layer(reg("a"), hard("b", "a"), hard("c", "a"), reg("x"), hard("y", "x")),
			layer(reg("a"), hard("d", "a"), reg("x")),
			Manifest{on(1, dir(".")), on(1, reg("a")), reg("b"), hard("c", "b"), on(1, hard("d", "a")), on(1, reg("x")), reg("y")},
		},
		{
			"sockets are no part, but hide",
			layer(reg("s"), reg("t")),
			layer(Entry{Path: "s", Type: TypeSocket}),
			Manifest{on(1, dir(".")), reg("t")},
		},
		{"no lower", nil, layer(reg("a"), hidden("b")), layer(reg("a"))},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, Merge(test.lower, test.upper)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestMergeThreeLayers(t *testing.T) {
	m := Merge(Merge(layer(reg("a"), reg("b"), reg("c")), layer(reg("b"))), layer(reg("c")))
	want := Manifest{on(2, dir(".")), reg("a"), on(1, reg("b")), on(2, reg("c"))}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Error(diff)
	}
}

func TestScan(t *testing.T) {
	good := func() Manifest {
		return layer(dir("dev"), Entry{Path: "dev/null", Type: TypeChar}, dir("etc"), reg("etc/hosts"), dir("proc"), dir("run"),
			dir("sys"), dir("tmp"), dir("usr"), reg("usr/su"), reg("usr/x"), Entry{Path: "var", Type: TypeDir},
			Entry{Path: "var/run", Type: TypeSymlink, Link: "/run"})
	}
	m := good()
	m.Lookup("usr/su").Mode = 0o4755
	m.Lookup("usr/x").Caps = "c"
	problems, setid := Scan(m)
	if len(problems) > 0 {
		t.Errorf("problems %q", problems)
	}
	if diff := cmp.Diff([]string{"usr/su", "usr/x"}, setid); diff != "" {
		t.Error(diff)
	}
	for name, change := range map[string]func(Manifest){
		"dev is a link":        func(m Manifest) { m.Lookup("dev").Type = TypeSymlink },
		"tmp is a file":        func(m Manifest) { m.Lookup("tmp").Type = TypeFile },
		"hosts is a link":      func(m Manifest) { m.Lookup("etc/hosts").Type = TypeSymlink },
		"hosts is a directory": func(m Manifest) { m.Lookup("etc/hosts").Type = TypeDir },
		"device in usr":        func(m Manifest) { m.Lookup("usr/x").Type = TypeBlock },
		"proc is missing":      func(m Manifest) { m.Lookup("proc").Path = "procs" },
	} {
		t.Run(name, func(t *testing.T) {
			m := good()
			change(m)
			if problems, _ := Scan(m); len(problems) != 1 {
				t.Errorf("problems %q", problems)
			}
		})
	}
}
