package repo

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var packagesIndex = index{"main", kindDeb, "amd64"}

// sample is an entry without a file.
func sample(name, version string) entry {
	s := stanza{
		kind: kindDeb, name: name, version: version, arch: "amd64", source: name, sourceVersion: version,
		section: "misc", sha256: sha([]byte(name + version)), size: 1000,
	}
	s.text = fmt.Appendf(nil, "Package: %s\nVersion: %s\nArchitecture: amd64\nSection: misc\nDescription: sample\n", name, version)
	return entry{stanza: s, component: "main", path: poolDir("bookworm", "main", name) + "/" + s.fileName()}
}

// change brings entries into bookworm, and others out of it.
func (e *env) change(t testing.TB, drop, add []entry) {
	t.Helper()
	e.clock.time = e.clock.time.Add(time.Second)
	_, err := e.update(t.Context(), DefaultSuite("bookworm"), func(_ *writer, s Suite, cur generation) (change, error) {
		return change{suite: s, from: cur, drop: drop, add: add}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (e *env) shards(t testing.TB) []shard {
	t.Helper()
	all, err := readTail(t.Context(), e.db, DefaultSuite("bookworm"), packagesIndex, nil)
	if err != nil {
		t.Fatal(err)
	}
	return all.shards
}

// allShards are the shards as an index that is made anew has them.
func (e *env) allShards(t testing.TB) (all []shard) {
	t.Helper()
	err := e.write(t.Context(), func(w *writer) (err error) {
		all, err = w.makeShards(t.Context(), w.db, assembly{suite: DefaultSuite("bookworm"), index: packagesIndex}, span{})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// shardNames are names of which about one in eight starts a shard.
func shardNames(n int) (names []string) {
	starts := 0
	for i := 0; len(names) < n; i++ {
		name := fmt.Sprintf("sample-%05d", i)
		if startsShard(sample(name, "1")) {
			starts++
		} else if len(names)-starts > 7*(starts+1) {
			continue
		}
		names = append(names, name)
	}
	return names
}

// However an index came to be, its shards are those of one made anew.
func TestShardsDependOnEntriesOnly(t *testing.T) {
	e := newEnv(t)
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // wants to be the same each time
	names := shardNames(80)
	there := map[string]entry{}
	most := 0
	for round := range 60 {
		var drop, add []entry
		for _, i := range random.Perm(len(names))[:1+random.IntN(6)] {
			name := names[i]
			e, ok := there[name]
			if ok && (round > 40 || random.IntN(3) == 0) {
				drop = append(drop, e)
				delete(there, name)
			} else if !ok {
				there[name] = sample(name, "1")
				add = append(add, there[name])
			}
		}
		e.change(t, drop, add)
		got := e.shards(t)
		if diff := cmp.Diff(e.allShards(t), got, cmp.AllowUnexported(shard{}, part{})); diff != "" {
			t.Fatalf("round %d: shards (-made anew +kept):\n%s", round, diff)
		}
		most = max(most, len(got))
		cur, err := e.current("bookworm")
		if err != nil {
			t.Fatal(err)
		}
		entries, err := e.readIndex("bookworm", cur, packagesIndex.path())
		if err != nil || len(entries) != len(there) {
			t.Fatalf("round %d: %d entries of %d, %v", round, len(entries), len(there), err)
		}
		files, err := os.ReadDir(filepath.Join(e.Dir(), shardDir("bookworm")))
		if err != nil || len(files) != len(got) {
			t.Fatalf("round %d: %d files of %d shards, %v", round, len(files), len(got), err)
		}
	}
	if most < 4 {
		t.Errorf("never more than %d shards", most)
	}
}

func TestSpans(t *testing.T) {
	shards := []shard{{first: 3}, {first: 6}, {first: 11}, {first: 16}}
	for _, tt := range []struct {
		name    string
		serials []int64
		want    []span
	}{
		{"none", nil, nil},
		{"before the first", []int64{1}, []span{{0, 1, 0, 6}}},
		{"inside", []int64{7}, []span{{1, 2, 6, 11}}},
		{"the last", []int64{26}, []span{{3, 4, 16, 0}}},
		{"one that starts", []int64{11}, []span{{1, 3, 6, 16}}},
		{"the very first", []int64{3}, []span{{0, 1, 0, 6}}},
		{"two apart", []int64{4, 17}, []span{{0, 1, 0, 6}, {3, 4, 16, 0}}},
		{"neighbours", []int64{4, 7, 12}, []span{{0, 3, 0, 16}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, spans(shards, tt.serials), cmp.AllowUnexported(span{})); diff != "" {
				t.Errorf("spans (-want +got):\n%s", diff)
			}
		})
	}
	if diff := cmp.Diff([]span{{}}, spans(nil, []int64{1}), cmp.AllowUnexported(span{})); diff != "" {
		t.Errorf("spans of an empty index (-want +got):\n%s", diff)
	}
}

// Shards are a cache: a publish does not believe one that was damaged, and
// needs none.
func TestDamagedShards(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(path string) error
	}{
		{"removed", os.Remove},
		{"cut", func(p string) error { return os.Truncate(p, 100) }},
		{"changed", func(p string) error {
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			for i := range b {
				b[i] ^= 1
			}
			return os.WriteFile(p, b, 0o644)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEnv(t)
			var all []entry
			for _, name := range shardNames(60) {
				all = append(all, sample(name, "1"))
			}
			e.change(t, nil, all)
			for _, s := range e.shards(t) {
				if err := tt.damage(filepath.Join(e.Dir(), shardPath("bookworm", s.sum))); err != nil {
					t.Fatal(err)
				}
			}
			e.change(t, nil, []entry{sample("sample-00000", "2")})
			cur, err := e.current("bookworm")
			if err != nil {
				t.Fatal(err)
			}
			entries, err := e.readIndex("bookworm", cur, packagesIndex.path())
			if err != nil || len(entries) != len(all)+1 {
				t.Errorf("%d entries, %v", len(entries), err)
			}
		})
	}
}

// The beginning of an index is copied from the one before; one that was damaged
// is noticed, and so is a damaged state of its hash.
func TestDamagedBeginning(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(t *testing.T, e *env)
	}{
		{"removed", func(t *testing.T, e *env) { e.eachIndex(t, os.Remove) }},
		{"cut", func(t *testing.T, e *env) { e.eachIndex(t, func(p string) error { return os.Truncate(p, 5) }) }},
		{"changed", func(t *testing.T, e *env) {
			e.eachIndex(t, func(p string) error {
				b := readFile(t, p)
				b[len(b)/4] ^= 1
				return os.WriteFile(p, b, 0o644)
			})
		}},
		{"state", func(t *testing.T, e *env) {
			if _, err := e.db.ExecContext(t.Context(), `UPDATE repo_shard SET ends = replace(ends, '1', '2')`); err != nil {
				t.Fatal(err)
			}
		}},
		{"no state", func(t *testing.T, e *env) {
			if _, err := e.db.ExecContext(t.Context(), `UPDATE repo_shard SET ends = '', parts = '[]'`); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEnv(t)
			var all []entry
			for _, name := range shardNames(60) {
				all = append(all, sample(name, "1"))
			}
			e.change(t, nil, all)
			tt.damage(t, e)
			e.change(t, nil, []entry{sample("one-more", "1")})
			entries, err := e.readIndex("bookworm", e.cur(t), packagesIndex.path())
			if err != nil || len(entries) != len(all)+1 {
				t.Errorf("%d entries, %v", len(entries), err)
			}
		})
	}
}

// eachIndex does something with each stored form of the Packages of bookworm.
func (e *env) eachIndex(t *testing.T, do func(path string) error) {
	t.Helper()
	for p, row := range e.cur(t).release.Files {
		if stored(p) && strings.HasPrefix(p, packagesIndex.path()) {
			if err := do(filepath.Join(e.Dir(), byHashPath("bookworm", row.SHA256))); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A change reads the rows of its own shards and of no other.
func TestChangeReadsItsShardsOnly(t *testing.T) {
	e := newEnv(t)
	var all []entry
	for _, name := range shardNames(60) {
		all = append(all, sample(name, "1"))
	}
	e.change(t, nil, all)
	before := e.shards(t)
	// What is not read is not missed.
	last := before[len(before)-1]
	if _, err := e.db.ExecContext(t.Context(), `DELETE FROM repo_entry WHERE serial < ?`, last.first); err != nil {
		t.Fatal(err)
	}
	// Nor are the files of shards that nothing comes behind.
	for _, s := range before[:len(before)-1] {
		if err := os.Remove(filepath.Join(e.Dir(), shardPath("bookworm", s.sum))); err != nil {
			t.Fatal(err)
		}
	}
	e.change(t, nil, []entry{sample("one-more", "2")})
	after := e.shards(t)
	if len(after) != len(before) || after[0] != before[0] || after[len(after)-1] == last {
		t.Errorf("shards before:\n%v\nand after:\n%v", before, after)
	}
	entries, err := e.readIndex("bookworm", e.cur(t), packagesIndex.path())
	if err != nil || len(entries) != len(all)+1 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
}
