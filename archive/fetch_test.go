package archive_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dbuild/archive"
	"dbuild/archive/archivetest"
	"dbuild/internal/fault"
)

// bigPackage is large enough to be cut, dripped and resumed.
func bigPackage(name string) archivetest.Package {
	noise := make([]byte, 200<<10)
	for i, x := 0, uint32(1); i < len(noise); i++ {
		x = x*1664525 + 1013904223
		noise[i] = byte(x >> 24)
	}
	return archivetest.Package{Name: name, Version: "1", Architecture: "amd64", Files: map[string]string{"usr/share/" + name: string(noise)}}
}

// withBig is a copy with an index, and the one big file of its archive.
func withBig(t *testing.T, o archive.Options) (c *archive.Copy, server *archivetest.Server, f archive.File) {
	t.Helper()
	a := archivetest.New(t)
	a.AddSuite(archivetest.Suite{Name: "bookworm"})
	a.AddPackage("bookworm", "main", bigPackage("big"))
	a.Publish("bookworm")
	server = a.Serve(t)
	c = open(t, t.TempDir(), o)
	st := mustUpdate(t, c, server.Source("bookworm"))
	index, err := c.Packages(t.Context(), st, "main", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	p, err := archive.FindPackage(index, "big", "1", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	return c, server, st.Source.File(p)
}

// check checks that the pool has the file with its right content.
func check(t *testing.T, c *archive.Copy, f archive.File) {
	t.Helper()
	data, err := os.ReadFile(c.Path(f.SHA256))
	if err != nil {
		t.Fatal(err)
	}
	if got := archivetest.SHA256(data); got != f.SHA256 {
		t.Errorf("the pool file has hash %s, want %s", got, f.SHA256)
	}
}

// TestFetchFaults has a mirror that fails for good, and one that fails once
// (F25 to F27, B66). An answer after which it makes no sense to ask again must
// be the only one.
func TestFetchFaults(t *testing.T) {
	tests := []struct {
		name  string
		fault archivetest.Fault
		want  fault.Class
		asks  int  // requests when it fails for good; 0: not checked
		heals bool // one such answer does no harm
	}{
		{"404", archivetest.Fault{Status: 404}, fault.Network, 1, false},
		{"403", archivetest.Fault{Status: 403}, fault.Network, 1, false},
		{"407", archivetest.Fault{Status: 407}, fault.Network, 1, false},
		{"416", archivetest.Fault{Status: 416}, fault.Network, 4, true},
		{"500", archivetest.Fault{Status: 500}, fault.Network, 4, true},
		{"503", archivetest.Fault{Status: 503}, fault.Network, 4, true},
		{"304 unasked", archivetest.Fault{Status: 304}, fault.Network, 1, false},
		{"206 unasked", archivetest.Fault{Status: 206}, fault.Network, 4, true},
		{"connection reset", archivetest.Fault{Reset: true}, fault.Network, 0, true}, // net/http repeats some by itself
		{"never answers", archivetest.Fault{Hang: true}, fault.Network, 4, true},
		{"drips", archivetest.Fault{Drip: 50 * time.Millisecond}, fault.Network, 4, true},
		{"no body", archivetest.Fault{Truncate: -1}, fault.Network, 4, true},
		{"flipped", archivetest.Fault{Flip: true}, fault.Trust, 2, true},
		{"announced shorter", archivetest.Fault{Short: 1000}, fault.Trust, 2, true},
		{"longer", archivetest.Fault{Extra: 1}, fault.Trust, 2, true},
		{"endless", archivetest.Fault{Endless: true}, fault.Trust, 2, true},
		{"other file", archivetest.Fault{Body: []byte("other")}, fault.Network, 0, true},
		{"web page", archivetest.Fault{HTML: true}, fault.Network, 1, false},
		{"header of 1 MiB", archivetest.Fault{Header: http.Header{"X": {strings.Repeat("x", 1<<20)}}}, fault.Network, 4, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, server, f := withBig(t, archive.Options{})
			tt.fault.Path = ".deb"
			server.Fault(tt.fault)
			n, _, err := c.Fetch(t.Context(), []archive.File{f})
			wantClass(t, err, tt.want)
			if n != 0 {
				t.Errorf("%d files fetched", n)
			}
			if _, err := os.Lstat(c.Path(f.SHA256)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the pool has the file: %v", err)
			}
			if asks := len(server.Requests(".deb")); tt.asks > 0 && asks != tt.asks {
				t.Errorf("asked %d times, want %d", asks, tt.asks)
			}
			if !tt.heals {
				return
			}
			server.ClearFaults()
			tt.fault.Times = 1
			server.Fault(tt.fault)
			if _, _, err := c.Fetch(t.Context(), []archive.File{f}); err != nil {
				t.Fatalf("one bad answer and then good ones: %v", err)
			}
			check(t, c, f)
		})
	}
}

// TestFetchResumes cuts the connection; the rest is asked for by range, also
// by the next run.
func TestFetchResumes(t *testing.T) {
	t.Run("within a run", func(t *testing.T) {
		c, server, f := withBig(t, archive.Options{})
		server.Fault(archivetest.Fault{Path: ".deb", Truncate: 100_000, Times: 1})
		if _, _, err := c.Fetch(t.Context(), []archive.File{f}); err != nil {
			t.Fatal(err)
		}
		check(t, c, f)
		if asked := server.Requests(".deb"); len(asked) != 2 || asked[1].Status != http.StatusPartialContent {
			t.Errorf("asked %+v, want a range at last", asked)
		}
	})
	for _, tt := range []struct {
		name  string
		part  func(data []byte) []byte
		fault archivetest.Fault
		asks  int
	}{
		{"left by a killed run", func(d []byte) []byte { return d[:1000] }, archivetest.Fault{}, 1},
		{"damaged part", func([]byte) []byte { return make([]byte, 1000) }, archivetest.Fault{}, 2},
		{"longer than the file", func(d []byte) []byte { return append(bytes.Clone(d), 1) }, archivetest.Fault{}, 1},
		{"server without ranges", func(d []byte) []byte { return d[:1000] }, archivetest.Fault{NoRange: true}, 1},
		{"server sends another range", func(d []byte) []byte { return d[:1000] }, archivetest.Fault{WrongRange: true}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, server, f := withBig(t, archive.Options{})
			data := server.Archive.Get(f.Filename)
			if err := os.MkdirAll(filepath.Dir(c.Path(f.SHA256)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(c.Path(f.SHA256)+".part", tt.part(data), 0o644); err != nil {
				t.Fatal(err)
			}
			tt.fault.Path = ".deb"
			server.Fault(tt.fault)
			if _, _, err := c.Fetch(t.Context(), []archive.File{f}); err != nil {
				t.Fatal(err)
			}
			check(t, c, f)
			if asks := len(server.Requests(".deb")); asks != tt.asks {
				t.Errorf("asked %d times, want %d", asks, tt.asks)
			}
		})
	}
}

func TestFetchRedirects(t *testing.T) {
	c, server, f := withBig(t, archive.Options{})
	target := server.URL + "/" + f.Filename
	tests := []struct {
		name   string
		target string
		times  int
		want   fault.Class
	}{
		{"one", target, 1, fault.OK},
		{"five", target, 5, fault.OK},
		{"six", target, 6, fault.Network},
		{"file", "file:///etc/passwd", 0, fault.Network},
		{"ftp", "ftp://127.0.0.1/x", 0, fault.Network},
		{"encoded line break", server.URL + "/%0a201%20URI%20Done", 0, fault.Network},
		{"link-local address", "http://169.254.169.254/latest", 0, fault.Network},
		{"other loopback address", "http://[::1]/x", 0, fault.Network},
		{"bad port", "http://127.0.0.1:70000/x", 0, fault.Network},
		{"loop", target, 0, fault.Network},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.RemoveAll(c.Path(f.SHA256)); err != nil {
				t.Fatal(err)
			}
			server.ClearFaults()
			server.Fault(archivetest.Fault{Path: ".deb", Redirect: tt.target, Times: tt.times})
			_, _, err := c.Fetch(t.Context(), []archive.File{f})
			wantClass(t, err, tt.want)
		})
	}
}

