package docker

import (
	"archive/tar"
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReference(t *testing.T) {
	for tag, want := range map[string]string{
		"base:bookworm-amd64":           "dbuild/base:bookworm-amd64",
		"deps:sid-amd64-libstdc++6":     "dbuild/deps:sid-amd64-libstdc--6",
		"other":                         "dbuild/other:latest",
		"Odd Name:":                     "dbuild/odd-name:latest",
		":x":                            "dbuild/image:x",
		"a:" + strings.Repeat("b", 200): "dbuild/a:" + strings.Repeat("b", 128),
	} {
		if got := reference(tag); got != want {
			t.Errorf("reference of %q is %q, want %q", tag, got, want)
		}
	}
}

func names(t *testing.T, data []byte) []string {
	t.Helper()
	var all []string
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if err != nil {
			return all
		}
		all = append(all, h.Name)
	}
}

func pack(t *testing.T, headers ...tar.Header) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		h.Mode = 0o755
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func TestRepack(t *testing.T) {
	d := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeDir} }
	var out bytes.Buffer
	known, err := repack(pack(t, d("./"), d("./etc"), tar.Header{Name: "./etc/hosts"}, d("./dev"), tar.Header{Name: "dev/null", Typeflag: tar.TypeChar}, d("var")), &out)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"proc", "sys", "run", "tmp", "var/tmp"}, known.Absent); diff != "" {
		t.Errorf("absent: %s", diff)
	}
	if diff := cmp.Diff([]string{"./", "etc/", "dev/", "var/"}, names(t, out.Bytes())); diff != "" {
		t.Errorf("entries: %s", diff)
	}
	for _, x := range []struct {
		name string
		tar  *bytes.Buffer
	}{
		{"twice", pack(t, d("a"), d("a"))},
		{"whiteout", pack(t, tar.Header{Name: ".wh.a"})},
		{"no directory", pack(t, tar.Header{Name: "a/b"})},
		{"below a link", pack(t, tar.Header{Name: "a", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, tar.Header{Name: "a/b"})},
		{"mount point", pack(t, tar.Header{Name: "run", Typeflag: tar.TypeSymlink, Linkname: "/etc"})},
		{"root", pack(t, tar.Header{Name: "./", Typeflag: tar.TypeDir, Uid: 1})},
	} {
		if _, err := repack(x.tar, &out); err == nil {
			t.Errorf("%s: accepted", x.name)
		}
	}
}

// TestFacts: directories that docker made are left out, unless something lies
// in them.
func TestFacts(t *testing.T) {
	d := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeDir} }
	var out bytes.Buffer
	in := pack(t, d("a/"), d("proc/"), d("run/"), d("sys/"), d("var/"), d("var/log/"), d("var/tmp/"), d("z/"))
	if err := (facts{Absent: []string{"proc", "run", "var", "var/tmp"}}).copy(in, &out); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"./", "a/", "sys/", "var/", "var/log/", "z/"}, names(t, out.Bytes())); diff != "" {
		t.Error(diff)
	}
}
