package deb

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

type scanned struct {
	Text   string
	Offset int64
}

func scanAll(r io.Reader) ([]scanned, error) {
	var all []scanned
	err := ScanStanzas(r, func(stanza []byte, offset int64) error {
		all = append(all, scanned{string(stanza), offset})
		return nil
	})
	return all, err
}

func TestScanStanzas(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		want     []scanned
	}{
		{"empty", "", nil},
		{"newlines", "\n\n\n", nil},
		{"one", "A: b\n", []scanned{{"A: b\n", 0}}},
		{"no final newline", "A: b", []scanned{{"A: b", 0}}},
		{"three", "A: 1\nB: 2\n\nA: 3\n\n\n\nA: 4\n", []scanned{{"A: 1\nB: 2\n", 0}, {"A: 3\n", 11}, {"A: 4\n", 19}}},
		{"newlines first and last", "\n\nA: 1\n\n\n", []scanned{{"A: 1\n", 2}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, r := range []io.Reader{
				strings.NewReader(tc.in),
				iotest.OneByteReader(strings.NewReader(tc.in)),
				iotest.DataErrReader(strings.NewReader(tc.in)),
			} {
				got, err := scanAll(r)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("%T: %s", r, diff)
				}
			}
		})
	}
}

func TestScanStanzasOverBufferBounds(t *testing.T) {
	var b strings.Builder
	var want []scanned
	for i := range 3000 {
		text := fmt.Sprintf("Package: p%d\nX: %s\n", i, strings.Repeat("x", i*7%5000))
		if i == 1500 {
			text = "Package: huge\nX: " + strings.Repeat("y", 1<<20) + "\n"
		}
		want = append(want, scanned{text, int64(b.Len())})
		b.WriteString(text + "\n")
	}
	for _, r := range []io.Reader{strings.NewReader(b.String()), iotest.HalfReader(strings.NewReader(b.String()))} {
		got, err := scanAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff[:min(len(diff), 1000)])
		}
	}
}

func TestScanStanzasStops(t *testing.T) {
	stop := errors.New("stop")
	calls := 0
	err := ScanStanzas(strings.NewReader("A: 1\n\nA: 2\n"), func([]byte, int64) error {
		calls++
		return stop
	})
	if err != stop || calls != 1 {
		t.Errorf("error %v after %d calls", err, calls)
	}
	if _, err := scanAll(io.MultiReader(strings.NewReader("A: 1\n"), iotest.ErrReader(stop))); !errors.Is(err, stop) {
		t.Errorf("error %v, want the reader's", err)
	}
	var limit *LimitError
	if _, err := scanAll(endless{[]byte("A: b\n")}); !errors.As(err, &limit) {
		t.Errorf("error %v, want a LimitError", err)
	}
}

func TestStanzaField(t *testing.T) {
	stanza := []byte("Package: hello\nX: Package: wrong\nDescription: first\n Filename: wrong\nFilename:\t a/b \r\nEmpty:\nLast: z")
	for name, want := range map[string]string{
		"Package": "hello", "package": "hello", "Filename": "a/b", "Description": "first",
		"Empty": "", "Last": "z", "Absent": "", "Pack": "", "": "", "Package: hello": "",
	} {
		if got := StanzaField(stanza, name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

// syntheticIndex imitates Debian's main index: as many stanzas, as long.
func syntheticIndex(stanzas int) []byte {
	var b bytes.Buffer
	for i := range stanzas {
		fmt.Fprintf(&b, "Package: package-number-%d\nVersion: 1.%d-1\nInstalled-Size: %d\nMaintainer: Somebody <somebody@example.org>\n"+
			"Architecture: amd64\nDepends: libc6 (>= 2.34), libgcc-s1 (>= 3.0), libstdc++6 (>= 13.1), %s\n"+
			"Description: package that stands for another\nDescription-md5: %032d\nTag: %s\nSection: libs\nPriority: optional\n"+
			"Filename: pool/main/p/package/package-number-%d_1.%d-1_amd64.deb\nSize: %d\nMD5sum: %032d\nSHA256: %s\n\n",
			i, i, i, strings.Repeat("libexample1, ", 8), i, strings.Repeat("role::shared-lib, ", 8), i, i, i+1, i, sumA)
	}
	return b.Bytes()
}

func TestScanStanzasMemoryIsConstant(t *testing.T) {
	index := syntheticIndex(20000)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n := 0
	err := ScanStanzas(bytes.NewReader(index), func([]byte, int64) error { n++; return nil })
	runtime.ReadMemStats(&after)
	if err != nil || n != 20000 {
		t.Fatalf("%d stanzas, error %v", n, err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20 {
		t.Errorf("%d bytes allocated for an index of %d", used, len(index))
	}
}

// BenchmarkScanStanzas looks one package up in an index of Debian's size.
func BenchmarkScanStanzas(b *testing.B) {
	index := syntheticIndex(68825)
	b.SetBytes(int64(len(index)))
	b.ReportAllocs()
	for b.Loop() {
		found := 0
		err := ScanStanzas(bytes.NewReader(index), func(stanza []byte, _ int64) error {
			if StanzaField(stanza, "Package") == "package-number-68824" {
				found++
			}
			return nil
		})
		if err != nil || found != 1 {
			b.Fatal(found, err)
		}
	}
}

func BenchmarkParsePackage(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParsePackage([]byte(packageText)); err != nil {
			b.Fatal(err)
		}
	}
}