// TestFetchRefused has nobody listen (F25) and a name that does not exist
// (F29): the latter is not asked for twice.
func TestFetchRefused(t *testing.T) {
	_, _, f := withBig(t, archive.Options{})
	tests := []struct {
		name  string
		err   error
		dials int32
	}{
		{"refused", &net.OpError{Op: "dial", Err: errors.New("connection refused")}, 4},
		{"no such host", &net.DNSError{Err: "no such host", Name: "mirror.invalid", IsNotFound: true}, 1},
		{"name server down", &net.DNSError{Err: "server misbehaving", Name: "mirror.invalid", IsTemporary: true}, 4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var dials atomic.Int32
			c := open(t, t.TempDir(), archive.Options{HTTP: &http.Client{Transport: &http.Transport{
				DialContext: func(context.Context, string, string) (net.Conn, error) {
					dials.Add(1)
					return nil, tt.err
				},
			}}})
			f.URL = "http://mirror.invalid/debian/x.deb"
			_, _, err := c.Fetch(t.Context(), []archive.File{f})
			wantClass(t, err, fault.Network)
			if dials.Load() != tt.dials {
				t.Errorf("%d dials, want %d", dials.Load(), tt.dials)
			}
			if !strings.Contains(err.Error(), "mirror.invalid") {
				t.Errorf("%q does not name the host", err)
			}
		})
	}
}

