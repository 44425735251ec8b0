package dsc

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// maxDiffLine bounds a line of a .diff.gz, in bytes.
const maxDiffLine = 1 << 20

// readDiff looks for files that a .diff.gz creates, which in a format 1.0
// package is the whole debian directory. Files that it changes are passed over.
func (d *debianFiles) readDiff(r io.Reader) error {
	in := bufio.NewScanner(r)
	in.Buffer(nil, maxDiffLine)
	name := ""
	for in.Scan() {
		line := in.Text()
		if path, ok := strings.CutPrefix(line, "+++ "); ok {
			path, _, _ = strings.Cut(path, "\t")
			name = below(path, 1)
			continue
		}
		n, ok := createdLines(line)
		if !ok {
			continue
		}
		text, err := addedText(in, n)
		if err != nil {
			return err
		}
		if err := d.take(name, bytes.NewReader(text)); err != nil || d.complete() {
			return err
		}
	}
	if errors.Is(in.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("diff has a line longer than %d bytes", maxDiffLine)
	}
	return in.Err()
}

// createdLines reads the header of the hunk that creates a file: "@@ -0,0
// +1,N @@", where N is left out if it is 1.
func createdLines(line string) (int, bool) {
	rest, ok := strings.CutPrefix(line, "@@ -0,0 +1")
	if !ok {
		return 0, false
	}
	count, _, ok := strings.Cut(rest, " @@")
	if !ok || count == "" {
		return 1, ok
	}
	n, err := strconv.Atoi(strings.TrimPrefix(count, ","))
	return n, err == nil && n > 0
}

// addedText reads n lines of a hunk that only adds.
func addedText(in *bufio.Scanner, n int) ([]byte, error) {
	var text []byte
	for range n {
		if !in.Scan() {
			return nil, errors.Join(in.Err(), errors.New("diff ends within a hunk"))
		}
		line, ok := bytes.CutPrefix(in.Bytes(), []byte{'+'})
		if !ok || len(text) > maxChangelog {
			return nil, errors.New("diff has a malformed or too large hunk")
		}
		text = append(append(text, line...), '\n')
	}
	return text, nil
}
