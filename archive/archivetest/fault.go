package archivetest

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Fault is something that goes wrong with an answer. Of the fields that say
// what happens, those of one line below go together with Delay and Header only.
type Fault struct {
	Path  string // the fault is for paths that contain this; "": for all
	Skip  int    // let so many such requests pass first
	Times int    // how often; 0: always

	Delay  time.Duration // before the answer
	Header http.Header   // added to the answer

	Status     int           // answer with this status and no file
	Redirect   string        // answer 302 to this, as it is
	HTML       bool          // answer 200 with a web page
	Body       []byte        // answer 200 with this
	Flip       bool          // the last byte is another
	Truncate   int           // announce all, send so many bytes, hang up; -1: none
	Short      int           // announce and send so many bytes only
	Extra      int           // so many bytes more, not announced beforehand
	Endless    bool          // zero bytes without end
	Hang       bool          // accept, never answer
	Drip       time.Duration // one byte, pause, one byte, …
	WrongRange bool          // answer a range with another range
	NoRange    bool          // answer a range with the whole file
	Reset      bool          // break the connection without an answer
}

// Fault adds a fault. The one added last is asked first.
func (s *Server) Fault(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.Times == 0 {
		f.Times = -1
	}
	s.faults = slices.Insert(s.faults, 0, &f)
}

// ClearFaults makes the server well again.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// takeFault returns the fault that is due for a request, nil for none.
func (s *Server) takeFault(name string) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.faults {
		if !strings.Contains(name, f.Path) || f.Times == 0 {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		if f.Times > 0 {
			f.Times--
		}
		return f
	}
	return nil
}

// serve answers in the fault's way and says whether that was all.
func (f *Fault) serve(w http.ResponseWriter, r *http.Request, data []byte) (done bool) {
	if f.Delay > 0 {
		select {
		case <-time.After(f.Delay):
		case <-r.Context().Done():
			return true
		}
	}
	for name, values := range f.Header {
		w.Header()[name] = values
	}
	switch {
	case f.Reset:
		panic(http.ErrAbortHandler)
	case f.Hang:
		<-r.Context().Done()
	case f.Redirect != "":
		w.Header()["Location"] = []string{f.Redirect}
		w.WriteHeader(http.StatusFound)
	case f.Status != 0:
		w.WriteHeader(f.Status)
	case f.HTML:
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<!DOCTYPE html>\n<html><body>Please log in.</body></html>\n")
	case f.Body != nil:
		send(w, f.Body)
	case f.WrongRange && r.Header.Get("Range") != "":
		w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(data)-1, len(data)))
		w.WriteHeader(http.StatusPartialContent)
		send(w, data)
	case f.NoRange:
		send(w, data)
	default:
		return f.spoil(w, r, data)
	}
	return true
}

// spoil sends the file, but not quite.
func (f *Fault) spoil(w http.ResponseWriter, r *http.Request, data []byte) (done bool) {
	switch {
	case data == nil:
		return false
	case f.Flip:
		data = bytes.Clone(data)
		data[len(data)-1] ^= 1
		send(w, data)
	case f.Truncate != 0:
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		send(w, data[:min(max(f.Truncate, 0), len(data))])
		panic(http.ErrAbortHandler)
	case f.Short > 0:
		w.Header().Set("Content-Length", strconv.Itoa(f.Short))
		send(w, data[:f.Short])
	case f.Extra > 0:
		send(w, data)
		send(w, make([]byte, f.Extra))
	case f.Endless:
		for send(w, make([]byte, 64<<10)) && r.Context().Err() == nil {
		}
	case f.Drip > 0:
		for i := range data {
			if !send(w, data[i:i+1]) {
				return true
			}
			select {
			case <-time.After(f.Drip):
			case <-r.Context().Done():
				return true
			}
		}
	default:
		return false
	}
	return true
}

// send writes and flushes, and says whether the client still listens.
func send(w http.ResponseWriter, data []byte) bool {
	if _, err := w.Write(data); err != nil {
		return false
	}
	return http.NewResponseController(w).Flush() == nil
}
