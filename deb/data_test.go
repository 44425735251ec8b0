package deb

import (
	"archive/tar"
	"bytes"
	"testing"
)

func TestCheckData(t *testing.T) {
	file := func(name string) tarMember { return regular(name, "content") }
	link := func(name, to string, kind byte) tarMember {
		return tarMember{tar.Header{Name: name, Typeflag: kind, Linkname: to}, ""}
	}
	dir := func(name string) tarMember { return tarMember{tar.Header{Name: name, Typeflag: tar.TypeDir}, ""} }
	for _, tt := range []struct {
		name    string
		members []tarMember
		ok      bool
	}{
		{"nothing", nil, true},
		{"files", []tarMember{dir("./"), dir("./usr/"), file("./usr/a b"), link("./usr/c", "/etc/passwd", tar.TypeSymlink), link("./usr/d", "./usr/a b", tar.TypeLink)}, true},
		{"link and a name like it", []tarMember{link("./a", "/", tar.TypeSymlink), file("./ab")}, true},
		{"above", []tarMember{file("./../a")}, false},
		{"above in the middle", []tarMember{file("./usr/../../a")}, false},
		{"dot in the middle", []tarMember{file("./usr/./a")}, false},
		{"twice a slash", []tarMember{file("./usr//a")}, false},
		{"absolute", []tarMember{file("/etc/passwd")}, false},
		{"line feed", []tarMember{file("./a\nb")}, false},
		{"hard link to above", []tarMember{link("./a", "../b", tar.TypeLink)}, false},
		{"through a link", []tarMember{link("./a", "/", tar.TypeSymlink), file("./a/etc/passwd")}, false},
		{"through a link that was one", []tarMember{link("./a", "/", tar.TypeSymlink), dir("./a"), file("./a/b")}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			data := tarFile(t, tt.members...)
			b := &BinaryFile{DataName: "data.tar", DataSize: int64(len(data))}
			seen := 0
			err := b.CheckData(bytes.NewReader(data), func(string, *tar.Header) { seen++ })
			if (err == nil) != tt.ok {
				t.Errorf("error %v", err)
			}
			if tt.name == "files" && seen != 4 {
				t.Errorf("%d members", seen)
			}
		})
	}
}

// A data part that ends early is refused wherever it ends.
func TestCheckDataTruncated(t *testing.T) {
	whole := tarFile(t, regular("./usr/share/doc/hello/copyright", "content"))
	for suffix, packed := range map[string][]byte{".gz": gzipped(t, whole), ".zst": zstded(t, whole)} {
		b := &BinaryFile{DataName: "data.tar" + suffix, DataSize: int64(len(packed))}
		if err := b.CheckData(bytes.NewReader(packed), nil); err != nil {
			t.Fatalf("%s: %v", suffix, err)
		}
		for n := range packed {
			b.DataSize = int64(n)
			if err := b.CheckData(bytes.NewReader(packed), nil); err == nil {
				t.Errorf("%s: cut after %d of %d bytes it is fine", suffix, n, len(packed))
			}
		}
	}
}
