package repo

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The times after which connections end that only keep a place.
const (
	readHeaderTimeout = 30 * time.Second
	idleTimeout       = 5 * time.Minute
)

// Server returns an HTTP server of the repository; the caller sets its address
// or calls Serve with a listener. It answers GET and HEAD, ranges and
// If-Modified-Since among them, and shows no directory.
//
// A client that asks for a suite's InRelease or Release is given the indexes of
// just that generation for as long as its connection lasts, so that one which
// asks for them by name, and not by hash, finds the bytes that it was promised
// while the suite goes on. A web server that only has the files cannot do that.
func (r *Repo) Server() *http.Server {
	return &http.Server{
		Handler:           r.handler(),
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, pinsKey{}, &pins{targets: map[string]string{}})
		},
	}
}

// pins are the generations that a connection's client has begun to read, by
// suite.
type pins struct {
	mu      sync.Mutex
	targets map[string]string
}

type pinsKey struct{}

// handler serves the files of the repository.
func (r *Repo) handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodGet && req.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
			return
		}
		rel := path.Clean("/" + req.URL.Path)[1:]
		if !public(rel) {
			http.NotFound(w, req)
			return
		}
		file := r.pinned(req.Context(), rel)
		f, fi, err := openRegular(r.path(file))
		if err != nil {
			http.NotFound(w, req)
			return
		}
		defer f.Close()
		w.Header().Set("Cache-Control", cacheControl(rel))
		w.Header().Set("Content-Type", contentType(rel))
		http.ServeContent(w, req, "", r.modified(file, fi), f)
	})
}

// openRegular opens a file that has bytes to serve. A named pipe, which would be
// waited for, is none.
func openRegular(path string) (*os.File, os.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fs.ErrInvalid
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, fi, nil
}

// modified is when a file last changed under its name: an index, when its
// generation came. Two indexes of different generations may have been written in
// the same second, and a client that asks by time would keep the older.
func (r *Repo) modified(file string, fi os.FileInfo) time.Time {
	parts := strings.SplitN(file, "/", 3)
	if parts[0] == "dists" && len(parts) == 3 && !strings.Contains(file, "/by-hash/") {
		if release, err := os.Stat(r.path(path.Join(parts[0], parts[1], "InRelease"))); err == nil {
			return release.ModTime()
		}
	}
	return fi.ModTime()
}

// contentType is what a file is, without looking into it; nothing is decoded on
// the way.
func contentType(rel string) string {
	switch path.Ext(rel) {
	case ".deb", ".udeb":
		return "application/vnd.debian.binary-package"
	case ".gz":
		return "application/gzip"
	case ".xz":
		return "application/x-xz"
	case ".zst":
		return "application/zstd"
	case "", ".asc", ".gpg", ".dsc":
		if !strings.Contains(rel, "/by-hash/") {
			return "text/plain; charset=utf-8"
		}
	}
	return "application/octet-stream"
}

// public tells whether a path is one that clients may ask for: below dists or
// pool and not hidden, or the key.
func public(rel string) bool {
	top, rest, _ := strings.Cut(rel, "/")
	return rel == "key.asc" || (top == "dists" || top == "pool") && !strings.HasPrefix(rest, ".") && !strings.Contains(rest, "/.")
}

// pinned replaces the link of a suite by the generation that a connection has
// begun to read; a Release file begins anew.
func (r *Repo) pinned(ctx context.Context, rel string) string {
	rest, ok := strings.CutPrefix(rel, "dists/")
	if !ok {
		return rel
	}
	suite, file, _ := strings.Cut(rest, "/")
	p, ok := ctx.Value(pinsKey{}).(*pins)
	if !ok {
		return rel
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	target := p.targets[suite]
	if begins := file == "InRelease" || file == "Release"; begins || target == "" {
		link, err := os.Readlink(r.path(path.Join("dists", suite)))
		if _, ok := generationNumber(suite, link); err != nil || !ok {
			return rel
		}
		target = link
		if begins {
			p.targets[suite] = target
		}
	}
	return path.Join("dists", target, file)
}

// cacheControl lets proxies keep what never changes under its name.
func cacheControl(rel string) string {
	if strings.Contains(rel, "/by-hash/") || strings.HasPrefix(rel, "pool/") {
		return "public, max-age=86400"
	}
	return "no-cache"
}