// TestProxy is F30.
func TestProxy(t *testing.T) {
	a, server := small(t, archivetest.Suite{})
	src := server.Source("bookworm")
	src.URL = "http://mirror.invalid/debian"
	tests := []struct {
		name   string
		user   string
		answer func(w http.ResponseWriter, r *http.Request)
		want   fault.Class
	}{
		{"passes on", "", func(w http.ResponseWriter, r *http.Request) {
			data := a.Get(strings.TrimPrefix(r.URL.Path, "/debian/"))
			if r.URL.Host != "mirror.invalid" || data == nil {
				w.WriteHeader(404)
			}
			_, _ = w.Write(data)
		}, fault.OK},
		{"wants credentials", "joe:secret@", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(407) }, fault.Network},
		{"down", "joe:secret@", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, fault.Network},
		{"captive portal", "joe:secret@", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "\n<HTML><title>Welcome to the hotel</title>")
		}, fault.Network},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			proxy := newHTTPServer(t, tt.answer)
			t.Setenv("http_proxy", "http://"+tt.user+proxy)
			t.Setenv("no_proxy", "")
			c := open(t, t.TempDir(), archive.Options{})
			_, err := updateOne(t, c, src)
			wantClass(t, err, tt.want)
			if err != nil && strings.Contains(err.Error()+fault.HintOf(err), "secret") {
				t.Errorf("%q tells the password", err)
			}
			if tt.user != "" && tt.name != "down" && fault.HintOf(err) == "" {
				t.Errorf("%q comes without a hint", err)
			}
		})
	}
	t.Run("no_proxy", func(t *testing.T) {
		t.Setenv("http_proxy", "http://joe:secret@127.0.0.1:1")
		t.Setenv("no_proxy", "mirror.invalid")
		c := open(t, t.TempDir(), archive.Options{})
		_, err := updateOne(t, c, src)
		var dns *net.DNSError
		var op *net.OpError
		if !errors.As(err, &dns) && (!errors.As(err, &op) || strings.Contains(op.Error(), "127.0.0.1:1")) {
			t.Errorf("got %v, want a failure to reach the mirror itself", err)
		}
	})
	t.Run("https through a proxy that wants credentials", func(t *testing.T) {
		proxy := newHTTPServer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(407) })
		t.Setenv("https_proxy", "http://joe:secret@"+proxy)
		t.Setenv("no_proxy", "")
		secure := src
		secure.URL = "https://mirror.invalid/debian"
		c := open(t, t.TempDir(), archive.Options{})
		_, err := updateOne(t, c, secure)
		wantClass(t, err, fault.Network)
		if !strings.Contains(fault.HintOf(err), "http_proxy") {
			t.Errorf("%v: hint %q", err, fault.HintOf(err))
		}
	})
}

