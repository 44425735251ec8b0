package repo

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
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
