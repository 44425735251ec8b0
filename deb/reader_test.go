package deb

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// readAll returns every paragraph up to the end or the first error.
func readAll(r *Reader) ([]*Paragraph, error) {
	var all []*Paragraph
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, p)
	}
}

func paragraph(pairs ...string) *Paragraph {
	p := &Paragraph{}
	for i := 0; i < len(pairs); i += 2 {
		p.Fields = append(p.Fields, Field{Name: pairs[i], Value: pairs[i+1]})
	}
	return p
}

// acceptedDocuments are also the seeds of FuzzDeb822 and the input of the
// comparison with dpkg.
var acceptedDocuments = []struct {
	name string
	in   string
	want []*Paragraph
}{
	{"empty", "", nil},
	{"newlines only", "\n\n\n", nil},
	{"one field", "A: b\n", []*Paragraph{paragraph("A", "b")}},
	{"no final newline", "A: b", []*Paragraph{paragraph("A", "b")}},
	{"no blank after the colon", "A:b\n", []*Paragraph{paragraph("A", "b")}},
	{"blanks around the value", "A: \t b c \t\n", []*Paragraph{paragraph("A", "b c")}},
	{"colon in the value", "A: b:c: d\n", []*Paragraph{paragraph("A", "b:c: d")}},
	{"empty value", "A:\nB: c\n", []*Paragraph{paragraph("A", "", "B", "c")}},
	{"continuation", "A: b\n c\n .\n  d \n", []*Paragraph{paragraph("A", "b\n c\n .\n  d")}},
	{"value on the second line", "A:\n b\n\tc\n", []*Paragraph{paragraph("A", "\n b\n\tc")}},
	{"two paragraphs", "A: 1\n\n\nA: 2\n\n", []*Paragraph{paragraph("A", "1"), paragraph("A", "2")}},
	{"odd but valid names", "!: a\nX~|}: b\n", []*Paragraph{paragraph("!", "a", "X~|}", "b")}},
	{"carriage returns at line ends", "A: b\r\n c\r\n\r\nD: e\r\n",
		[]*Paragraph{paragraph("A", "b\n c"), paragraph("D", "e")}},
	{"not UTF-8", "A: \xff\xfe\n", []*Paragraph{paragraph("A", "\xff\xfe")}},
	{"number sign in a continuation", "A: b\n # c\n", []*Paragraph{paragraph("A", "b\n # c")}},
}

func TestReaderAccepts(t *testing.T) {
	for _, tc := range acceptedDocuments {
		t.Run(tc.name, func(t *testing.T) {
			got, err := readAll(NewReader(strings.NewReader(tc.in), Limits{}))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			slow, err := readAll(NewReader(iotest.OneByteReader(strings.NewReader(tc.in)), Limits{}))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, slow); diff != "" {
				t.Errorf("byte by byte: %s", diff)
			}
		})
	}
}

var refusedDocuments = []struct {
	name string
	in   string
	line int
}{
	{"no colon", "A: b\njunk\n", 2},
	{"continuation first", " a\nB: c\n", 1},
	{"continuation after an empty line", "A: b\n\n c\n", 3},
	{"duplicate field", "A: b\nB: c\nA: d\n", 3},
	{"duplicate field in another case", "Size: 1\nsize: 2\n", 2},
	{"empty name", ": b\n", 1},
	{"name with a blank", "A B: c\n", 1},
	{"blank before the colon", "A : b\n", 1},
	{"name starts with a hyphen", "-A: b\n", 1},
	{"comment", "# a\nB: c\n", 1},
	{"comment inside", "A: b\n# c: d\n e\n", 2},
	{"name not ASCII", "\u00c4: b\n", 1},
	{"name with a control character", "A\x1bB: c\n", 1},
	{"NUL in a value", "A: b\x00c\n", 1},
	{"NUL in a continuation", "A: b\n c\x00\n", 2},
	{"carriage return inside", "A: b\rB: c\n", 1},
	{"line of blanks between paragraphs", "A: b\n \nC: d\n", 2},
	{"line of blanks in a value", "A: b\n c\n\t \n d\n", 3},
	{"line of form feed", "A: b\n\f\nC: d\n", 2},
	{"armor", "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\nA: b\n", 1},
	{"byte order mark", "\ufeffA: b\n", 1},
}

func TestReaderRefuses(t *testing.T) {
	for _, tc := range refusedDocuments {
		t.Run(tc.name, func(t *testing.T) {
			r := NewReader(strings.NewReader(tc.in), Limits{})
			_, err := readAll(r)
			var syntax *SyntaxError
			if !errors.As(err, &syntax) {
				t.Fatalf("error %v, want a SyntaxError", err)
			}
			if syntax.Line != tc.line {
				t.Errorf("line %d, want %d (%v)", syntax.Line, tc.line, err)
			}
			if _, again := r.Next(); again != err {
				t.Errorf("next call returns %v, want the same error", again)
			}
		})
	}
}

