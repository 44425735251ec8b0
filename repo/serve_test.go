package repo

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func TestServer(t *testing.T) {
	e := newEnv(t)
	publishSome(t, e)
	server := httptest.NewUnstartedServer(nil)
	server.Config = e.Server()
	server.Start()
	defer server.Close()
	get := func(method, path, byteRange string) (int, string, http.Header) {
		req, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if byteRange != "" {
			req.Header.Set("Range", byteRange)
		}
		res, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if err := errors.Join(err, res.Body.Close()); err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(body), res.Header
	}
	const deb = "/pool/bookworm/main/h/hello/hello_2.10-3_amd64.deb"
	for _, tt := range []struct {
		method, path, byteRange string
		status                  int
	}{
		{"GET", "/dists/bookworm/InRelease", "", 200},
		{"HEAD", "/dists/bookworm/Release.gpg", "", 200},
		{"GET", "/key.asc", "", 200},
		{"GET", deb, "", 200},
		{"GET", deb, "bytes=10-19", 206},
		{"GET", "/dists/bookworm/none", "", 404},
		{"GET", "/dists/none/InRelease", "", 404},
		{"GET", "/", "", 404},
		{"GET", "/dists/bookworm/", "", 404},
		{"GET", "/pool/bookworm", "", 404},
		{"GET", "/dists/.bookworm.1/InRelease", "", 404},
		{"GET", "/builds/build-1/hello_2.10-3_amd64.changes", "", 404},
		{"GET", "/suites/bookworm.json", "", 404},
		{"GET", "/.lock", "", 404},
		{"GET", "/../dbuild.db", "", 404},
		{"GET", "/pool/%2e%2e/suites/bookworm.json", "", 404},
		{"GET", "/pool/..%2f..%2fdbuild.db", "", 404},
		{"GET", "/dists/bookworm/%2e%2e/.bookworm.1/InRelease", "", 404},
		{"GET", "/records/bookworm/2/InRelease", "", 404},
		{"GET", "/pool/%00", "", 404},
		{"GET", "/dists/bookworm/main/binary-amd64/by-hash", "", 404},
		{"GET", deb, "bytes=1000000-", 416},
		{"PUT", deb, "", 405},
	} {
		if status, _, _ := get(tt.method, tt.path, tt.byteRange); status != tt.status {
			t.Errorf("%s %s %s: %d, want %d", tt.method, tt.path, tt.byteRange, status, tt.status)
		}
	}
	if _, body, header := get("GET", deb, "bytes=10-19"); len(body) != 10 || header.Get("Cache-Control") == "no-cache" {
		t.Errorf("range: %q, %v", body, header)
	}
}

// Whoever has begun to read a generation goes on reading it, on the same
// connection, and sees the next one when it asks for InRelease again.
func TestServerPinsAConnection(t *testing.T) {
	e := newEnv(t)
	publishSome(t, e)
	server := httptest.NewUnstartedServer(nil)
	server.Config = e.Server()
	server.Start()
	defer server.Close()
	get := func(path string) string {
		res, err := server.Client().Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != 200 || res.Body.Close() != nil {
			t.Fatalf("get %s: %d, %v", path, res.StatusCode, err)
		}
		return string(body)
	}
	const index = "/dists/bookworm/main/binary-amd64/Packages.gz"
	release, packages := get("/dists/bookworm/InRelease"), get(index)
	e.publish(t, upload(t, "9", pkg{version: "9"}.build(t)))
	if get(index) != packages {
		t.Error("the index changed in the middle")
	}
	if get("/dists/bookworm/InRelease") == release || get(index) == packages {
		t.Error("the next generation is not seen")
	}
}

// What a client has already is not sent again, and an index counts as changed
// when its generation came, not when its bytes were written.
func TestServerSpeaksHTTP(t *testing.T) {
	e := newEnv(t)
	publishSome(t, e)
	e.publish(t, upload(t, "1:2+a~b", pkg{name: "odd", source: "hello (1:2+a~b)", version: "1:2+a~b"}.build(t)))
	server := httptest.NewUnstartedServer(nil)
	server.Config = e.Server()
	server.Start()
	defer server.Close()
	type answer struct {
		code   int
		header http.Header
	}
	do := func(method, path string, header ...string) answer {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		res, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if err := errors.Join(err, res.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if method == http.MethodHead && (len(body) > 0 || res.ContentLength < 1) {
			t.Errorf("HEAD %s: %d bytes, length %d", path, len(body), res.ContentLength)
		}
		return answer{res.StatusCode, res.Header}
	}
	const index, release = "/dists/bookworm/main/source/Sources.gz", "/dists/bookworm/InRelease"
	for _, path := range []string{index, release} {
		date := e.cur(t).release.Date.UTC().Format(http.TimeFormat)
		res := do("HEAD", path)
		if got := res.header.Get("Last-Modified"); got != date || res.header.Get("Cache-Control") != "no-cache" {
			t.Errorf("%s: modified %s, want %s; %v", path, got, date, res.header)
		}
		if got := do("GET", path, "If-Modified-Since", date).code; got != http.StatusNotModified {
			t.Errorf("%s again: %d", path, got)
		}
		if got := do("GET", path, "Range", "bytes=5-", "If-Range", date).code; got != http.StatusPartialContent {
			t.Errorf("the rest of %s: %d", path, got)
		}
	}
	before := e.cur(t).release.Date.UTC().Format(http.TimeFormat)
	e.clock.time = e.clock.time.Add(2 * time.Second)
	e.publish(t, upload(t, "9", pkg{version: "9"}.build(t)))
	do("GET", release)
	for _, path := range []string{index, release} {
		if got := do("GET", path, "If-Modified-Since", before).code; got != http.StatusOK {
			t.Errorf("%s of the next generation: %d", path, got)
		}
		if got := do("GET", path, "Range", "bytes=5-", "If-Range", before).code; got != http.StatusOK {
			t.Errorf("all of the next %s: %d", path, got)
		}
	}
	// Names as apt writes them, and as others do.
	for _, name := range []string{"odd_2+a~b_amd64.deb", "odd_2%2ba%7eb_amd64.deb"} {
		if res := do("GET", "/pool/bookworm/main/h/hello/"+name); res.code != http.StatusOK || res.header.Get("Content-Type") != "application/vnd.debian.binary-package" {
			t.Errorf("%s: %d, %v", name, res.code, res.header)
		}
	}
	if res := do("DELETE", release); res.code != http.StatusMethodNotAllowed || res.header.Get("Allow") != "GET, HEAD" {
		t.Errorf("DELETE: %d, %v", res.code, res.header)
	}
}
