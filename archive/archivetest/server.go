package archivetest

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"dbuild/archive"
)

// Server serves an archive over HTTP on loopback. It answers ranges, and
// conditions if Validators is set.
type Server struct {
	*httptest.Server
	Archive *Archive

	mu         sync.Mutex
	validators bool
	faults     []*Fault
	requests   []*Request
}

// Request is a question that the server was asked.
type Request struct {
	Path   string // as sent: percent-encoded
	Header http.Header
	Status int // of the answer if one was given; 0: not, or 200 without a word
}

// Serve starts a server that ends with the test.
func (a *Archive) Serve(t testing.TB) *Server {
	s := &Server{Archive: a}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(func() {
		s.Server.CloseClientConnections() // hanging answers end with their connection
		s.Server.Close()
	})
	return s
}

// Validators makes the server send ETag and Last-Modified and honour
// conditions on them.
func (s *Server) Validators() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.validators = true
}

// Source returns the source of a suite of the archive, main for no components.
func (s *Server) Source(suite string, components ...string) archive.Source {
	if len(components) == 0 {
		components = []string{"main"}
	}
	shape := s.Archive.suite(suite)
	src := archive.Source{
		URL:        s.URL,
		Suite:      shape.Name,
		Codename:   shape.Codename,
		Components: components,
		Keyrings:   []string{s.Archive.Keyring()},
		Flat:       shape.Flat,
		Extra:      shape.Flat || shape.Detached,
	}
	if src.Flat {
		src.Codename, src.Components = "", nil
	}
	return src
}

// Requests returns what was asked so far whose path contains part.
func (s *Server) Requests(part string) []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	var some []Request
	for _, r := range s.requests {
		if strings.Contains(r.Path, part) {
			some = append(some, *r)
		}
	}
	return some
}

// ClearRequests forgets them.
func (s *Server) ClearRequests() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = nil
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	rec := &recorder{ResponseWriter: w}
	s.mu.Lock()
	request := &Request{Path: r.URL.EscapedPath(), Header: r.Header.Clone()}
	s.requests = append(s.requests, request)
	s.mu.Unlock()
	rec.note = func(status int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		request.Status = status
	}
	name := path.Clean(strings.TrimPrefix(r.URL.Path, "/"))
	data := s.Archive.Get(name)
	if f := s.takeFault(name); f != nil && f.serve(rec, r, data) {
		return
	}
	if data == nil {
		http.Error(rec, "no such file", http.StatusNotFound)
		return
	}
	s.mu.Lock()
	validators := s.validators
	s.mu.Unlock()
	modified := time.Time{}
	if validators {
		modified = Epoch
		rec.Header().Set("ETag", `"`+SHA256(data)[:16]+`"`)
	}
	rec.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(rec, r, "", modified, bytes.NewReader(data))
}

// recorder tells the status.
type recorder struct {
	http.ResponseWriter
	note func(status int)
}

func (r *recorder) WriteHeader(status int) {
	r.note(status)
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap lets [http.ResponseController] reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
