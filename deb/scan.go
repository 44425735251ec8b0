package deb

import (
	"bytes"
	"errors"
	"io"
)

// maxStanza bounds one stanza of an index, in bytes. The largest in the
// Debian archive has some hundred kilobytes.
const maxStanza = 4 << 20

// ScanStanzas calls fn for every stanza of an index with its text, from the
// first field to the newline that ends the last one, and the offset of that
// text in bytes. The slice is valid only during the call. Nothing but the
// empty lines between stanzas is looked at, and memory does not grow with
// the index. An error of fn ends the scan and is returned as it is.
func ScanStanzas(r io.Reader, fn func(stanza []byte, offset int64) error) error {
	s := stanzaScanner{r: r, buf: make([]byte, 256<<10)}
	for {
		stanza, offset, err := s.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := fn(stanza, offset); err != nil {
			return err
		}
	}
}

// stanzaScanner keeps buf[start:end] as the bytes read and not yet handed
// out; base is the offset of buf[0] in the input.
type stanzaScanner struct {
	r          io.Reader
	buf        []byte
	start, end int
	base       int64
	readErr    error
}

func (s *stanzaScanner) next() ([]byte, int64, error) {
	searched := 0 // bytes after start that hold no separator
	for {
		if searched == 0 {
			s.skipNewlines()
		}
		have := s.buf[s.start:s.end]
		if i := bytes.Index(have[searched:], []byte("\n\n")); i >= 0 {
			n := searched + i + 1
			offset := s.base + int64(s.start)
			s.start += n + 1
			return have[:n], offset, nil
		}
		if s.readErr != nil {
			return s.last(have)
		}
		searched = max(len(have)-1, 0)
		if err := s.fill(); err != nil {
			return nil, 0, err
		}
	}
}

// last hands out what stands before the end of the input.
func (s *stanzaScanner) last(have []byte) ([]byte, int64, error) {
	if !errors.Is(s.readErr, io.EOF) {
		return nil, 0, s.readErr
	}
	if len(have) == 0 {
		return nil, 0, io.EOF
	}
	offset := s.base + int64(s.start)
	s.start = s.end
	return have, offset, nil
}

func (s *stanzaScanner) skipNewlines() {
	for s.start < s.end && s.buf[s.start] == '\n' {
		s.start++
	}
}

// fill reads more, first moving the unread bytes to the front and, if they
// take the whole buffer, growing it up to the limit of a stanza.
func (s *stanzaScanner) fill() error {
	if s.start > 0 {
		copy(s.buf, s.buf[s.start:s.end])
		s.base += int64(s.start)
		s.end -= s.start
		s.start = 0
	}
	if s.end == len(s.buf) {
		if len(s.buf) >= maxStanza {
			return &LimitError{What: "stanza", Limit: maxStanza}
		}
		s.buf = append(s.buf, make([]byte, len(s.buf))...)
	}
	n, err := s.r.Read(s.buf[s.end:])
	s.end += n
	s.readErr = err
	if n == 0 && err == nil {
		s.readErr = io.ErrNoProgress
	}
	return nil
}

// StanzaField returns the first line of a field without parsing the rest of
// the stanza, or "". It checks nothing: use it to find the stanza that is
// then read in full.
func StanzaField(stanza []byte, name string) string {
	for len(stanza) > 0 {
		line := stanza
		if i := bytes.IndexByte(stanza, '\n'); i >= 0 {
			line, stanza = stanza[:i], stanza[i+1:]
		} else {
			stanza = nil
		}
		if len(line) <= len(name) || line[len(name)] != ':' {
			continue
		}
		if bytes.EqualFold(line[:len(name)], []byte(name)) {
			return string(bytes.TrimFunc(line[len(name)+1:], isSpace))
		}
	}
	return ""
}
