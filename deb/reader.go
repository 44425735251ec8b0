package deb

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
)

// Reader reads the paragraphs of a deb822(5) document one at a time. Its
// memory is bounded by Limits.Field times Limits.Fields in the worst case,
// and by Limits.Document in all.
//
// Where dpkg's two parsers and apt's disagree about a line, the Reader
// refuses it: a line of white space only (an empty line for one, an error
// for the other, a continuation for the third), a field given twice, white
// space before the colon, a NUL byte, a carriage return inside of a line.
// White space at the end of a line is dropped, as all of them do.
type Reader struct {
	in          *bufio.Reader
	lim         Limits
	handwritten bool

	line int
	long []byte // scratch for lines longer than the buffer of in
	err  error  // what every later call returns

	cur parsing
}

// NewReader returns a Reader for documents that programs write: .dsc,
// .changes, indexes, a binary package's control file.
func NewReader(r io.Reader, lim Limits) *Reader {
	return newReader(r, lim, 64<<10)
}

func newReader(r io.Reader, lim Limits, buffer int) *Reader {
	lim = lim.orDefault()
	return &Reader{
		in:  bufio.NewReaderSize(newBoundedReader(r, lim.Document, "document"), buffer),
		lim: lim,
	}
}

// NewControlReader returns a Reader for what people write by hand, a source
// package's debian/control and debian/tests/control: comment lines are
// skipped, lines of white space only separate paragraphs (Policy 5.1), and
// white space may stand before a colon.
func NewControlReader(r io.Reader, lim Limits) *Reader {
	d := NewReader(r, lim)
	d.handwritten = true
	return d
}

// ParseParagraph reads a document of exactly one paragraph. Empty lines
// around it are allowed.
func ParseParagraph(b []byte, lim Limits) (*Paragraph, error) {
	r := newReader(bytes.NewReader(b), lim, min(len(b)+1, 64<<10))
	p, err := r.Next()
	if errors.Is(err, io.EOF) {
		return nil, &SyntaxError{Reason: "document has no paragraph"}
	}
	if err != nil {
		return nil, err
	}
	if _, err := r.Next(); err == nil {
		return nil, &SyntaxError{Line: r.line, Reason: "document has more than one paragraph"}
	} else if !errors.Is(err, io.EOF) {
		return nil, err
	}
	return p, nil
}

// Next returns the next paragraph, or io.EOF after the last. Any other
// error is final: later calls return it again.
func (r *Reader) Next() (*Paragraph, error) {
	if r.err != nil {
		return nil, r.err
	}
	p, err := r.next()
	r.err = err
	if p == nil {
		return nil, err
	}
	// A paragraph that the end of the document closes is handed out first.
	return p, nil
}

func (r *Reader) next() (*Paragraph, error) {
	r.cur = parsing{lim: r.lim}
	for {
		line, err := r.readLine()
		if errors.Is(err, io.EOF) {
			return r.cur.finish(), io.EOF
		}
		if err != nil {
			return nil, err
		}
		if r.handwritten && len(line) > 0 && line[0] == '#' {
			continue
		}
		trimmed := trimRight(line)
		if len(trimmed) == 0 {
			if len(bytes.TrimRight(line, "\r")) > 0 && !r.handwritten {
				return nil, r.fail("line of white space only")
			}
			if p := r.cur.finish(); p != nil {
				return p, nil
			}
			continue
		}
		if reason, err := r.cur.addLine(trimmed, r.handwritten); err != nil {
			return nil, err
		} else if reason != "" {
			return nil, r.fail(reason)
		}
	}
}

func (r *Reader) fail(reason string) error {
	return &SyntaxError{Line: r.line, Field: r.cur.name, Reason: reason}
}

