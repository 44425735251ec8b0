package buildenv

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
	"sync"
	"time"
)

// logWidth is the width of sbuild's boxes, borders included.
const logWidth = 80

// excerptLines is how much of the end of the log an error shows.
const excerptLines = 20

// Log is the build log: the bytes as the build printed them, in sbuild's shape,
// with a bound on its size. It is safe for concurrent use.
type Log struct {
	mu      sync.Mutex
	file    *os.File
	second  *os.File // the same log under sbuild's name, in the output directory
	live    io.Writer
	written int64
	limit   int64
	cut     bool
	tail    []byte
}

// tailBytes is how much of the end is held for the excerpt.
const tailBytes = 16 << 10

// newLog starts a log in file. live, if not nil, receives a copy as it comes.
func newLog(file *os.File, live io.Writer, limit int64) *Log {
	return &Log{file: file, live: live, limit: limit}
}

// Write appends build output. Past the limit the output is dropped and the log
// says so once; the build goes on.
func (l *Log) Write(p []byte) (int, error) { return l.write(p, false) }

// write appends output, or lines of dbuild's own, which are kept whatever the
// size: people and programs look for the summary.
func (l *Log) write(p []byte, own bool) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail = append(l.tail, p[max(0, len(p)-tailBytes):]...)
	l.tail = l.tail[max(0, len(l.tail)-tailBytes):]
	if l.live != nil {
		_, _ = l.live.Write(p) // a closed terminal does not end a build
	}
	if own {
		return len(p), l.put(p)
	}
	if l.cut {
		return len(p), nil
	}
	if l.limit > 0 && l.written+int64(len(p)) > l.limit {
		l.cut = true
		return len(p), l.put([]byte(fmt.Sprintf("\ndbuild: the log is larger than %d bytes; the rest is not kept\n", l.limit)))
	}
	return len(p), l.put(p)
}

func (l *Log) put(p []byte) error {
	n, err := l.file.Write(p)
	l.written += int64(n)
	if l.second != nil && err == nil {
		_, err = l.second.Write(p)
	}
	return err
}

// tee copies what was written so far to second and keeps both alike from now.
func (l *Log) tee(second *os.File) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := io.Copy(second, io.NewSectionReader(l.file, 0, l.written)); err != nil {
		return err
	}
	l.second = second
	return nil
}

// Printf writes a line of dbuild's own.
func (l *Log) Printf(format string, args ...any) {
	_, _ = l.write(fmt.Appendf(nil, format+"\n", args...), true)
}

// Title writes the double-ruled box that opens sbuild's log.
func (l *Log) Title(text string, at time.Time) { l.box("=", text, at) }

// Section writes the single-ruled box that opens a part of the log.
func (l *Log) Section(text string, at time.Time) { l.box("-", text, at) }

func (l *Log) box(rule, text string, at time.Time) {
	date := at.UTC().Format(time.RFC1123Z)
	room := logWidth - 4 - len(date) - 1
	if len(text) > room {
		text = text[:room]
	}
	line := "+" + strings.Repeat(rule, logWidth-2) + "+"
	l.Printf("\n%s\n| %-*s %s |\n%s\n", line, room, text, date, line)
}

// Fields writes "Key: value" lines; keys sorted when the map is given as is.
func (l *Log) Fields(fields map[string]string) {
	keys := make([]string, 0, len(fields))
	for k := range fields {
		if fields[k] != "" {
			keys = append(keys, k)
		}
	}
	sort.Strings(keys)
	for _, k := range keys {
		l.Printf("%s: %s", k, fields[k])
	}
}

// Excerpt returns the last lines with control characters escaped.
func (l *Log) Excerpt() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.tail) == 0 {
		return []string{}
	}
	lines := bytes.Split(bytes.TrimRight(l.tail, "\n"), []byte("\n"))
	if len(l.tail) == tailBytes {
		lines = lines[1:] // cut in the middle
	}
	lines = lines[max(0, len(lines)-excerptLines):]
	out := make([]string, 0, len(lines))
	for _, line := range lines {
		out = append(out, Printable(string(line)))
	}
	return out
}

// Close closes the files.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.file.Close()
	if l.second != nil {
		err = errors.Join(err, l.second.Close())
	}
	return err
}

// Printable makes untrusted text safe for a terminal: C0, DEL, C1 controls,
// bidirectional overrides and bytes that are not UTF-8 are shown escaped, tabs
// stay. The result holds no newline unless s did.
func Printable(s string) string {
	clean := true
	for i := 0; i < len(s) && clean; i++ {
		clean = s[i] >= ' ' && s[i] < 0x7f || s[i] == '\t' || s[i] == '\n'
	}
	if clean {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == '\t' || r == '\n':
			b.WriteRune(r)
		case r == 0xfffd && !strings.HasPrefix(s[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r >= 0x80 && r < 0xa0, r >= 0x200e && r <= 0x200f, r >= 0x2028 && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
