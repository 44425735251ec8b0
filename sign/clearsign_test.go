package sign

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"dbuild/internal/fault"
)

// TestFraming has the rows of reliability table 1.5 that concern the shape of
// a document. gpgv accepts several that must be refused: it shows the signed
// part, but readers of the file would see the rest too.
func TestFraming(t *testing.T) {
	key := testKey(t, "Archive", nil)
	ring := ringOf(t, key)
	good := clearsigned(t, releaseText, textSig(t, key, releaseText))
	head := beginLine(typeMessage) + "\nHash: SHA256\n"
	edit := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("no %q in the good document", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	tests := []struct {
		name string
		doc  string
		want error // nil: accepted
		gpgv bool  // gpgv exits 0
	}{
		{"good", good, nil, true},
		{"no newline at the end", strings.TrimSuffix(good, "\n"), nil, true},
		{"CRLF", strings.ReplaceAll(good, "\n", "\r\n"), nil, true},
		{"blanks at a line end", edit("Suite: test\n", "Suite: test \t\n"), nil, true},
		{"two hash headers", edit("Hash: SHA256", "Hash: SHA256\nHash: SHA512, SHA1"), nil, true},
		{"comment in the signature's armor", edit(beginLine(typeSignature), beginLine(typeSignature)+"\nComment: x"), nil, true},

		{"line before", "Evil: yes\n" + good, ErrFraming, true},
		{"line after", good + "Evil: yes\n", ErrFraming, true},
		{"blank line before", "\n" + good, ErrFraming, true},
		{"blank line after", good + "\n", ErrFraming, true},
		{"blank lines after", good + "\n\n\n", ErrFraming, true},
		{"byte-order mark", "\ufeff" + good, ErrFraming, false},
		{"twice", good + good, ErrFraming, false},
		{"unsigned", releaseText, ErrUnsigned, false},
		{"empty", "", ErrUnsigned, false},
		{"byte changed", edit("Suite: test", "Suite: tesT"), ErrBadSignature, false},
		{"line added", edit("last\n", "last\nmore\n"), ErrBadSignature, false},
		{"blank line removed", edit("test\n\n", "test\n"), ErrBadSignature, false},
		{"NUL in a line", edit("Suite", "Sui\x00te"), ErrFraming, false},
		{"NUL at the end", good + "\x00", ErrFraming, true},
		{"CR inside a line", edit("Suite", "Sui\rte"), ErrFraming, false},
		{"CR only", strings.ReplaceAll(good, "\n", "\r"), ErrFraming, false},
		{"other armor header", edit(head, head+"Version: 1\n"), ErrFraming, false},
		{"form feed for the blank line", edit(head+"\n", head+"\f\n"), ErrFraming, false},
		{"blanks for the blank line", edit(head+"\n", head+" \n"), ErrFraming, true},
		{"blanks after the armor line", edit(beginLine(typeMessage), beginLine(typeMessage)+" "), ErrFraming, true},
		{"no blank line", edit(head+"\n", head), ErrFraming, false},
		{"unescaped dash", edit("- - dash", "-dash"), ErrFraming, false},
		{"nested begin line", edit("last\n", "last\n"+beginLine(typeMessage)+"\n"), ErrFraming, false},
		{"body without signature", good[:strings.Index(good, beginLine(typeSignature))], ErrFraming, false},
		{"signature without body", good[strings.Index(good, beginLine(typeSignature)):], ErrUnsigned, false},
		{"no end line", edit(endLine(typeSignature)+"\n", ""), ErrFraming, true},
		{"text inside the signature", edit("\n=", "\nEvil: yes\n="), ErrFraming, false},
		{"wrong armor checksum", edit("\n=", "\n=AAAA\n="), ErrFraming, false},
		{"empty text", edit(releaseEscaped(t), ""), ErrFraming, false},
		{"endless line", edit("last\n", strings.Repeat("x", maxLine+1)+"\n"), ErrFraming, false},
		{"too long", edit("last\n", strings.Repeat("x\n", MaxDocument/2)), ErrFraming, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text, sig, err := ring.VerifyClearsigned([]byte(tt.doc), Policy{Now: now})
			if !errors.Is(err, tt.want) {
				t.Fatalf("error is %v, want %v", err, tt.want)
			}
			if err != nil {
				if text != nil || fault.ClassOf(err) != fault.Trust {
					t.Fatalf("text %q, class %q with error %v", text, fault.ClassOf(err), err)
				}
			} else if string(text) != releaseText || sig.Fingerprint != ring.Fingerprints()[0] || sig.Signer != "Archive" {
				t.Errorf("text %q, signature %+v", text, sig)
			}
			if len(tt.doc) > 1<<20 {
				return // gpgv would only show that it is slow
			}
			reference, gpgvErr := gpgv(t, ring.Export(), tt.doc)
			if (gpgvErr == nil) != tt.gpgv {
				t.Errorf("gpgv says %v, the table says otherwise", gpgvErr)
			}
			if err == nil && !bytes.Equal(bytes.ReplaceAll(reference, []byte("\r\n"), []byte("\n")), text) {
				t.Errorf("text differs from gpgv's:\n%q\n%q", text, reference)
			}
		})
	}
}

