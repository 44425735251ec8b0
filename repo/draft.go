package repo

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"dbuild/deb"
)

// draft is the next generation of a suite in the making: the one before, and
// what the database has recorded since then.
type draft struct {
	suite Suite
	from  generation
	pending
}

// pending are the recorded changes of a suite that no client sees yet.
type pending struct {
	tickets                   []int64 // of the records, rising
	touched                   []touch
	architectures, components []string
}

// touch says that the entry of a serial came or went. One of architecture all
// is in the index of each.
type touch struct {
	component string
	kind      kind
	arch      string
	serial    int64
}

func (t touch) in(x index) bool {
	return t.component == x.component && t.kind == x.lists() && x.has(t.arch)
}

// header returns the next generation's architectures and components, which
// only ever grow.
func (d draft) header() (architectures, components []string) {
	architectures = union(d.suite.Architectures, d.architectures)
	components = union(d.suite.Components, d.components)
	if d.from.n > 0 {
		architectures = union(architectures, without(slices.Clone(d.from.release.Architectures), []string{"all"}))
		components = union(components, d.from.release.Components)
	}
	return architectures, components
}

// indexes are those of the new generation: for each component its sources and
// its packages for each architecture, even when empty, so that apt has nothing
// to complain of; and the installer's only where there are some.
func (d draft) indexes() []index {
	architectures, components := d.header()
	var all []index
	for _, c := range components {
		all = append(all, index{c, kindSource, archSource})
		udebs := d.hasUdebs(c)
		for _, a := range architectures {
			all = append(all, index{c, kindDeb, a})
			if udebs {
				all = append(all, index{c, kindUdeb, a})
			}
			if d.suite.Contents {
				all = append(all, index{c, kindContents, a})
			}
		}
		if d.suite.Contents {
			all = append(all, index{c, kindContents, "all"})
		}
		if d.suite.Translations {
			all = append(all, index{c, kindTranslation, ""})
		}
	}
	return all
}

func (d draft) hasUdebs(component string) bool {
	if d.from.n > 0 {
		for p := range d.from.release.Files {
			if strings.HasPrefix(p, component+"/debian-installer/") {
				return true
			}
		}
	}
	return slices.ContainsFunc(d.touched, func(t touch) bool { return t.kind == kindUdeb && t.component == component })
}

// rows returns the rows of an index that the generation before has, if that
// index was made by the same rules.
func (d draft) rows(x index) (rows []deb.IndexFile, ok bool) {
	if d.from.n == 0 {
		return nil, false
	}
	if x.kind == kindDeb { // whose descriptions are elsewhere, or were
		_, had := d.from.release.Files[index{component: x.component, kind: kindTranslation}.path()]
		if had != d.suite.Translations {
			return nil, false
		}
	}
	for _, form := range d.suite.forms() {
		row, ok := d.from.release.Files[x.path()+form]
		if !ok {
			return nil, false
		}
		row.Path = x.path() + form
		rows = append(rows, row)
	}
	return rows, true
}

// serials are those that were touched in an index.
func (d draft) serials(x index) (serials []int64) {
	for _, t := range d.touched {
		if t.in(x) {
			serials = append(serials, t.serial)
		}
	}
	slices.Sort(serials)
	return slices.Compact(serials)
}

// newTail is the end of an index as the generation in the making has it, and
// the shards in whose place it comes.
type newTail struct {
	index       index
	old, shards []shard
	ends        []marks
}

// gone are the shards that are in the new tail no more.
func (t newTail) gone() []shard {
	return slices.DeleteFunc(slices.Clone(t.old), func(s shard) bool { return slices.Contains(t.shards, s) })
}

// writeIndexes makes the indexes of a draft and returns all of its rows, sorted
// by path, and the tails of those that were made. Indexes that were not touched
// keep their rows and files.
func (w *writer) writeIndexes(ctx context.Context, q querier, d draft) (rows []deb.IndexFile, tails []newTail, err error) {
	for _, dir := range []string{path.Join(byHashDir(d.suite.Name), "SHA256"), shardDir(d.suite.Name)} {
		if err := w.disk.mkdirAll(dir); err != nil {
			return nil, nil, err
		}
	}
	for _, x := range d.indexes() {
		made, tail, err := w.writeIndex(ctx, q, d, x)
		if err != nil {
			return nil, nil, fmt.Errorf("write index %q: %w", x.path(), err)
		}
		rows = append(rows, made...)
		if tail != nil {
			tails = append(tails, *tail)
		}
	}
	slices.SortFunc(rows, func(a, b deb.IndexFile) int { return strings.Compare(a.Path, b.Path) })
	return rows, tails, nil
}

// writeIndex makes one index from the shards of the generation before and the
// rows that were touched, or from all of its rows if those shards cannot be
// used. There is no tail if nothing was touched.
func (w *writer) writeIndex(ctx context.Context, q querier, d draft, x index) (rows []deb.IndexFile, t *newTail, err error) {
	before, ok := d.rows(x)
	serials := d.serials(x)
	if ok && len(serials) == 0 {
		return before, nil, nil
	}
	old, err := readTail(ctx, q, d.suite, x, serials)
	if err != nil {
		return nil, nil, err
	}
	a := assembly{suite: d.suite, index: x, base: old.base, head: old.head, before: before}
	err = errNoShard
	if ok && old.fits(before) {
		if a.shards, err = w.remake(ctx, q, a, old.shards, serials); err == nil {
			err = w.assemble(ctx, &a)
		}
	}
	if errors.Is(err, errNoShard) {
		a = assembly{suite: d.suite, index: x}
		if old, err = readTail(ctx, q, d.suite, x, nil); err != nil {
			return nil, nil, err
		}
		if a.shards, err = w.makeShards(ctx, q, a, span{}); err == nil {
			err = w.assemble(ctx, &a)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	return a.rows, &newTail{x, old.shards, a.shards, a.ends}, nil
}
