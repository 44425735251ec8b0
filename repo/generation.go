package repo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"dbuild/deb"
	"dbuild/internal/fault"
)

// generation is one complete state of a suite. The zero value stands for a
// suite that has none yet.
type generation struct {
	n       int
	dir     string       // relative to the repository: dists/.SUITE.N
	release *deb.Release // nil in the zero value
	rules   string       // the field of that name in the Release file
	digest  string       // SHA-256 of the Release file in hex, "" in the zero value
}

func generationDir(suite string, n int) string {
	return path.Join("dists", fmt.Sprintf(".%s.%d", suite, n))
}

// byHashDir holds the index files of all kept generations of a suite.
func byHashDir(suite string) string { return path.Join("dists", "."+suite+".by-hash") }

func byHashPath(suite, sha256 string) string {
	return path.Join(byHashDir(suite), "SHA256", sha256)
}

// current reads the generation that clients see.
func (r *Repo) current(suite string) (generation, error) {
	link := r.path(path.Join("dists", suite))
	target, err := os.Readlink(link)
	if errors.Is(err, fs.ErrNotExist) {
		return generation{}, nil
	}
	if err != nil {
		return generation{}, fault.New(fault.Input, "read suite %q: %w", suite, err)
	}
	n, ok := generationNumber(suite, target)
	if !ok {
		return generation{}, fault.New(fault.Input, "read suite %q: %q points to %q, not to a generation", suite, link, target)
	}
	return r.generation(suite, n)
}

// shown is current, but refuses a suite that has generations and whose link
// was lost: going on as if it were new would end in their removal. A first
// generation that was never shown is what a killed publish leaves.
func (r *Repo) shown(ctx context.Context, suite string) (generation, error) {
	cur, err := r.current(suite)
	if err != nil || cur.n > 0 {
		return cur, err
	}
	ns, err := r.generations(suite)
	if err != nil || len(ns) == 0 {
		return cur, err
	}
	recorded, err := r.recordedRelease(ctx, suite)
	if err != nil || recorded == "" && slices.Max(ns) == 1 {
		return cur, err
	}
	link, last := r.path(path.Join("dists", suite)), path.Base(generationDir(suite, slices.Max(ns)))
	err = fault.New(fault.Input, "read suite %q: %q is gone, but there are generations of it", suite, link)
	return cur, fault.WithHint(err, "ln -s %s %s", last, link)
}

func (r *Repo) generation(suite string, n int) (generation, error) {
	text, err := os.ReadFile(r.path(path.Join(generationDir(suite, n), "Release")))
	if err != nil {
		return generation{}, fault.New(fault.Input, "read generation %d of %q: %w", n, suite, err)
	}
	return newGeneration(suite, n, text)
}

// newGeneration is the generation with the given Release file.
func newGeneration(suite string, n int, text []byte) (g generation, err error) {
	g = generation{n: n, dir: generationDir(suite, n)}
	if g.release, err = deb.ParseRelease(text); err != nil {
		return g, fault.New(fault.Input, "read generation %d of %q: %w", n, suite, err)
	}
	g.rules = rulesIn(text)
	sum := sha256.Sum256(text)
	g.digest = hex.EncodeToString(sum[:])
	return g, nil
}

// generationNumber reads N from ".SUITE.N".
func generationNumber(suite, name string) (int, bool) {
	digits, ok := strings.CutPrefix(name, "."+suite+".")
	n, err := strconv.Atoi(digits)
	return n, ok && err == nil && n > 0 && strconv.Itoa(n) == digits
}

// generations returns the numbers of all generation directories of a suite,
// rising; some may be left from a publish that did not end.
func (r *Repo) generations(suite string) ([]int, error) {
	dir, err := os.ReadDir(r.path("dists"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var ns []int
	for _, e := range dir {
		if n, ok := generationNumber(suite, e.Name()); ok && e.IsDir() {
			ns = append(ns, n)
		}
	}
	slices.Sort(ns)
	return ns, nil
}

// removeUnshown removes generations beyond the current one: what a publish that
// was killed left.
func (w *writer) removeUnshown(suite string, cur generation) error {
	ns, err := w.generations(suite)
	if err != nil {
		return err
	}
	for _, n := range ns {
		if n > cur.n {
			if err := w.disk.removeAll(generationDir(suite, n)); err != nil {
				return err
			}
		}
	}
	return nil
}

// fillGeneration fills the directory of a generation with everything but its
// Release files. Indexes are linked from the by-hash directory.
func (w *writer) fillGeneration(suite, dir string, rows []deb.IndexFile) error {
	made := map[string]bool{}
	for _, row := range rows {
		sub := path.Dir(row.Path)
		if !made[sub] {
			if err := w.disk.mkdirAll(path.Join(dir, sub)); err != nil {
				return err
			}
			up := strings.Repeat("../", 2+strings.Count(sub, "/"))
			if err := w.disk.symlink(up+path.Base(byHashDir(suite)), path.Join(dir, sub, "by-hash")); err != nil {
				return err
			}
			made[sub] = true
		}
		if !stored(row.Path) {
			continue
		}
		if err := w.disk.link(byHashPath(suite, row.SHA256), path.Join(dir, row.Path)); err != nil {
			return err
		}
	}
	return nil
}

// show makes generation n the one that clients see, and makes that durable.
func (w *writer) show(suite string, n int) error {
	tmp := path.Join("dists", "."+suite+".new")
	if _, err := os.Lstat(w.path(tmp)); err == nil {
		if err := w.disk.remove(tmp); err != nil {
			return err
		}
	}
	if err := w.disk.symlink(path.Base(generationDir(suite, n)), tmp); err != nil {
		return err
	}
	if err := w.disk.rename(tmp, path.Join("dists", suite)); err != nil {
		return err
	}
	return w.disk.sync()
}
