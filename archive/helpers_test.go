package archive_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"dbuild/archive"
	"dbuild/archive/archivetest"
	"dbuild/internal/fault"
	"dbuild/internal/report"
)

// notes collects what was reported.
type notes struct {
	mu       sync.Mutex
	lines    []string
	progress []report.Progress
}

func (n *notes) Progress(p report.Progress) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.progress = append(n.progress, p)
}
func (n *notes) Note(format string, args ...any) { n.add("note: " + fmt.Sprintf(format, args...)) }
func (n *notes) Warn(format string, args ...any) { n.add("warn: " + fmt.Sprintf(format, args...)) }

func (n *notes) add(line string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, line)
}

func (n *notes) has(part string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.ContainsFunc(n.lines, func(s string) bool { return strings.Contains(s, part) })
}

// open opens a copy with short limits.
func open(t *testing.T, dir string, o archive.Options) *archive.Copy {
	t.Helper()
	c, err := archive.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return c.Quick()
}

// small is a served archive with one suite and two packages.
func small(t *testing.T, shape archivetest.Suite) (*archivetest.Archive, *archivetest.Server) {
	t.Helper()
	if shape.Name == "" {
		shape.Name = "bookworm"
	}
	a := archivetest.New(t)
	a.AddSuite(shape)
	a.AddPackage(shape.Name, "main", archivetest.Package{Name: "hello", Version: "2.10-3", Architecture: "amd64"})
	a.AddPackage(shape.Name, "main", archivetest.Package{Name: "libfoo++1", Version: "1:1.0~rc1-1"})
	a.AddSource(shape.Name, "main", archivetest.SourcePackage{Name: "hello", Version: "2.10-3", Architecture: "any"})
	a.Publish(shape.Name)
	return a, a.Serve(t)
}

// updateOne updates one source.
func updateOne(t *testing.T, c *archive.Copy, src archive.Source) (*archive.State, error) {
	t.Helper()
	sts, err := c.Update(t.Context(), []archive.Source{src})
	if err != nil {
		return nil, err
	}
	return sts[0], nil
}

// mustUpdate is updateOne that must succeed.
func mustUpdate(t *testing.T, c *archive.Copy, src archive.Source) *archive.State {
	t.Helper()
	st, err := updateOne(t, c, src)
	if err != nil {
		t.Fatalf("update: %v", err)
	}
	return st
}

// wantClass checks the class of err.
func wantClass(t *testing.T, err error, want fault.Class) {
	t.Helper()
	if got := fault.ClassOf(err); got != want {
		t.Errorf("class %q, want %q (error: %v)", got, want, err)
	}
}

// helloFile is the .deb of hello as the index describes it.
func helloFile(t *testing.T, c *archive.Copy, st *archive.State) archive.File {
	t.Helper()
	index, err := c.Packages(t.Context(), st, "main", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	p, err := archive.FindPackage(index, "hello", "", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	return st.Source.File(p)
}
