package repo

import (
	"context"
	"path"
	"slices"

	"dbuild/internal/fault"
)

// Copying names what is to be copied from one suite into another.
type Copying struct {
	Selection        // Suite is the one to copy from
	To        string // an existing suite
}

// Copy lists packages of one suite in another as well, all in one generation,
// and returns them as they are there. It is the same files that both suites
// list, so the bytes are the same. The rules of the other suite hold as for an
// upload; what breaks them is refused with a [RejectedError] of class input, and
// then nothing is copied. What is there already is left alone.
func (r *Repo) Copy(ctx context.Context, c Copying) (copied []Package, err error) {
	if c.Suite == "" || c.To == "" || len(c.Names) == 0 {
		return nil, fault.New(fault.Usage, "copy: no suite or no package given")
	}
	if c.Suite == c.To {
		return nil, fault.New(fault.Usage, "copy: %q is both the suite to copy from and to", c.To)
	}
	for _, suite := range []string{c.Suite, c.To} {
		if _, err := r.queried(suite); err != nil {
			return nil, err
		}
	}
	_, err = r.update(ctx, DefaultSuite(c.To), func(w *writer, s Suite, cur generation) (change, error) {
		ch := change{suite: s, from: cur}
		if _, _, err := w.openSuite(ctx, DefaultSuite(c.Suite)); err != nil {
			return ch, err
		}
		chosen, err := w.selectedAll(ctx, c.Selection)
		if err != nil {
			return ch, err
		}
		for _, e := range chosen {
			copied = append(copied, e.listed(c.To))
		}
		return ch, w.planCopy(ctx, &ch, chosen)
	})
	if err != nil {
		return nil, err
	}
	return copied, nil
}

// planCopy adds entries of another suite to a change, source by source, as if
// each were an upload.
func (w *writer) planCopy(ctx context.Context, ch *change, chosen []entry) error {
	for _, source := range sources(chosen) {
		var c checked
		c.Upload = Upload{Suite: ch.suite.Name, Source: source}
		for _, e := range chosen {
			if e.source != source {
				continue
			}
			it := item{entry: e}
			rows, err := e.sourceRows()
			if err != nil {
				return err
			}
			for _, row := range rows {
				pooled := w.path(path.Join(path.Dir(e.filePath()), row.Name))
				it.files = append(it.files, measured{File: File{Name: row.Name, Path: pooled, Size: row.Size, SHA256: row.SHA256}, md5: row.MD5})
			}
			c.items = append(c.items, it)
		}
		some, olds, err := w.plan(ctx, ch.suite, ch.from, c)
		if err != nil {
			return err
		}
		ch.architectures = append(ch.architectures, some.architectures...)
		ch.components = append(ch.components, some.components...)
		for i, it := range c.items {
			if olds[i].sha256 == it.sha256 && olds[i].component == it.component {
				continue
			}
			if olds[i].sha256 != "" {
				ch.drop = append(ch.drop, olds[i])
			}
			ch.add = append(ch.add, it.entry)
		}
	}
	return nil
}

// sources are the names of the sources of entries.
func sources(entries []entry) (names []string) {
	for _, e := range entries {
		names = append(names, e.source)
	}
	return union(names)
}

// selectedAll are the entries that the names of a selection mean, each once.
func (r *Repo) selectedAll(ctx context.Context, sel Selection) (chosen []entry, err error) {
	for _, name := range union(sel.Names) {
		some, err := r.selected(ctx, sel, name)
		if err != nil {
			return nil, err
		}
		for _, e := range some {
			if !slices.ContainsFunc(chosen, func(d entry) bool { return d.id() == e.id() }) {
				chosen = append(chosen, e)
			}
		}
	}
	return chosen, nil
}
