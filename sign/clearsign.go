package sign

import (
	"bytes"
	"fmt"
	"strings"
)

const (
	// MaxDocument bounds a clearsigned document, in bytes.
	MaxDocument = 10 << 20

	// maxLine is where gpg cuts a line of a clearsigned text, without
	// failing. Longer lines mean one thing to it and another to us, so they
	// are refused.
	maxLine = 19990
)

// SplitClearsigned takes a clearsigned document apart without verifying it:
// the signed text, as gpgv --output would write it but with LF line ends
// always, and the armored signature block. The document must begin with the
// armor line and end with the signature's last line and at most one newline;
// there is exactly one block, its only headers are "Hash", every line that
// begins with a dash is escaped, and there is neither a NUL nor a CR outside
// of a line end. CRLF line ends are accepted, as apt does. The error is
// [ErrUnsigned] if no clearsigned block begins anywhere in doc, otherwise
// [ErrFraming].
func SplitClearsigned(doc []byte) (text, signature []byte, err error) {
	if err := checkBytes(doc); err != nil {
		return nil, nil, err
	}
	line, rest, _ := cutLine(doc)
	if string(line) != beginLine(typeMessage) {
		return nil, nil, refuse(ErrFraming, "text before the signed block")
	}
	if rest, err = skipHashHeaders(rest); err != nil {
		return nil, nil, err
	}
	if text, signature, err = cutText(rest); err != nil {
		return nil, nil, err
	}
	_, after, err := decodeArmor(signature, typeSignature)
	if err != nil {
		return nil, nil, refuse(ErrFraming, "%v", err)
	}
	if len(after) > 0 {
		return nil, nil, refuse(ErrFraming, "text after the signed block")
	}
	return text, signature, nil
}

// checkBytes refuses what needs no parsing to be refused.
func checkBytes(doc []byte) error {
	if len(doc) > MaxDocument {
		return refuse(ErrFraming, "longer than %d bytes", MaxDocument)
	}
	if !bytes.Contains(doc, []byte(beginLine(typeMessage))) {
		return refuse(ErrUnsigned, "no %q line", beginLine(typeMessage))
	}
	if bytes.IndexByte(doc, 0) >= 0 {
		return refuse(ErrFraming, "NUL byte")
	}
	if bytes.Count(doc, []byte{'\r'}) != bytes.Count(doc, []byte("\r\n")) {
		return refuse(ErrFraming, "carriage return inside a line")
	}
	return nil
}

// skipHashHeaders returns what follows the empty line after the headers. The
// values are checked for form only: which hash was used is read from the
// signature itself.
func skipHashHeaders(b []byte) ([]byte, error) {
	for {
		line, rest, last := cutLine(b)
		if len(line) == 0 && !last {
			return rest, nil
		}
		value, ok := strings.CutPrefix(string(line), "Hash: ")
		if last || !ok || strings.Trim(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-, ") != "" {
			return nil, refuse(ErrFraming, "header line other than Hash")
		}
		b = rest
	}
}

// cutText collects the text up to the line where the signature begins. White
// space at line ends is dropped because the signature does not cover it.
func cutText(b []byte) (text, signature []byte, err error) {
	text = make([]byte, 0, len(b))
	for {
		line, rest, last := cutLine(b)
		switch {
		case string(line) == beginLine(typeSignature):
			if len(bytes.Trim(text, "\n")) == 0 {
				return nil, nil, refuse(ErrFraming, "empty text")
			}
			return text, b, nil
		case last:
			return nil, nil, refuse(ErrFraming, "text without a signature")
		case len(line) > maxLine:
			return nil, nil, refuse(ErrFraming, "line longer than %d bytes", maxLine)
		case bytes.HasPrefix(line, []byte("- ")):
			line = line[2:]
		case bytes.HasPrefix(line, []byte("-")):
			return nil, nil, refuse(ErrFraming, "line with an unescaped dash")
		}
		text = append(append(text, bytes.TrimRight(line, " \t")...), '\n')
		b = rest
	}
}

// signedBytes is what the signature of a clearsigned text covers: CRLF
// between the lines, no line end after the last (RFC 9580 section 7.1).
func signedBytes(text []byte) []byte {
	return bytes.ReplaceAll(bytes.TrimSuffix(text, []byte{'\n'}), []byte{'\n'}, []byte("\r\n"))
}

// escapeText is the reverse of cutText. Text that would not come back as it
// went in is an error; only a missing newline at the end is added.
func escapeText(text []byte) (plain, escaped []byte, err error) {
	if bytes.ContainsAny(text, "\x00\r") {
		return nil, nil, fmt.Errorf("text contains a NUL or carriage return")
	}
	var out bytes.Buffer
	for line := range bytes.Lines(text) {
		line = bytes.TrimRight(line, " \t\n")
		if len(line) > maxLine {
			return nil, nil, fmt.Errorf("text has a line longer than %d bytes", maxLine)
		}
		if bytes.HasPrefix(line, []byte("-")) || bytes.HasPrefix(line, []byte("From ")) {
			out.WriteString("- ")
		}
		out.Write(line)
		out.WriteByte('\n')
		plain = append(append(plain, line...), '\n')
	}
	if len(bytes.Trim(plain, "\n")) == 0 {
		return nil, nil, fmt.Errorf("text is empty")
	}
	return plain, out.Bytes(), nil
}
