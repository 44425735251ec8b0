package enginetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"dbuild/engine"
)

func testPut(t *testing.T, s *suite) {
	t.Run("attributes", s.testPutAttributes)
	t.Run("refuses", s.testPutRefuses)
	t.Run("symlinks stay inside", s.testPutSymlinks)
	t.Run("replaces", s.testPutReplaces)
	t.Run("keeps directories", s.testPutKeepDirs)
	t.Run("decoder", s.testPutDecoder)
	t.Run("below a directory", s.testPutDir)
	t.Run("side by side", s.testPutConcurrent)
	t.Run("cancel", s.testPutCancel)
}

// scratch returns a scratch container with the base in it.
func (s *suite) scratch(t *testing.T) engine.Container {
	t.Helper()
	c := s.container(t, engine.Spec{Purpose: engine.PurposeDeps, Network: engine.NetworkNone})
	put(t, c, s.tar, engine.PutOptions{})
	return c
}

func put(t *testing.T, c engine.Container, tar []byte, opts engine.PutOptions) []engine.PutEntry {
	t.Helper()
	entries, err := c.PutFiles(t.Context(), bytes.NewReader(tar), opts)
	if err != nil {
		t.Fatalf("put files: %v", err)
	}
	return entries
}

// testPutAttributes looks at the odd files from inside.
func (s *suite) testPutAttributes(t *testing.T) {
	c := s.container(t, s.spec(engine.PurposeDeps))
	for path, want := range map[string]string{
		"/odd/first":         "100644 7:8 2 6 1700000000",
		"/odd/second":        "100644 7:8 2 6 1700000000",
		"/odd/symlink":       "120777 1000:1000 1 12 1700000000",
		"/odd/fifo":          "010644 0:0 1 0 1700000000",
		"/odd/setid":         "106755 0:42 1 6 1700000000",
		"/odd/high":          "100400 65534:65534 1 8 1700000000",
		"/odd/sticky/closed": "100000 0:0 1 6 1700000000",
		"/odd/holes":         "100644 0:0 1 3145731 1700000000",
	} {
		if got := must(t, c, "stat", path); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %swant %s", path, got, want)
		}
	}
	if got := must(t, c, "stat", "/odd/sticky"); !strings.HasPrefix(got, "043777 0:50") {
		t.Errorf("/odd/sticky: %s", got)
	}
}

