package repo

import (
	"context"
	"os"
	"path"
	"slices"
	"time"

	"dbuild/deb"
)

// change is the difference between two generations of a suite.
type change struct {
	suite     Suite
	from      generation
	drop, add []entry
	// Architectures and components that must be there beside those of the
	// generation before.
	architectures, components []string
	// Anew asks for a new generation even if nothing else differs.
	anew bool
}

// header returns the architectures and components that the change asks for
// and the generation before does not have.
func (ch change) header() (architectures, components []string) {
	haveA, haveC := draft{suite: Suite{}, from: ch.from}.header()
	wantA, wantC := draft{suite: ch.suite, pending: pending{architectures: ch.architectures, components: ch.components}}.header()
	return without(wantA, haveA), without(wantC, haveC)
}

func without(list, gone []string) []string {
	return slices.DeleteFunc(list, func(s string) bool { return slices.Contains(gone, s) })
}

// empty tells whether the next generation would equal the one before.
func (ch change) empty() bool {
	architectures, components := ch.header()
	return ch.from.n > 0 && len(ch.drop)+len(ch.add)+len(architectures)+len(components) == 0
}

// plan compares a checked upload with the suite: what leaves it beside what
// the items replace, and for each item the entry whose place it takes (the
// zero entry for a new one). It fails with a [RejectedError].
func (r *Repo) plan(ctx context.Context, s Suite, cur generation, c checked) (ch change, olds []entry, err error) {
	ch = change{suite: s, from: cur, architectures: c.Architectures}
	if err := s.fixed(); err != nil {
		return ch, nil, err
	}
	g := &gate{upload: c.Upload}
	mine, err := r.rows(ctx, s.Name, `e.source = ?`, c.Source)
	if err != nil {
		return ch, nil, err
	}
	for i, it := range c.items {
		ch.components = append(ch.components, it.component)
		if it.arch != "all" && it.arch != archSource {
			ch.architectures = append(ch.architectures, it.arch)
		}
		same, err := r.rows(ctx, s.Name, `e.kind = ? AND e.name = ? AND e.arch = ?`, it.kind, it.name, it.arch)
		if err != nil {
			return ch, nil, err
		}
		if slices.ContainsFunc(same, func(e entry) bool { return r.adopt(&it, e) }) {
			c.items[i] = it
		}
		olds = append(olds, g.compareWithSuite(s, it, same))
		if err := g.compareSources(it, mine); err != nil {
			return ch, nil, err
		}
	}
	if !s.Immutable && c.Changes.Data != nil {
		ch.drop = superseded(mine, c.all)
	}
	ch.drop = append(ch.drop, s.outdatedBy(c.items, olds, exceptEntries(mine, ch.drop), r.now())...)
	return ch, olds, g.rejected()
}

// compareWithSuite returns the entry whose place an item takes, if any. same
// are the entries of its kind, name and architecture.
func (g *gate) compareWithSuite(s Suite, it item, same []entry) (old entry) {
	highest := it.version
	for _, e := range same {
		if deb.CompareVersions(e.version, highest) > 0 {
			highest = e.version
		}
		if e.fileName() != it.fileName() {
			continue
		}
		switch {
		case e.source != it.source:
			g.reject(Problem{Code: CodeTaken, File: it.fileName(), Text: "by source " + e.source})
		case e.version != it.version:
			g.reject(Problem{Code: CodeTaken, File: it.fileName(), Text: "by version " + e.version})
		case s.Immutable && e.component != it.component:
			g.reject(Problem{Code: CodeTaken, File: it.fileName(), Text: "in component " + e.component})
		case s.Immutable && e.sha256 != it.sha256:
			g.reject(Problem{Code: CodeImmutable, File: it.fileName(), Want: e.sha256, Got: it.sha256})
		}
		old = e
	}
	if s.Rising && highest != it.version && old.sha256 == "" {
		g.reject(Problem{Code: CodeOlder, File: it.fileName(), Want: highest, Got: it.version, Text: "below the highest version"})
	}
	return old
}

// compareSources looks for files that an item shares with other versions of
// the source, such as its upstream tarball: they must have the same bytes.
// mine are the suite's entries of the same source.
func (g *gate) compareSources(it item, mine []entry) error {
	if it.kind != kindSource {
		return nil
	}
	for _, e := range mine {
		if e.kind != kindSource || e.version == it.version {
			continue
		}
		files, err := e.sourceFiles()
		if err != nil {
			return err
		}
		for _, f := range files {
			i := slices.IndexFunc(it.files, func(m measured) bool { return m.Name == f.Name })
			if i >= 0 && it.files[i].SHA256 != f.SHA256 {
				g.reject(Problem{Code: CodeShared, File: f.Name, Text: "used by version " + e.version, Want: f.SHA256, Got: it.files[i].SHA256})
			}
		}
	}
	return nil
}

// superseded are packages that an earlier build of the same source version
// made for the same architecture and this build no longer makes: a debug
// package of the old bytes must not stay beside the new ones.
func superseded(mine []entry, items []item) []entry {
	type made struct{ version, arch, sourceVersion string }
	now := map[made]bool{}
	listed := map[id]bool{}
	for _, it := range items {
		if it.kind != kindSource {
			now[made{it.version, it.arch, it.sourceVersion}] = true
		}
		listed[it.id()] = true
	}
	var out []entry
	for _, e := range mine {
		if e.kind != kindSource && !listed[e.id()] && now[made{e.version, e.arch, e.sourceVersion}] {
			out = append(out, e)
		}
	}
	return out
}

// exceptEntries are the entries that are not among others.
func exceptEntries(all, others []entry) []entry {
	return slices.DeleteFunc(slices.Clone(all), func(e entry) bool {
		return slices.ContainsFunc(others, func(o entry) bool { return o.id() == e.id() })
	})
}

// outdatedBy returns what the rules let go when items come, each into the place
// of its old entry. mine are the entries of the same source that stay so far.
func (s Suite) outdatedBy(items []item, olds, mine []entry, now time.Time) []entry {
	fresh, there := map[id]bool{}, []entry{}
	for i, it := range items {
		fresh[it.id()] = true
		e := it.entry
		if e.added = now.Unix(); olds[i].sha256 == it.sha256 {
			e.added = olds[i].added
		}
		there = append(there, e)
	}
	for _, e := range mine {
		if !fresh[e.id()] {
			there = append(there, e)
		}
	}
	return s.outdated(there, fresh, now)
}

// present tells whether the files of an item are where its entry says, with
// the right sizes: what somebody deleted is put back.
func (r *Repo) present(it item, e entry) bool {
	for _, m := range it.files {
		fi, err := os.Lstat(r.path(path.Join(path.Dir(e.filePath()), m.Name)))
		if err != nil || fi.Size() != m.Size {
			return false
		}
	}
	return true
}
