package tests

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// mutationSeed makes the same choices among files of the same names; ids are
// random, so the files differ from run to run.
const mutationSeed = 20260101

const mutations = 100

// mutateAtRandom damages one file of the state a hundred times. What a build then
// does is one of two things: it refuses, in one line of a class that is no bug of
// dbuild's and no failure of the package, or it returns what it returned before.
// With a layer damaged it must refuse.
func mutateAtRandom(t *testing.T, v *victim) {
	t.Logf("seed %d", mutationSeed)
	random := rand.New(rand.NewPCG(mutationSeed, 0))
	// An image that has to be made again would be, for half a minute. Without
	// the packages it is only tried, which is enough to know.
	pool := v.path("archive/pool")
	must(t, os.Rename(pool, v.state+".pool"))
	for name := range v.saved {
		if strings.HasPrefix(name, "archive/pool/") {
			delete(v.saved, name)
		}
	}
	// A layer whose record is missing is a leftover, unless it is in use.
	for _, dir := range []string{v.base.layer, v.deps.layer} {
		f, err := os.Open(filepath.Dir(dir))
		must(t, err, unix.Flock(int(f.Fd()), unix.LOCK_SH))
		defer f.Close()
	}
	groups := v.groups(t)
	verdicts := map[string]int{}
	for i := range mutations {
		g := groups[i%len(groups)]
		path := g.files[random.IntN(len(g.files))]
		what, back, err := mutate(random, path)
		must(t, err)
		name := fmt.Sprintf("mutation %d: %s: %s", i, what, strings.TrimPrefix(path, v.state+"/"))
		r := v.build(t)
		verdict := "harmless"
		switch {
		case r.Exit == 0 && g.layer:
			t.Errorf("%s: a damaged image was used", name)
		case r.Exit == 0:
			if !slices.Equal(r.built(), v.artifacts) {
				t.Errorf("%s: the result is another one: %v", name, r.built())
			}
			if strings.Contains(r.stderr, "warning: ") {
				verdict = "mended"
			}
		case r.Class == "internal", r.Class == "build", r.Error.Message == "":
			t.Errorf("%s: exit code %d: %s", name, r.Exit, r.Error.Message)
		default:
			verdict = "refused: " + r.Class
			// What is refused is this file, not what is left of the one before.
			_, in, _ := strings.Cut(path, "/root/")
			if g.layer && (r.Exit != exitTrust || !strings.Contains(r.Error.Message, in) && !strings.Contains(r.Error.Message, strconv.Quote(filepath.Dir(in)))) {
				t.Errorf("%s: exit code %d: %s", name, r.Exit, r.Error.Message)
			}
		}
		verdicts[verdict]++
		t.Logf("%s: %s: %s", name, verdict, r.Error.Message)
		must(t, back())
		v.mend(t)
	}
	t.Log(verdicts)
	if verdicts["harmless"] == 0 {
		t.Error("nothing was harmless, as if the state had never been mended")
	}
	must(t, os.RemoveAll(pool), os.Rename(v.state+".pool", pool))
	if r := v.build(t); r.Exit != 0 || !r.Deps.Hit || !slices.Equal(r.built(), v.artifacts) {
		t.Errorf("in the end: result %+v", r)
	}
}

// group is a part of the state with its regular files.
type group struct {
	layer bool
	files []string
}

// groups are taken in turn, so that the thousands of files of the layers do not
// hide the rest.
func (v *victim) groups(t *testing.T) (all []group) {
	for _, g := range []struct {
		layer bool
		paths []string
	}{
		{true, []string{v.base.layer, v.deps.layer}},
		{false, []string{v.path("images/head"), v.path("images/statements"), v.path("images/records"), v.path("images/store.json")}},
		{false, []string{v.path("dbuild.db"), v.path("format"), v.path("keys")}},
		{true, []string{v.base.layer, v.deps.layer}},
		{false, []string{v.path("images/head"), v.path("images/statements"), v.path("images/records"), v.path("images/store.json")}},
		{false, []string{v.path("archive"), v.path("images/locks"), v.path("locks")}},
	} {
		one := group{layer: g.layer}
		for _, root := range g.paths {
			must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
				if err == nil && d.Type().IsRegular() {
					one.files = append(one.files, path)
				}
				return err
			}))
		}
		slices.Sort(one.files)
		if len(one.files) == 0 {
			t.Fatalf("no files in %q", g.paths)
		}
		all = append(all, one)
	}
	return all
}

// mutate damages one file. An empty one can only be renamed or closed.
func mutate(random *rand.Rand, path string) (what string, back undo, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", nil, err
	}
	kind := random.IntN(5)
	if info.Size() == 0 && kind < 2 {
		kind += 2
	}
	switch kind {
	case 0:
		at := random.Int64N(info.Size())
		back, err = edit(path, at)
		return fmt.Sprintf("byte %d changed", at), back, err
	case 1:
		data, err := os.ReadFile(path)
		if err != nil {
			return "", nil, err
		}
		size := random.Int64N(info.Size())
		back := func() error {
			return errors.Join(os.WriteFile(path, data, info.Mode().Perm()), os.Chtimes(path, info.ModTime(), info.ModTime()))
		}
		return fmt.Sprintf("cut to %d bytes", size), back, os.Truncate(path, size)
	case 2:
		back, err = move(path, filepath.Join(os.Getenv(workRootVar), "gone"))
		return "deleted", back, err
	case 3:
		back, err = move(path, path+".x")
		return "renamed", back, err
	default:
		bits := uint32(1) << random.IntN(9)
		back, err = chmod(path, bits)
		return fmt.Sprintf("mode bit %03o changed", bits), back, err
	}
}
