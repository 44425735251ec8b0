package docker

import (
	"errors"
	"io"
	"os"
	"testing"

	"dbuild/engine"
)

func TestReadProgram(t *testing.T) {
	for path, is := range map[string]error{"/proc/self/exe": nil, "/bin/sh": engine.ErrUnsupported} {
		data, err := readProgram(func() (io.ReadCloser, error) { return os.Open(path) })
		if !errors.Is(err, is) || err == nil && len(data) == 0 {
			t.Errorf("%s: %d bytes, %v, want %v", path, len(data), err, is)
		}
	}
}