func releaseEscaped(t *testing.T) string {
	t.Helper()
	_, escaped, err := escapeText([]byte(releaseText))
	if err != nil {
		t.Fatal(err)
	}
	return string(escaped)
}

func TestClearsign(t *testing.T) {
	key, err := Generate("Local", born)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, text, want string }{
		{"plain", releaseText, releaseText},
		{"no newline at the end", "A: b", "A: b\n"},
		{"blanks at line ends", "A: b \t\n \nC: d\n", "A: b\n\nC: d\n"},
		{"empty lines around", "\nA: b\n\n", "\nA: b\n\n"},
		{"armor inside", beginLine(typeSignature) + "\n", beginLine(typeSignature) + "\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			doc, err := key.Clearsign([]byte(tt.text), now)
			if err != nil {
				t.Fatal(err)
			}
			again, err := key.Clearsign([]byte(tt.text), now)
			if err != nil || !bytes.Equal(doc, again) {
				t.Errorf("signing twice gives different documents (%v)", err)
			}
			text, _, err := key.Keyring().VerifyClearsigned(doc, Policy{Now: now})
			if err != nil || string(text) != tt.want {
				t.Fatalf("verified text %q, error %v", text, err)
			}
			reference, err := gpgv(t, key.Keyring().Export(), string(doc))
			if err != nil || !bytes.Equal(reference, text) {
				t.Errorf("gpgv gives %q, error %v", reference, err)
			}
		})
	}
	for _, bad := range []string{"", "\n\n", " ", "a\x00b", "a\r\nb\n", strings.Repeat("x", maxLine+1)} {
		if _, err := key.Clearsign([]byte(bad), now); err == nil {
			t.Errorf("text %.20q was signed", bad)
		}
	}
	if _, err := key.Clearsign([]byte("a\n"), born.AddDate(-1, 0, 0)); err == nil {
		t.Error("signed at a time before the key was made")
	}
}

// FuzzClearsign: what is accepted begins and ends with armor, and comes back
// when it is escaped again.
func FuzzClearsign(f *testing.F) {
	key, err := Generate("Local", born)
	if err != nil {
		f.Fatal(err)
	}
	ring := key.Keyring()
	good, err := key.Clearsign([]byte(releaseText), now)
	if err != nil {
		f.Fatal(err)
	}
	crlf := bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n"))
	for _, seed := range [][]byte{good, crlf, append([]byte("\n"), good...), append(good[:len(good):len(good)], good...), {}} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		text, _, err := SplitClearsigned(doc)
		if err != nil {
			return
		}
		end := strings.TrimSuffix(strings.TrimSuffix(string(doc), "\n"), "\r")
		if !strings.HasPrefix(string(doc), beginLine(typeMessage)) || !strings.HasSuffix(end, endLine(typeSignature)) {
			t.Errorf("accepted with something around it: %q", doc)
		}
		plain, _, err := escapeText(text)
		if err != nil || !bytes.Equal(plain, text) {
			t.Errorf("text %q comes back as %q, %v", text, plain, err)
		}
		verified, _, err := ring.VerifyClearsigned(doc, Policy{Now: now})
		if err == nil && string(verified) != releaseText {
			t.Errorf("verified a text that was never signed: %q", verified)
		}
	})
}
