package deb

import (
	"fmt"
	"io"
	"strings"
)

// Field is one field of a paragraph.
//
// Value holds the first line without the blanks around it, then every
// continuation line after a newline, raw but for trailing white space: the
// leading blank and a lone dot are still there. A field whose text starts on
// the second line has a value that begins with a newline.
type Field struct{ Name, Value string }

// Paragraph is a deb822(5) paragraph: fields in the order of the document,
// each name at most once whatever its case.
type Paragraph struct{ Fields []Field }

// SyntaxError reports the place and the reason for which a document is
// refused. Line counts from 1 and is 0 where the text had no lines of its
// own; Field is empty outside of a field.
type SyntaxError struct {
	Line   int
	Field  string
	Reason string
}

func (e *SyntaxError) Error() string {
	var b strings.Builder
	if e.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", e.Line)
	}
	if e.Field != "" {
		fmt.Fprintf(&b, "field %.60q: ", e.Field)
	}
	b.WriteString(e.Reason)
	return b.String()
}

// Get returns the value of the field called name in any case, or "".
func (p *Paragraph) Get(name string) string {
	v, _ := p.Lookup(name)
	return v
}

// Lookup is Get that tells an empty field from an absent one.
func (p *Paragraph) Lookup(name string) (value string, ok bool) {
	if i := p.index(name); i >= 0 {
		return p.Fields[i].Value, true
	}
	return "", false
}

// Set replaces the value of a field in its place, or appends the field. The
// value has the form that [Field] describes; WriteTo checks it.
func (p *Paragraph) Set(name, value string) {
	if i := p.index(name); i >= 0 {
		p.Fields[i].Value = value
		return
	}
	p.Fields = append(p.Fields, Field{Name: name, Value: value})
}

// Del removes a field; removing an absent one does nothing.
func (p *Paragraph) Del(name string) {
	if i := p.index(name); i >= 0 {
		p.Fields = append(p.Fields[:i], p.Fields[i+1:]...)
	}
}

func (p *Paragraph) index(name string) int {
	for i := range p.Fields {
		if strings.EqualFold(p.Fields[i].Name, name) {
			return i
		}
	}
	return -1
}

// WriteTo prints the paragraph so that reading it again gives the same
// fields, without an empty line at the end. A value that would not read back
// as one field is refused before anything is written.
func (p *Paragraph) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	for _, f := range p.Fields {
		if err := checkField(f); err != nil {
			return 0, err
		}
		b.WriteString(f.Name)
		b.WriteByte(':')
		if f.Value != "" && f.Value[0] != '\n' {
			b.WriteByte(' ')
		}
		b.WriteString(f.Value)
		b.WriteByte('\n')
	}
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

func checkField(f Field) error {
	fail := func(reason string) error { return &SyntaxError{Field: f.Name, Reason: reason} }
	if reason := fieldNameProblem(f.Name); reason != "" {
		return fail(reason)
	}
	if strings.IndexByte(f.Value, 0) >= 0 || strings.IndexByte(f.Value, '\r') >= 0 {
		return fail("value holds a NUL byte or carriage return")
	}
	first, rest, more := strings.Cut(f.Value, "\n")
	if strings.TrimFunc(first, isSpace) != first {
		return fail("value has white space around it")
	}
	for more {
		var line string
		line, rest, more = strings.Cut(rest, "\n")
		if line == "" || (line[0] != ' ' && line[0] != '\t') {
			return fail("continuation line does not start with a blank")
		}
		if trimmed := strings.TrimRightFunc(line, isSpace); trimmed == "" {
			return fail("continuation line is blank")
		} else if trimmed != line {
			return fail("continuation line ends in white space")
		}
	}
	return nil
}

// fieldNameProblem applies Policy 5.1: printable US-ASCII but for space and
// colon, not starting with a number sign or a hyphen.
func fieldNameProblem(name string) string {
	if name == "" {
		return "field name is empty"
	}
	if name[0] == '-' || name[0] == '#' {
		return "field name starts with '-' or '#'"
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || c == ':' {
			return "field name holds a character that is not allowed"
		}
	}
	return ""
}

// isSpace reports whether dpkg's parser, in Perl's C locale, takes r for
// white space.
func isSpace(r rune) bool {
	return r == ' ' || r >= '\t' && r <= '\r'
}
