package deb

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

// dpkgParagraph asks Dpkg::Control for the first paragraph of each document:
// "refused", or its fields as name and value in hexadecimal.
const dpkgParagraph = `use Dpkg::Control; binmode STDIN; $SIG{__WARN__} = sub {};
while (<STDIN>) {
	chomp; my $doc = pack 'H*', $_;
	open my $fh, '<', \$doc or die;
	my $c = Dpkg::Control->new(type => CTRL_UNKNOWN, allow_pgp => 0);
	my $ok = eval { $c->parse($fh, 'doc'); 1 };
	print $ok ? join(' ', map { unpack('H*', $_) . '=' . unpack('H*', $c->{$_}) } keys %$c) : 'refused', "\n";
}`

// TestReaderWithDpkg holds that a document which is accepted here is read by
// dpkg in the same way, on all documents of the tests.
func TestReaderWithDpkg(t *testing.T) {
	docs := []string{releaseText, packageText, sourceText, controlText}
	for _, tc := range acceptedDocuments {
		docs = append(docs, tc.in)
	}
	for _, tc := range refusedDocuments {
		docs = append(docs, tc.in)
	}
	input := make([]string, len(docs))
	for i, doc := range docs {
		input[i] = hex.EncodeToString([]byte(doc))
	}
	answers := perl(t, dpkgParagraph, input)
	if len(answers) != len(docs) {
		t.Fatalf("%d answers for %d documents", len(answers), len(docs))
	}
	accepted := 0
	for i, doc := range docs {
		p, err := NewReader(strings.NewReader(doc), Limits{}).Next()
		if err != nil {
			continue
		}
		accepted++
		if answers[i] == "refused" {
			t.Errorf("dpkg refuses %q", doc)
			continue
		}
		want := map[string]string{}
		for pair := range strings.SplitSeq(answers[i], " ") {
			name, value, _ := strings.Cut(pair, "=")
			want[unhex(t, name)] = unhex(t, value)
		}
		for _, f := range p.Fields {
			// dpkg's hash gives names back in its own capitals.
			if got := unfold(f.Value); got != lookupFold(want, f.Name) {
				t.Errorf("%q: field %s is %q, dpkg has %q", doc, f.Name, got, lookupFold(want, f.Name))
			}
		}
		if len(want) != len(p.Fields) {
			t.Errorf("%q: %d fields, dpkg has %d", doc, len(p.Fields), len(want))
		}
	}
	if accepted < 10 {
		t.Errorf("only %d documents were compared", accepted)
	}
}

func unhex(t *testing.T, s string) string {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func lookupFold(fields map[string]string, name string) string {
	for k, v := range fields {
		if strings.EqualFold(k, name) {
			return v
		}
	}
	return "(absent)"
}

// unfold takes away what makes a continuation line: the leading blank, and
// one of the periods of a line of periods.
func unfold(value string) string {
	lines := strings.Split(value, "\n")
	for i := 1; i < len(lines); i++ {
		lines[i] = lines[i][1:]
		if lines[i] != "" && strings.Trim(lines[i], ".") == "" {
			lines[i] = lines[i][1:]
		}
	}
	return strings.Join(lines, "\n")
}

// TestStatusFile reads the machine's own package database, some thousand
// paragraphs that dpkg wrote.
func TestStatusFile(t *testing.T) {
	status := readSystemFile(t, "/var/lib/dpkg/status")
	paragraphs, err := readAll(NewReader(bytes.NewReader(status), Limits{}))
	if err != nil {
		t.Fatal(err)
	}
	want := 0
	for s := bufio.NewScanner(bytes.NewReader(status)); s.Scan(); {
		if strings.HasPrefix(s.Text(), "Package: ") {
			want++
		}
	}
	if len(paragraphs) != want {
		t.Errorf("%d paragraphs, want %d", len(paragraphs), want)
	}
	for _, p := range paragraphs {
		if _, err := ParseVersion(p.Get("Version")); err != nil {
			t.Error(err)
		}
		for _, field := range []string{"Pre-Depends", "Depends", "Recommends", "Suggests", "Enhances", "Provides", "Conflicts", "Breaks", "Replaces"} {
			text := p.Get(field)
			if d, err := ParseDependency(text); err != nil || d.String() != text {
				t.Errorf("%s of %s: %v, %q instead of %q", field, p.Get("Package"), err, d, text)
			}
		}
	}
	var printed bytes.Buffer
	for _, p := range paragraphs {
		if _, err := p.WriteTo(&printed); err != nil {
			t.Fatal(err)
		}
		printed.WriteByte('\n')
	}
	if printed.String() != trimLines(status) {
		t.Error("printing does not give the same text")
	}
}

// trimLines drops the white space at line ends, which no reader keeps.
func trimLines(text []byte) string {
	var b strings.Builder
	for line := range strings.Lines(string(text)) {
		b.WriteString(strings.TrimRightFunc(line, isSpace) + "\n")
	}
	return b.String()
}
