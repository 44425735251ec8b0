package repo

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkPublish measures one build's publish into suites of several sizes:
// a process of its own opens the repository, as each build does.
func BenchmarkPublish(b *testing.B) {
	for _, n := range []int{0, 1000, 4000, 60000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			e := newEnv(b)
			fill(b, e, n)
			var uploads []Upload
			for i := range b.N {
				v := fmt.Sprintf("3-%d", i)
				uploads = append(uploads, upload(b, v, append(source(b, v, "orig", v), pkg{version: v}.build(b))...))
			}
			b.ResetTimer()
			for _, u := range uploads {
				publishAfresh(b, e, u)
			}
		})
	}
}

// BenchmarkPublishNothing measures the publish of what the suite has.
func BenchmarkPublishNothing(b *testing.B) {
	e := newEnv(b)
	fill(b, e, 60000)
	u := upload(b, "2.10-3", append(source(b, "2.10-3", "orig", "debian"), pkg{}.build(b))...)
	publishAfresh(b, e, u)
	e.before = func(op, path string) error {
		b.Errorf("%s %s", op, path)
		return nil
	}
	b.ResetTimer()
	for range b.N {
		publishAfresh(b, e, u)
	}
}

func publishAfresh(b *testing.B, e *env, u Upload) {
	b.Helper()
	e.clock.time = e.clock.time.Add(time.Second)
	r, err := Open(b.Context(), filepath.Join(e.state, "repo"), e.db, key(b), Options{Now: e.clock.now})
	if err != nil {
		b.Fatal(err)
	}
	r.before = e.before
	if _, err := r.Publish(b.Context(), u); err != nil {
		b.Fatal(err)
	}
}

// fill brings n packages into bookworm of which there are only the rows, with
// stanzas of the size of Debian's.
func fill(b *testing.B, e *env, n int) {
	b.Helper()
	var add []entry
	for i := range n {
		name := fmt.Sprintf("sample-%05d", i)
		s := stanza{
			kind: kindDeb, name: name, version: "1.0-1", arch: "amd64", source: name, sourceVersion: "1.0-1",
			section: "misc", sha256: sha([]byte(name)), size: 1000 + int64(i),
		}
		s.text = fmt.Appendf(nil, "Package: %s\nVersion: 1.0-1\nArchitecture: amd64\nMaintainer: A Maintainer <a@example.org>\nInstalled-Size: %d\nDepends: libc6 (>= 2.3%d), libsample%d (>= 1.%d)\nSection: misc\nPriority: optional\nHomepage: https://example.org/%x\nDescription: sample number %d\n It is number %x of many, with a text about as long\n as those of the packages in a real archive, %s,\n so that there is something to compress and to hash.\n",
			name, i, i%7, i/100, i%10, i*7919, i, i*104729, s.sha256[:20])
		add = append(add, entry{stanza: s, component: "main", path: poolDir("bookworm", "main", name) + "/" + s.fileName()})
	}
	_, err := e.update(b.Context(), DefaultSuite("bookworm"), func(_ *writer, s Suite, cur generation) (change, error) {
		return change{suite: s, from: cur, add: add}, nil
	})
	if err != nil {
		b.Fatal(err)
	}
}