func (s *suite) testPutRefuses(t *testing.T) {
	for _, x := range []struct {
		name string
		file file
	}{
		{"parent", regular("../escape", "x")},
		{"deep parent", regular("a/b/../../../escape", "x")},
		{"device", file{Header: tar.Header{Name: "etc/disk", Typeflag: tar.TypeBlock, Devmajor: 8}}},
		{"socket type", file{Header: tar.Header{Name: "etc/x", Typeflag: 'Z'}}},
		{"over a directory", regular("etc", "x")},
		{"through a file", regular("etc/plain/x", "x")},
		{"owner", file{Header: tar.Header{Name: "etc/x", Gid: 70000}}},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := s.container(t, s.spec(engine.PurposeDeps))
			if _, err := c.PutFiles(t.Context(), bytes.NewReader(pack(x.file)), engine.PutOptions{}); err == nil {
				t.Error("put succeeded")
			}
		})
	}
	// Device nodes of /dev belong to every root file system and are left out.
	c := s.container(t, s.spec(engine.PurposeDeps))
	entries := put(t, c, pack(file{Header: tar.Header{Name: "dev/null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}}, regular("etc/x", "x")), engine.PutOptions{})
	if len(entries) != 1 || entries[0].Name != "etc/x" {
		t.Errorf("entries %+v", entries)
	}
	must(t, c, "write", "/dev/null", "still the null device")
}

// testPutSymlinks: links in the tree lead to places in the container, never to
// the host and never through /proc.
func (s *suite) testPutSymlinks(t *testing.T) {
	c := s.scratch(t)
	link := func(name, target string) file {
		return file{Header: tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target}}
	}
	put(t, c, pack(link("home/abs", "/etc"), link("home/up", "../../../../../../etc"), link("home/magic", "/proc/self/root"), link("home/fd", "/proc/self/fd")), engine.PutOptions{})
	put(t, c, pack(regular("home/abs/one", "1"), regular("home/up/two", "2")), engine.PutOptions{})
	if got := must(t, c, "read", "/etc/one") + must(t, c, "read", "/etc/two"); got != "12" {
		t.Errorf("files through links read %q", got)
	}
	for _, name := range []string{"home/magic/etc/three", "home/fd/3/x"} {
		if _, err := c.PutFiles(t.Context(), bytes.NewReader(pack(regular(name, "x"))), engine.PutOptions{}); err == nil {
			t.Errorf("put %q went through a magic link", name)
		}
	}
}

func (s *suite) testPutReplaces(t *testing.T) {
	c := s.scratch(t)
	put(t, c, pack(
		regular("etc/plain", "new"),
		regular("odd/symlink", "a file in place of a link"),
		regular("odd/first", "unlinked from its pair"),
		file{Header: tar.Header{Name: "odd/fifo", Typeflag: tar.TypeSymlink, Linkname: "first"}},
	), engine.PutOptions{})
	for path, want := range map[string]string{
		"/etc/plain": "new", "/odd/symlink": "a file in place of a link", "/odd/second": "linked", "/odd/fifo": "unlinked from its pair",
	} {
		if got := must(t, c, "read", path); got != want {
			t.Errorf("%s reads %q, want %q", path, got, want)
		}
	}
}

// testPutKeepDirs: as dpkg does, directories stay as they are, a link to one
// is one, and a link never takes the place of one.
func (s *suite) testPutKeepDirs(t *testing.T) {
	c := s.scratch(t)
	put(t, c, pack(dir("usr/bin"), file{Header: tar.Header{Name: "sbin", Typeflag: tar.TypeSymlink, Linkname: "usr/bin"}}), engine.PutOptions{})
	must(t, c, "chmod", "750", "/home")
	must(t, c, "chown", "5", "6", "/home")
	entries := put(t, c, pack(
		dir("sbin"), regular("sbin/prog", "prog"), dir("home"), dir("home/new"),
		file{Header: tar.Header{Name: "var", Typeflag: tar.TypeSymlink, Linkname: "etc"}},
	), engine.PutOptions{KeepDirs: true})
	if len(entries) != 5 || entries[1].Name != "sbin/prog" || entries[1].Size != 4 {
		t.Errorf("entries %+v", entries)
	}
	if got := must(t, c, "read", "/usr/bin/prog"); got != "prog" {
		t.Errorf("file behind the link reads %q", got)
	}
	for path, want := range map[string]string{"/sbin": "120777", "/home": "040750 5:6", "/home/new": "040755 0:0", "/var": "040755"} {
		if got := must(t, c, "stat", path); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %swant %s", path, got, want)
		}
	}
}

func (s *suite) testPutDecoder(t *testing.T) {
	c := s.scratch(t)
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(pack(regular("home/large", string(large)), regular("home/small", "small")))
	_ = w.Close()
	entries := put(t, c, b.Bytes(), engine.PutOptions{Decoder: []string{ToolPath, "gunzip"}})
	if len(entries) != 2 || entries[0].Size != int64(len(large)) || entries[1].Name != "home/small" {
		t.Errorf("entries %+v", entries)
	}
	if got := must(t, c, "read", "/home/large"); got != string(large) {
		t.Errorf("decoded file has %d bytes, or others than were put", len(got))
	}
	_, err := c.PutFiles(t.Context(), strings.NewReader("not gzip"), engine.PutOptions{Decoder: []string{ToolPath, "gunzip"}})
	if err == nil || !strings.Contains(err.Error(), "tool gunzip: ") {
		t.Errorf("error of a decoder that fails: %v; want what it said", err)
	}
	if _, err := c.PutFiles(t.Context(), strings.NewReader(""), engine.PutOptions{Decoder: []string{"/bin/missing"}}); err == nil {
		t.Error("put with a missing decoder succeeded")
	}
}

func (s *suite) testPutDir(t *testing.T) {
	c := s.container(t, s.spec(engine.PurposeDeps))
	put(t, c, pack(
		dir("sub"), regular("sub/file", "x"),
		file{Header: tar.Header{Name: "out", Typeflag: tar.TypeSymlink, Linkname: "/odd"}},
	), engine.PutOptions{Dir: "/home"})
	// Below a directory, an absolute link means that directory.
	if _, err := c.PutFiles(t.Context(), bytes.NewReader(pack(regular("out/x", "x"))), engine.PutOptions{Dir: "/home"}); err == nil {
		if _, exit := output(t, c, engine.Root, "read", "/odd/x"); exit.OK() {
			t.Error("a link led out of Dir")
		}
	}
	if got := must(t, c, "read", "/home/sub/file"); got != "x" {
		t.Errorf("file reads %q", got)
	}
}

func (s *suite) testPutConcurrent(t *testing.T) {
	c := s.scratch(t)
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			var files []file
			for n := range 300 {
				files = append(files, regular(fmt.Sprintf("home/shared/%d/%d/file-%d", n%7, i, n), strings.Repeat("x", n)))
			}
			entries, err := c.PutFiles(t.Context(), bytes.NewReader(pack(files...)), engine.PutOptions{})
			if err != nil || len(entries) != 300 || entries[299].Name != fmt.Sprintf("home/shared/%d/%d/file-299", 299%7, i) {
				t.Errorf("stream %d: %d entries, %v", i, len(entries), err)
			}
		})
	}
	group.Wait()
	if n := strings.Count(must(t, c, "ls", "/home/shared"), "file-"); n != 1200 {
		t.Errorf("%d files, want 1200", n)
	}
}

// testPutCancel: a stream that stalls does not hold up the caller.
func (s *suite) testPutCancel(t *testing.T) {
	c := s.container(t, s.spec(engine.PurposeDeps))
	r, w := io.Pipe()
	defer w.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := c.PutFiles(ctx, r, engine.PutOptions{})
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 5*time.Second {
		t.Errorf("put ended after %v with %v", time.Since(start), err)
	}
}