// newHTTPServer serves answer on loopback and returns host and port.
func newHTTPServer(t *testing.T, answer http.HandlerFunc) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: answer}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	return l.Addr().String()
}

func TestCredentialsAreRedacted(t *testing.T) {
	_, server := small(t, archivetest.Suite{})
	src := server.Source("bookworm")
	src.URL = strings.Replace(src.URL, "http://", "http://joe:secret@", 1)
	dir := t.TempDir()
	c := open(t, dir, archive.Options{})
	st := mustUpdate(t, c, src)
	if got := server.Requests("InRelease")[0].Header.Get("Authorization"); got == "" {
		t.Error("the credentials were not sent")
	}
	server.Fault(archivetest.Fault{Status: 500})
	_, err := updateOne(t, c, src)
	if err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "joe") {
		t.Errorf("%q tells the credentials", err)
	}
	_, err = c.Packages(t.Context(), st, "main", "amd64")
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%q tells the credentials", err)
	}
	walkErr := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte("secret")) {
			t.Errorf("%s has the password", path)
		}
		return err
	})
	if walkErr != nil {
		t.Error(walkErr)
	}
}

func TestFetchEachOrderAndErrors(t *testing.T) {
	c, server, f := withBig(t, archive.Options{Parallel: 1})
	var files []archive.File
	for _, name := range []string{"c", "a", "b"} {
		data := []byte("file " + name)
		server.Archive.Put("pool/"+name, data)
		files = append(files, archive.File{URL: server.URL + "/pool/" + name, Filename: "pool/" + name,
			Size: int64(len(data)), SHA256: archivetest.SHA256(data), Name: name})
	}
	files = append(files, files[0])
	var got []string
	n, size, err := c.FetchEach(t.Context(), files, func(f archive.File) error {
		got = append(got, f.Name)
		return nil
	})
	if err != nil || n != 3 || size != 18 || strings.Join(got, " ") != "c a b c" {
		t.Errorf("got %d files, %d bytes, order %q, %v", n, size, got, err)
	}

	stop := errors.New("stop")
	if _, _, err := c.FetchEach(t.Context(), append(files, f), func(archive.File) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v, want the error of done", err)
	}
	for _, bad := range []archive.File{{SHA256: "x"}, {SHA256: strings.Repeat("A", 64)}, {SHA256: f.SHA256, Size: -1}} {
		_, _, err := c.Fetch(t.Context(), []archive.File{bad})
		wantClass(t, err, fault.Input)
	}
}

func TestFetchCancelled(t *testing.T) {
	c, server, f := withBig(t, archive.Options{})
	server.Fault(archivetest.Fault{Path: ".deb", Hang: true})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	start := time.Now()
	_, _, err := c.Fetch(ctx, []archive.File{f})
	wantClass(t, err, fault.Interrupted)
	if time.Since(start) > 400*time.Millisecond {
		t.Errorf("took %v to stop", time.Since(start))
	}
}

func TestFetchOffline(t *testing.T) {
	_, _, f := withBig(t, archive.Options{})
	c := open(t, t.TempDir(), archive.Options{Offline: true})
	_, _, err := c.Fetch(t.Context(), []archive.File{f})
	wantClass(t, err, fault.Network)
	if fault.HintOf(err) == "" {
		t.Error("no hint")
	}
}