func TestControlReader(t *testing.T) {
	in := "# head\n\nSource : hello\n# inside\nBuild-Depends: a,\n# between\n b\n \t\n#last\nPackage: hello\n"
	got, err := readAll(NewControlReader(strings.NewReader(in), Limits{}))
	if err != nil {
		t.Fatal(err)
	}
	want := []*Paragraph{
		paragraph("Source", "hello", "Build-Depends", "a,\n b"),
		paragraph("Package", "hello"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got, err = readAll(NewControlReader(strings.NewReader("# only\n# comments\n"), Limits{})); err != nil || got != nil {
		t.Errorf("only comments: %v, %v", got, err)
	}
}

func TestReaderLimits(t *testing.T) {
	many := strings.Repeat("x", 500)
	names := func(n int) string {
		var b strings.Builder
		for i := range n {
			b.WriteString("F" + strings.Repeat("i", i) + ":\n")
		}
		return b.String()
	}
	for _, tc := range []struct {
		name string
		in   string
		lim  Limits
		ok   bool
	}{
		{"document of the limit", "A: b\n", Limits{Document: 5}, true},
		{"document past the limit", "A: b\n", Limits{Document: 4}, false},
		{"field of the limit", "A: " + many, Limits{Field: 501}, true},
		{"field past the limit", "A: " + many, Limits{Field: 500}, false},
		{"continuation past the limit", "A:\n " + many + "\n " + many, Limits{Field: 900}, false},
		{"fields of the limit", names(100), Limits{Fields: 100}, true},
		{"fields past the limit", names(101), Limits{Fields: 100}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := readAll(NewReader(strings.NewReader(tc.in), tc.lim))
			var limit *LimitError
			if got := errors.As(err, &limit); got == tc.ok || tc.ok && err != nil {
				t.Errorf("error %v", err)
			}
		})
	}
}

// endless repeats a pattern for ever.
type endless struct{ pattern []byte }

func (e endless) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		n += copy(p[n:], e.pattern)
	}
	return n, nil
}

func TestReaderStopsOnEndlessInput(t *testing.T) {
	lim := Limits{Document: 1 << 20, Field: 1 << 18}
	for _, pattern := range []string{"a", "\n", "A: b\n\n", "# c\n", "A:", " x\n"} {
		in := io.MultiReader(strings.NewReader("A: b\n"), endless{[]byte(pattern)})
		if _, err := readAll(NewControlReader(in, lim)); err == nil {
			t.Errorf("endless %q is accepted", pattern)
		}
	}
}

func TestReaderReturnsReadErrors(t *testing.T) {
	broken := errors.New("broken")
	_, err := readAll(NewReader(io.MultiReader(strings.NewReader("A: b\n"), iotest.ErrReader(broken)), Limits{}))
	if !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
}

func TestParseParagraph(t *testing.T) {
	if p, err := ParseParagraph([]byte("\nA: b\n\n"), Limits{}); err != nil || p.Get("a") != "b" {
		t.Errorf("got %v, %v", p, err)
	}
	for _, in := range []string{"", "\n", "A: b\n\nC: d\n", "A: b\n\njunk\n"} {
		if p, err := ParseParagraph([]byte(in), Limits{}); err == nil {
			t.Errorf("%q is read as %v", in, p)
		}
	}
}

func TestParagraphFields(t *testing.T) {
	p := paragraph("A", "1", "B", "")
	if v, ok := p.Lookup("b"); v != "" || !ok {
		t.Errorf("Lookup of an empty field: %q, %v", v, ok)
	}
	if _, ok := p.Lookup("c"); ok {
		t.Error("Lookup finds an absent field")
	}
	p.Set("a", "2")
	p.Set("C", "3")
	p.Del("B")
	p.Del("absent")
	if diff := cmp.Diff(paragraph("A", "2", "C", "3"), p); diff != "" {
		t.Error(diff)
	}
}

func TestWriteToRefusesWhatWouldNotReadBack(t *testing.T) {
	for _, f := range []Field{
		{"", "a"}, {"A B", "a"}, {"-A", "a"}, {"#A", "a"}, {"A:", "a"},
		{"A", "b\nC: d"}, {"A", "b\n"}, {"A", "b\n "}, {"A", "b\n\n c"}, {"A", " b"},
		{"A", "b "}, {"A", "b\x00"}, {"A", "b\rc"}, {"A", "b\n c "},
	} {
		var out bytes.Buffer
		p := &Paragraph{Fields: []Field{{"Good", "1"}, f}}
		if n, err := p.WriteTo(&out); err == nil || n != 0 || out.Len() != 0 {
			t.Errorf("%q: wrote %q, error %v", f, out.String(), err)
		}
	}
}
