package tree

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// benchTree returns DBUILD_BENCH_TREE, a real root file system, or else makes
// one of 15,000 entries.
func benchTree(b *testing.B) (dir string, m IDMap) {
	b.Helper()
	if dir := os.Getenv("DBUILD_BENCH_TREE"); dir != "" {
		return dir, IDMap{}
	}
	dir = b.TempDir()
	data := make([]byte, 8<<10)
	for d := range 1500 {
		sub := filepath.Join(dir, fmt.Sprintf("d%d/e%d", d%40, d))
		must(b, os.MkdirAll(sub, 0o755))
		for f := range 9 {
			data[0] = byte(f)
			must(b, os.WriteFile(filepath.Join(sub, fmt.Sprintf("file-%d", f)), data, 0o644))
		}
	}
	return dir, ids()
}

func BenchmarkRead(b *testing.B) {
	dir, ids := benchTree(b)
	for b.Loop() {
		if _, _, err := Read(b.Context(), dir, ids, 2); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkList(b *testing.B) {
	dir, ids := benchTree(b)
	for b.Loop() {
		if _, err := List(b.Context(), dir, ids, 2); err != nil {
			b.Fatal(err)
		}
	}
}

func benchSeal(b *testing.B) (string, IDMap, *Seal) {
	b.Helper()
	dir, ids := benchTree(b)
	_, s, err := Read(b.Context(), dir, ids, 2)
	must(b, err)
	b.ReportMetric(float64(len(s.m)), "entries")
	return dir, ids, s
}

func BenchmarkCheck(b *testing.B) {
	dir, ids, s := benchSeal(b)
	for b.Loop() {
		if _, err := s.Check(b.Context(), dir, ids, 2); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnmarshalSeal(b *testing.B) {
	_, _, s := benchSeal(b)
	data := s.Marshal()
	b.ReportMetric(float64(len(data)), "bytes")
	for b.Loop() {
		if _, err := UnmarshalSeal(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDigest(b *testing.B) {
	_, _, s := benchSeal(b)
	for b.Loop() {
		s.m.Digest()
	}
}

func BenchmarkMerge(b *testing.B) {
	_, _, s := benchSeal(b)
	for b.Loop() {
		Merge(s.m, s.m)
	}
}

// BenchmarkWriteTar lists, hashes and packs in one go.
func BenchmarkWriteTar(b *testing.B) {
	dir, ids := benchTree(b)
	out, err := os.CreateTemp(os.Getenv("DBUILD_BENCH_OUT"), "tar")
	must(b, err)
	defer func() { must(b, out.Close(), os.Remove(out.Name())) }()
	for b.Loop() {
		must(b, out.Truncate(0))
		_, err := out.Seek(0, io.SeekStart)
		must(b, err)
		m, err := List(b.Context(), dir, ids, 2)
		must(b, err)
		if _, err := WriteTar(b.Context(), out, m, Layers{Dirs: []string{dir}, Map: ids}, TarOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSHA256 is the bound that the hash sets.
func BenchmarkSHA256(b *testing.B) {
	buf := make([]byte, 1<<20)
	b.SetBytes(1 << 20)
	for b.Loop() {
		sha256.Sum256(buf)
	}
}
