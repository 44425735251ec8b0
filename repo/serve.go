package repo

import (
	"context"
	"net"
	"net/http"
	"os"
	"path"
	"strings"
	"sync"
	"time"
)

// readHeaderTimeout ends connections that only keep a place.
const readHeaderTimeout = 30 * time.Second

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
	files := http.FileServerFS(os.DirFS(r.dir))
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodGet && req.Method != http.MethodHead {
			http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
			return
		}
		clean := path.Clean("/" + req.URL.Path)
		rel := clean[1:]
		if !public(rel) {
			http.NotFound(w, req)
			return
		}
		file := r.pinned(req.Context(), rel)
		if fi, err := os.Stat(r.path(file)); err != nil || !fi.Mode().IsRegular() {
			http.NotFound(w, req)
			return
		}
		w.Header().Set("Cache-Control", cacheControl(rel))
		inner := req.Clone(req.Context())
		inner.URL.Path = "/" + file
		files.ServeHTTP(w, inner)
	})
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
