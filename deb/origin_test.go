package deb

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func readParts(t *testing.T, file []byte, parts []Part) []byte {
	t.Helper()
	b, err := io.ReadAll(ReadParts(bytes.NewReader(file), parts))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOrigin(t *testing.T) {
	built := oddDeb(t)
	others := arFile("_x", "odd", "_y", "")[len(arMagic):]
	for name, tt := range map[string]struct{ before, after []byte }{
		"alone":         {},
		"before others": {after: others},
		"after others":  {before: others},
		"between":       {arFile("_x", "odd")[len(arMagic):], arFile("_y", "")[len(arMagic):]},
	} {
		for _, sig := range []string{"odd", "even", ""} {
			t.Run(name+" "+sig, func(t *testing.T) {
				plain := bytes.Join([][]byte{built, tt.before, tt.after}, nil)
				file := bytes.Join([][]byte{built, tt.before, OriginBytes([]byte(sig)), tt.after}, nil)
				b, err := openBytes(file)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := b.Origin(bytes.NewReader(file)); err != nil || got == nil || string(got) != sig {
					t.Errorf("signature %q, %v", got, err)
				}
				if diff := cmp.Diff(plain, readParts(t, file, b.Unsigned())); diff != "" {
					t.Errorf("without the signature: %s", diff)
				}
				want := "2.10\n" + controlTar(t) + dataTar(t)
				if diff := cmp.Diff(want, string(readParts(t, file, b.Signed()))); diff != "" {
					t.Errorf("what is signed: %s", diff)
				}
				if b, err = openBytes(plain); err != nil {
					t.Fatal(err)
				}
				if got, err := b.Origin(bytes.NewReader(plain)); err != nil || got != nil {
					t.Errorf("without: signature %q, %v", got, err)
				}
				if !bytes.Equal(plain, readParts(t, plain, b.Unsigned())) {
					t.Error("without: parts are missing")
				}
			})
		}
	}
	long := append(built, OriginBytes([]byte(strings.Repeat("x", maxOrigin+1)))...)
	b, err := openBytes(long)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Origin(bytes.NewReader(long)); err == nil {
		t.Error("a signature of any length is read")
	}
}
