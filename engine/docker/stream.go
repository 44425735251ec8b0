package docker

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/moby/moby/client"
)

// stream is the attached standard input and output of a container as one
// connection. Standard error is kept aside as the agent's last words.
type stream struct {
	attached client.HijackedResponse
	left     uint32 // of the current piece of standard output

	mu    sync.Mutex
	words []byte
}

// The daemon's pieces; see the API's description of attach.
const (
	pieceHead   = 8
	pieceStdout = 1
	pieceStderr = 2
	maxWords    = 2000
)

// Read returns standard output.
func (s *stream) Read(p []byte) (int, error) {
	for s.left == 0 {
		var head [pieceHead]byte
		if _, err := io.ReadFull(s.attached.Reader, head[:]); err != nil {
			return 0, err
		}
		size := binary.BigEndian.Uint32(head[4:])
		switch head[0] {
		case pieceStdout:
			s.left = size
		case pieceStderr:
			if err := s.listen(int64(size)); err != nil {
				return 0, err
			}
		default:
			return 0, fmt.Errorf("attached stream: piece of type %d", head[0])
		}
	}
	n, err := s.attached.Reader.Read(p[:min(uint64(len(p)), uint64(s.left))])
	s.left -= uint32(n)
	return n, err
}

// listen keeps the beginning of what the agent complains about.
func (s *stream) listen(size int64) error {
	var text strings.Builder
	if _, err := io.Copy(&text, io.LimitReader(s.attached.Reader, size)); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.words = append(s.words, text.String()[:min(text.Len(), maxWords-len(s.words))]...)
	return nil
}

// lastWords returns what the agent said on standard error, on one line.
func (s *stream) lastWords() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.ReplaceAll(strings.TrimSpace(string(s.words)), "\n", " | ")
}

// Write sends to standard input.
func (s *stream) Write(p []byte) (int, error) { return s.attached.Conn.Write(p) }

// Close ends the connection; the daemon closes the agent's standard input.
func (s *stream) Close() error { return s.attached.Conn.Close() }