// TestFetchShared lets many copies of one directory, as processes have them,
// fetch the same files at once.
func TestFetchShared(t *testing.T) {
	_, server, f := withBig(t, archive.Options{})
	server.Fault(archivetest.Fault{Path: ".deb", Delay: 20 * time.Millisecond})
	dir := t.TempDir()
	var wg sync.WaitGroup
	var fetched atomic.Int32
	for range 16 {
		wg.Go(func() {
			c := open(t, dir, archive.Options{})
			n, _, err := c.Fetch(t.Context(), []archive.File{f})
			if err != nil {
				t.Error(err)
			}
			fetched.Add(int32(n))
		})
	}
	wg.Wait()
	check(t, open(t, dir, archive.Options{}), f)
	if asks := len(server.Requests(".deb")); asks != 1 || fetched.Load() != 1 {
		t.Errorf("asked %d times, %d say that they fetched it; want 1", asks, fetched.Load())
	}
	left, err := filepath.Glob(filepath.Join(dir, "pool/*/*.part"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

// TestFetchAfterPowerLoss damages a pool file as a machine does that lost
// power before the bytes reached the disk (F10, F36).
func TestFetchAfterPowerLoss(t *testing.T) {
	tests := []struct {
		name   string
		damage func(path string) error
		boot   bool // only the check after a boot finds it
	}{
		{"empty", func(p string) error { return os.Truncate(p, 0) }, false},
		{"short", func(p string) error { return os.Truncate(p, 1000) }, false},
		{"gone", os.Remove, false},
		{"a directory", func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o755)) }, false},
		{"zeroed", func(p string) error { return errors.Join(os.Truncate(p, 1000), os.Truncate(p, 100_000)) }, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, server, f := withBig(t, archive.Options{})
			files := []archive.File{f}
			if _, _, err := c.Fetch(t.Context(), files); err != nil {
				t.Fatal(err)
			}
			if tt.boot {
				if err := zero(c.Path(f.SHA256)); err != nil {
					t.Fatal(err)
				}
				c.Rebooted()
			} else if err := tt.damage(c.Path(f.SHA256)); err != nil {
				t.Fatal(err)
			}
			if n, _, err := c.Fetch(t.Context(), files); n != 1 || err != nil {
				t.Errorf("fetched %d: %v", n, err)
			}
			check(t, c, f)
			server.ClearRequests()
			if n, _, err := c.Fetch(t.Context(), files); n != 0 || err != nil || len(server.Requests("")) != 0 {
				t.Errorf("again: fetched %d: %v", n, err)
			}
		})
	}
}

// zero overwrites the second half of a file, whose size stays.
func zero(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	clear(data[len(data)/2:])
	return os.WriteFile(path, data, 0o644)
}

func TestGet(t *testing.T) {
	_, server := small(t, archivetest.Suite{})
	server.Archive.Put("x.dsc", []byte("Source: x\n"))
	c := open(t, t.TempDir(), archive.Options{})
	if data, err := c.Get(t.Context(), server.URL+"/x.dsc", 10); string(data) != "Source: x\n" || err != nil {
		t.Errorf("got %q, %v", data, err)
	}
	_, err := c.Get(t.Context(), server.URL+"/x.dsc", 9)
	wantClass(t, err, fault.Network)
	server.Fault(archivetest.Fault{Endless: true})
	_, err = c.Get(t.Context(), server.URL+"/x.dsc", 1<<20)
	wantClass(t, err, fault.Network)
	_, err = c.Get(t.Context(), "file:///etc/passwd", 1<<20)
	wantClass(t, err, fault.Input)
}

func TestExpire(t *testing.T) {
	c, _, f := withBig(t, archive.Options{})
	if _, _, err := c.Fetch(t.Context(), []archive.File{f}); err != nil {
		t.Fatal(err)
	}
	old := time.Now().AddDate(0, 0, -30)
	part := c.Path(strings.Repeat("0", 64)) + ".part"
	if err := os.MkdirAll(filepath.Dir(part), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(part, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if n, _, err := c.Expire(t.Context(), 0); n != 0 || err != nil {
		t.Errorf("removed %d files in use, %v", n, err)
	}
	for _, p := range []string{part, c.Path(f.SHA256)} {
		if err := os.Chtimes(p, old, old); err != nil {
			t.Fatal(err)
		}
	}
	n, size, err := c.Expire(t.Context(), 7*24*time.Hour)
	if n != 2 || size != f.Size+1 || err != nil {
		t.Errorf("removed %d files, %d bytes, %v; want 2", n, size, err)
	}
}