// readLine returns the next line without its newline, or io.EOF when nothing
// is left. The last line may lack the newline: the text of a clearsigned
// document ends so. The slice is valid until the next call.
func (r *Reader) readLine() ([]byte, error) {
	line, err := r.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		r.long = r.long[:0]
		for errors.Is(err, bufio.ErrBufferFull) {
			if r.long = append(r.long, line...); int64(len(r.long)) > r.lim.Field {
				return nil, &LimitError{What: "line", Limit: r.lim.Field}
			}
			line, err = r.in.ReadSlice('\n')
		}
		r.long = append(r.long, line...)
		line = r.long
	}
	if err != nil && !(errors.Is(err, io.EOF) && len(line) > 0) {
		return nil, err
	}
	r.line++
	line = bytes.TrimSuffix(line, []byte("\n"))
	if bytes.IndexByte(line, 0) >= 0 {
		return nil, &SyntaxError{Line: r.line, Reason: "NUL byte"}
	}
	if i := bytes.IndexByte(line, '\r'); i >= 0 && i != len(line)-1 {
		return nil, &SyntaxError{Line: r.line, Reason: "carriage return inside of a line"}
	}
	return line, nil
}

// trimRight drops white space at the end; it runs for every line of every
// index.
func trimRight(line []byte) []byte {
	n := len(line)
	for n > 0 && isSpace(rune(line[n-1])) {
		n--
	}
	return line[:n]
}

// parsing is the paragraph under construction.
type parsing struct {
	lim    Limits
	fields []Field
	seen   map[string]struct{} // lower-case names, once there are many
	name   string              // the field being read, "" before the first
	value  []byte
}

// addLine takes a line that is neither empty nor a comment, without trailing
// white space. It returns the reason for which the line is malformed.
func (s *parsing) addLine(line []byte, handwritten bool) (reason string, err error) {
	if line[0] == ' ' || line[0] == '\t' {
		if s.name == "" {
			return "continuation line before any field", nil
		}
		s.value = append(append(s.value, '\n'), line...)
		return "", s.checkSize()
	}
	s.flush()
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok {
		return "line is neither a field nor a continuation", nil
	}
	if handwritten {
		name = bytes.TrimRight(name, " \t")
	}
	s.name = string(name)
	if reason := fieldNameProblem(s.name); reason != "" {
		return reason, nil
	}
	if s.duplicate() {
		return "field is given twice", nil
	}
	if len(s.fields) >= s.lim.Fields {
		return "", &LimitError{What: "fields of a paragraph", Limit: int64(s.lim.Fields)}
	}
	s.value = append(s.value, bytes.TrimLeftFunc(value, isSpace)...)
	return "", s.checkSize()
}

func (s *parsing) checkSize() error {
	if int64(len(s.name)+len(s.value)) > s.lim.Field {
		return &LimitError{What: "field " + s.name, Limit: s.lim.Field}
	}
	return nil
}

// duplicate looks names up in a map once a paragraph is larger than usual,
// so that hostile paragraphs do not cost quadratic time.
func (s *parsing) duplicate() bool {
	const few = 32
	if len(s.fields) < few {
		for i := range s.fields {
			if strings.EqualFold(s.fields[i].Name, s.name) {
				return true
			}
		}
		return false
	}
	if s.seen == nil {
		s.seen = make(map[string]struct{}, 4*few)
		for _, f := range s.fields {
			s.seen[strings.ToLower(f.Name)] = struct{}{}
		}
	}
	key := strings.ToLower(s.name)
	_, ok := s.seen[key]
	s.seen[key] = struct{}{}
	return ok
}

func (s *parsing) flush() {
	if s.name == "" {
		return
	}
	if s.fields == nil {
		s.fields = make([]Field, 0, 24) // a common stanza of an index
	}
	s.fields = append(s.fields, Field{Name: s.name, Value: string(s.value)})
	s.name, s.value = "", s.value[:0]
}

// finish returns the paragraph, or nil if it has no fields.
func (s *parsing) finish() *Paragraph {
	s.flush()
	if len(s.fields) == 0 {
		return nil
	}
	return &Paragraph{Fields: s.fields}
}
