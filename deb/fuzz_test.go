package deb

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fuzzLimits keep a fuzzing run from spending its time on size alone.
var fuzzLimits = Limits{Document: 1 << 16, Field: 1 << 14, Fields: 100}

// FuzzDeb822: what is accepted prints and reads back to the same fields, and
// no field is there twice.
func FuzzDeb822(f *testing.F) {
	for _, tc := range acceptedDocuments {
		f.Add([]byte(tc.in), false)
	}
	for _, tc := range refusedDocuments {
		f.Add([]byte(tc.in), true)
	}
	f.Fuzz(func(t *testing.T, doc []byte, handwritten bool) {
		open := NewReader
		if handwritten {
			open = NewControlReader
		}
		first, err := readAll(open(bytes.NewReader(doc), fuzzLimits))
		if err != nil {
			return
		}
		var printed bytes.Buffer
		for _, p := range first {
			seen := map[string]bool{}
			for _, field := range p.Fields {
				if key := strings.ToLower(field.Name); seen[key] {
					t.Fatalf("field %q is there twice", field.Name)
				} else {
					seen[key] = true
				}
			}
			if _, err := p.WriteTo(&printed); err != nil {
				t.Fatalf("what was read cannot be printed: %v", err)
			}
			printed.WriteByte('\n')
		}
		second, err := readAll(NewReader(bytes.NewReader(printed.Bytes()), Limits{}))
		if err != nil {
			t.Fatalf("%q does not read back: %v", printed.String(), err)
		}
		if diff := cmp.Diff(first, second); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzRelease(f *testing.F) {
	f.Add([]byte(releaseText))
	f.Add([]byte(strings.Replace(releaseText, "main/", "./", 1)))
	f.Add([]byte("Date: Sat, 15 Mar 2025 09:29:28 UTC\nSHA256:\n " + sumA + " 1 a\n"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		r, err := ParseRelease(doc)
		if err != nil {
			return
		}
		if r.Date.IsZero() && !strings.Contains(string(doc), "0001") {
			t.Error("no date")
		}
		if len(r.Files) == 0 {
			t.Error("no files")
		}
		for path, file := range r.Files {
			if path != file.Path || CheckPath(path) != nil || file.Size < 0 || !isHex(file.SHA256, 64) {
				t.Errorf("%q: %+v", path, file)
			}
		}
	})
}

func FuzzPackagesStanza(f *testing.F) {
	f.Add([]byte(packageText))
	f.Add([]byte(sourceText))
	f.Add([]byte("\n\n" + packageText + "\n\n" + sourceText))
	f.Fuzz(func(t *testing.T, text []byte) {
		end := int64(0)
		err := ScanStanzas(bytes.NewReader(text), func(stanza []byte, offset int64) error {
			if offset < end || !bytes.Equal(text[offset:offset+int64(len(stanza))], stanza) {
				t.Fatalf("stanza at %d is not what stands there", offset)
			}
			end = offset + int64(len(stanza))
			if p, err := ParsePackage(stanza); err == nil {
				checkPackage(t, p, stanza)
			}
			if e, err := ParseSourceEntry(stanza); err == nil {
				checkSourceEntry(t, e)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

func checkPackage(t *testing.T, p *Package, stanza []byte) {
	t.Helper()
	if CheckPackageName(p.Name) != nil || CheckPackageName(p.Source) != nil {
		t.Errorf("names %q, %q", p.Name, p.Source)
	}
	if CheckPath(p.Filename) != nil || p.Size <= 0 || !isHex(p.SHA256, 64) {
		t.Errorf("file %q of %d bytes, %q", p.Filename, p.Size, p.SHA256)
	}
	if _, err := ParseVersion(p.Version); err != nil {
		t.Error(err)
	}
	if _, err := ParseVersion(p.SourceVersion); err != nil {
		t.Error(err)
	}
	if quick := StanzaField(stanza, "Package"); quick != p.Name {
		t.Errorf("StanzaField finds %q, the parser %q", quick, p.Name)
	}
}

func checkSourceEntry(t *testing.T, e *SourceEntry) {
	t.Helper()
	if CheckPackageName(e.Name) != nil || e.Directory != "" && CheckPath(e.Directory) != nil {
		t.Errorf("name %q, directory %q", e.Name, e.Directory)
	}
	for _, file := range e.Files {
		if CheckFileName(file.Name) != nil || file.Size < 0 || !isHex(file.SHA256, 64) {
			t.Errorf("file %+v", file)
		}
	}
}

func FuzzFilesField(f *testing.F) {
	p := changesFields()
	f.Add(p.Get("Files"), p.Get("Checksums-Sha1"), p.Get("Checksums-Sha256"))
	f.Add("", "", "\n "+sumA+" 1 a")
	f.Fuzz(func(t *testing.T, md5, sha1, sha256 string) {
		p := paragraph("Checksums-Sha256", sha256)
		if md5 != "" {
			p.Set("Files", md5)
		}
		if sha1 != "" {
			p.Set("Checksums-Sha1", sha1)
		}
		files, err := ParseFiles(p)
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, file := range files {
			if seen[file.Name] || CheckFileName(file.Name) != nil || file.Size < 0 || !isHex(file.SHA256, 64) {
				t.Errorf("%+v", file)
			}
			if (md5 != "") != isHex(file.MD5, 32) || (sha1 != "") != isHex(file.SHA1, 40) {
				t.Errorf("%+v lacks a checksum", file)
			}
			seen[file.Name] = true
		}
		if len(files) == 0 {
			t.Error("no files")
		}
	})
}

// FuzzVersionCompare: the order is total whatever the strings are. That it
// is dpkg's order is the business of the recorded pairs.
func FuzzVersionCompare(f *testing.F) {
	pairs := recordedVersions(f)
	for i, p := range pairs {
		f.Add(p[0], p[2], pairs[(i+7)%len(pairs)][0])
	}
	f.Add("1.0-", "-1", "")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		ab, bc, ac := sign(CompareVersions(a, b)), sign(CompareVersions(b, c)), sign(CompareVersions(a, c))
		if ab != -sign(CompareVersions(b, a)) {
			t.Errorf("%q and %q: not antisymmetric", a, b)
		}
		if CompareVersions(a, a) != 0 {
			t.Errorf("%q differs from itself", a)
		}
		if ab == bc && ac != ab || ab == 0 && ac != bc || bc == 0 && ac != ab {
			t.Errorf("%q, %q, %q: not transitive: %d %d %d", a, b, c, ab, bc, ac)
		}
		v, err := ParseVersion(a)
		if err != nil {
			return
		}
		if w, err := ParseVersion(v.String()); err != nil || w != v {
			t.Errorf("%q reads back as %+v, %v", a, w, err)
		}
	})
}

// FuzzDependency: what is accepted prints and reads back, and evaluating
// twice is evaluating once.
func FuzzDependency(f *testing.F) {
	for _, tc := range acceptedRelations {
		f.Add(tc.in, "amd64", "nocheck")
	}
	f.Fuzz(func(t *testing.T, field, arch, profiles string) {
		d, err := ParseDependency(field)
		if err != nil {
			return
		}
		again, err := ParseDependency(d.String())
		if err != nil {
			t.Fatalf("%q does not read back: %v", d, err)
		}
		if diff := cmp.Diff(d, again); diff != "" {
			t.Fatal(diff)
		}
		reduced := d.Reduce(arch, strings.Fields(profiles))
		if strings.ContainsAny(reduced.String(), "[]") {
			t.Errorf("restrictions left in %q", reduced)
		}
		if diff := cmp.Diff(reduced, reduced.Reduce("i386", nil)); diff != "" {
			t.Error(diff)
		}
		for _, a := range d.First() {
			for _, r := range a {
				if r.Name != a[0].Name {
					t.Errorf("another package left in %q", a)
				}
			}
		}
	})
}

func FuzzChangelog(f *testing.F) {
	for _, tc := range oddChangelogs {
		f.Add([]byte(tc.in))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		entries, err := ParseChangelog(bytes.NewReader(text), 3)
		if err != nil {
			return
		}
		if len(entries) == 0 || len(entries) > 3 {
			t.Fatalf("%d entries", len(entries))
		}
		if _, err := ParseVersion(entries[0].Version); err != nil || CheckPackageName(entries[0].Source) != nil {
			t.Errorf("newest entry %+v", entries[0])
		}
	})
}

// countingReaderAt counts bytes, to bound what a reader takes in.
type countingReaderAt struct {
	r     io.ReaderAt
	total int64
}

func (c *countingReaderAt) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.r.ReadAt(p, off)
	c.total += int64(n)
	return n, err
}

// FuzzAr: offsets strictly grow, members lie inside of the file, and no byte
// is read twice.
func FuzzAr(f *testing.F) {
	f.Add(arFile("a", "x", "b/", "yz"))
	f.Add([]byte(negativeSizeAr))
	f.Fuzz(func(t *testing.T, b []byte) {
		in := &countingReaderAt{r: bytes.NewReader(b)}
		members, err := readAr(in, int64(len(b)), 50)
		if in.total > int64(len(b)) {
			t.Errorf("%d bytes read of %d", in.total, len(b))
		}
		if err != nil {
			return
		}
		end := int64(len(arMagic))
		for _, m := range members {
			if m.size < 0 || m.offset < end+arHeaderSize || m.offset+m.size > int64(len(b)) {
				t.Errorf("member %+v after %d in %d bytes", m, end, len(b))
			}
			end = m.offset + m.size
		}
	})
}

func FuzzDebOpen(f *testing.F) {
	for _, suffix := range []string{"", ".gz", ".zst"} {
		f.Add(debFile(f, suffix))
	}
	for _, b := range malformedDebs(f) {
		if len(b) < 100<<10 {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := openBytes(b)
		if err != nil {
			return
		}
		if got.DataOffset < 0 || got.DataSize <= 0 || got.DataOffset+got.DataSize > int64(len(b)) {
			t.Errorf("data at %d of %d bytes", got.DataOffset, got.DataSize)
		}
		for name := range got.ControlFiles {
			if CheckFileName(name) != nil {
				t.Errorf("control file %q", name)
			}
		}
		if CheckPackageName(got.Control.Get("Package")) != nil {
			t.Errorf("package %q", got.Control.Get("Package"))
		}
		if data, err := got.Data(bytes.NewReader(b)); err == nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(data, 1<<20))
			data.Close()
		}
	})
}

// FuzzDecompress: reading ends, at the latest at the caller's limit.
func FuzzDecompress(f *testing.F) {
	for name, b := range samples(f) {
		f.Add(name, b)
		f.Add(name, b[:len(b)/2])
		f.Add(name, []byte{})
	}
	f.Add("bomb.zst", zstded(f, make([]byte, 16<<20)))
	f.Add("a.bz2", []byte("BZh9"))
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		r, err := Decompress(name, bytes.NewReader(b))
		if err != nil {
			return
		}
		defer r.Close()
		n, err := io.Copy(io.Discard, newBoundedReader(r, 1<<20, "output"))
		var limit *LimitError
		if n > 1<<20 || errors.As(err, &limit) && n != 1<<20 {
			t.Errorf("%d bytes, error %v", n, err)
		}
	})
}
