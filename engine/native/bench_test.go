package native

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dbuild/engine"
	"dbuild/engine/enginetest"
)

// BenchmarkStep measures the shortest life of a container: create, one step
// that does nothing, close; as a build confines it. "make bench-step" runs it as
// a release does, whose agent is small, for root and for a user.
func BenchmarkStep(b *testing.B) {
	e, im := openWithImage(b)
	spec := engine.Spec{Image: im.ID, Purpose: engine.PurposeBuild, Network: engine.NetworkNone}
	spec.Limits.PIDs.Value = 32 << 10
	var parts [4][]time.Duration
	for b.Loop() {
		times := []time.Time{time.Now()}
		c, err := e.Create(b.Context(), spec)
		if err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Now())
		if exit, err := c.Run(b.Context(), engine.Step{Argv: []string{enginetest.ToolPath, "true"}, User: engine.User{UID: 1000, GID: 1000}}); err != nil || !exit.OK() {
			b.Fatal(exit, err)
		}
		times = append(times, time.Now())
		if err := c.Close(b.Context()); err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Now())
		for i := range 3 {
			parts[i] = append(parts[i], times[i+1].Sub(times[i]))
		}
		parts[3] = append(parts[3], times[3].Sub(times[0]))
	}
	for i, name := range []string{"create", "run", "close", "total"} {
		slices.Sort(parts[i])
		b.ReportMetric(float64(parts[i][len(parts[i])/2].Microseconds())/1000, name+"-median-ms")
	}
}

// buildd is like a buildd root file system: 13,500 files, 457 MB.
func buildd() []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	content := bytes.Repeat([]byte("not all zero, not random either\n"), 1<<20)
	add := func(h tar.Header, size int) {
		h.Size, h.ModTime = int64(size), time.Unix(enginetest.Mtime, 0)
		if err := w.WriteHeader(&h); err != nil {
			panic(err)
		}
		if _, err := w.Write(content[:size]); err != nil {
			panic(err)
		}
	}
	for d := range 1500 {
		add(tar.Header{Name: fmt.Sprintf("usr/share/dir%02d/sub%d/", d%40, d), Typeflag: tar.TypeDir, Mode: 0o755}, 0)
		for f := range 8 {
			size := 4000 * (f + 1)
			if d%10 == 0 && f == 0 {
				size = 1 << 20
			}
			add(tar.Header{Name: fmt.Sprintf("usr/share/dir%02d/sub%d/file%d", d%40, d, f), Typeflag: tar.TypeReg, Mode: 0o644}, size)
		}
	}
	for f := range 4 {
		add(tar.Header{Name: fmt.Sprintf("usr/lib/large%d", f), Typeflag: tar.TypeReg, Mode: 0o755}, 20<<20)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return out.Bytes()
}

func BenchmarkImport(b *testing.B) {
	data := buildd()
	e := open(b)
	b.SetBytes(int64(len(data)))
	before := cpu()
	for b.Loop() {
		if _, err := e.Import(b.Context(), bytes.NewReader(data), engine.Config{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric((cpu()-before).Seconds()/float64(b.N), "cpu-s/op")
}

// cpu is the processor time of this process and its agents.
func cpu() time.Duration {
	var total time.Duration
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var r unix.Rusage
		if unix.Getrusage(who, &r) == nil {
			total += time.Duration(r.Utime.Nano() + r.Stime.Nano())
		}
	}
	return total
}

func BenchmarkExport(b *testing.B) {
	e := open(b)
	im, err := e.Import(b.Context(), bytes.NewReader(buildd()), engine.Config{})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := e.Export(b.Context(), im.ID, io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}
