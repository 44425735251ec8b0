package archive

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"dbuild/deb"
	"dbuild/internal/fault"
	"dbuild/internal/report"
)

// compressions are the forms of an index, the quickest to unpack first. The
// plain one comes last: archives list it but few have the file.
var compressions = []string{".gz", ".xz", ".zst", ""}

// indexName is the name of an index in the Release of its source; arch is an
// architecture, "all" or "source".
func (s Source) indexName(component, arch string) string {
	switch {
	case s.Flat && arch == "source":
		return "Sources"
	case s.Flat:
		return "Packages"
	case arch == "source":
		return component + "/source/Sources"
	}
	return component + "/binary-" + arch + "/Packages"
}

// indexes lists the indexes that the Release of st has for arches, without
// those of size 0.
func (st *State) indexes(arches []string) ([]string, error) {
	components := st.Source.Components
	if st.Source.Flat {
		components = []string{""}
	}
	if st.allArch() && slices.ContainsFunc(arches, func(a string) bool { return a != "source" }) {
		arches = append(slices.Clone(arches), "all")
	}
	var names []string
	for _, component := range components {
		for _, arch := range arches {
			name := st.Source.indexName(component, arch)
			row, err := st.index(name)
			if err != nil {
				return nil, err
			}
			if row.Size > 0 && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

// index returns the row of the uncompressed form of an index, zero when the
// Release does not list it. apt wants that row too, whatever form it fetches.
func (st *State) index(name string) (deb.IndexFile, error) {
	row, ok := st.Release.Files[name]
	if ok {
		return row, checkSHA256(row.SHA256)
	}
	for _, ext := range compressions {
		if _, ok := st.Release.Files[name+ext]; ok {
			return row, fault.New(fault.Input, "Release of %s lists %q but not %q", st.Source.label(), name+ext, name)
		}
	}
	return row, nil
}

// Packages returns the path of the verified, uncompressed index of a component
// and architecture, which it fetches if need be; arch "source" stands for
// Sources. The path is "" if the Release lists none or an empty one.
//
// When the mirror is in the midst of an update, *st becomes the newer state.
// So Packages must not be called on one State from several goroutines; call
// [Copy.Prefetch] before, which fetches what they need.
func (c *Copy) Packages(ctx context.Context, st *State, component, arch string) (string, error) {
	name := st.Source.indexName(component, arch)
	err := c.settle(ctx, []*State{st}, func(*State) ([]string, error) {
		row, err := st.index(name)
		if err != nil || row.Size == 0 {
			return nil, err
		}
		return []string{name}, nil
	})
	if err != nil {
		return "", err
	}
	row, err := st.index(name)
	if err != nil || row.Size == 0 {
		return "", err
	}
	return c.indexPath(row.SHA256), nil
}

// PackageIndexes returns the paths of all indexes in which apt would look for
// binary packages of an architecture in st: of each component, and of a flat
// source its one. It is [Copy.Packages] for each.
func (c *Copy) PackageIndexes(ctx context.Context, st *State, arch string) (paths []string, err error) {
	components, arches := st.Source.Components, []string{arch}
	if st.Source.Flat {
		components = []string{""}
	} else if st.allArch() {
		arches = append(arches, "all")
	}
	for _, component := range components {
		for _, a := range arches {
			path, err := c.Packages(ctx, st, component, a)
			if err != nil {
				return nil, err
			}
			if path != "" {
				paths = append(paths, path)
			}
		}
	}
	return paths, nil
}

// Prefetch fetches the indexes of all components of sts for arches, in
// parallel; "source" among arches stands for Sources. An index that a Release
// does not list is passed over. When a mirror is in the midst of an update,
// the states of sts become the newer ones; no state is left with indexes of
// two.
func (c *Copy) Prefetch(ctx context.Context, sts []*State, arches []string) error {
	return c.settle(ctx, sts, func(st *State) ([]string, error) { return st.indexes(arches) })
}

// fetchIndexes makes one attempt at all indexes that are not there yet.
func (c *Copy) fetchIndexes(ctx context.Context, sts []*State, names func(*State) ([]string, error)) error {
	var jobs []indexJob
	meter := &meter{report: c.opt.Report, label: "indexes", unit: report.Bytes}
	for _, st := range sts {
		list, err := names(st)
		if err != nil {
			return err
		}
		for _, name := range list {
			j := c.newIndexJob(st, name)
			if have, err := c.have(j.final, j.plain.SHA256, j.plain.Size); err != nil {
				return err
			} else if !have {
				jobs = append(jobs, j)
				meter.total += j.forms[0].row.Size
			}
		}
	}
	// The largest first, so that none is left to go on alone at the end.
	slices.SortFunc(jobs, func(a, b indexJob) int { return int(b.plain.Size - a.plain.Size) })
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(c.parallel)
	for _, j := range jobs {
		g.Go(func() error { return c.fetchIndex(gctx, j, meter.add) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	meter.finish()
	return nil
}

// indexJob is one index to fetch, in the forms that the Release offers.
type indexJob struct {
	st    *State
	name  string
	plain deb.IndexFile
	final string
	forms []indexForm
}

type indexForm struct {
	ext  string
	row  deb.IndexFile
	urls []string // by hash first, if the archive has that
}

func (c *Copy) newIndexJob(st *State, name string) indexJob {
	plain := st.Release.Files[name]
	j := indexJob{st: st, name: name, plain: plain, final: c.indexPath(plain.SHA256)}
	for _, ext := range compressions {
		row, ok := st.Release.Files[name+ext]
		if !ok || row.Size == 0 {
			continue
		}
		dir := st.Source.dir()
		f := indexForm{ext: ext, row: row}
		if st.Release.ByHash {
			f.urls = append(f.urls, st.Source.fileURL(dir, path.Dir(name), "by-hash/SHA256", row.SHA256))
		}
		f.urls = append(f.urls, st.Source.fileURL(dir, name+ext))
		j.forms = append(j.forms, f)
	}
	return j
}

// fetchIndex brings one index in place: the best form, by hash, then under its
// plain name; other forms only if the server does not have that one.
func (c *Copy) fetchIndex(ctx context.Context, j indexJob, count func(int64)) (err error) {
	label := j.st.Source.label() + " " + j.name
	p, err := c.claim(ctx, j.final, label, func() (bool, error) { return c.have(j.final, j.plain.SHA256, j.plain.Size) })
	if err != nil || p == nil {
		return err
	}
	missing := false
	for _, f := range j.forms {
		for i, url := range f.urls {
			err = c.obtainIndex(ctx, p, j, f, url, count)
			byHash := i < len(f.urls)-1
			switch {
			case err == nil:
				return p.install()
			case isGone(err):
				missing = missing || byHash
				continue
			case errors.Is(err, ErrMismatch) && !byHash:
				err = &staleError{st: j.st, err: err, certain: missing}
			}
			return errors.Join(err, p.drop())
		}
	}
	return errors.Join(&staleError{st: j.st, err: err, certain: true}, p.drop())
}

// obtainIndex fetches one form from one URL, and once more past all caches if
// it does not match.
func (c *Copy) obtainIndex(ctx context.Context, p *part, j indexJob, f indexForm, url string, count func(int64)) error {
	var err error
	for _, fresh := range []bool{false, true} {
		err = c.client.retry(ctx, func() error {
			if err := p.reset(); err != nil {
				return err
			}
			var got atomic.Int64
			err := c.unpackIndex(ctx, p, j, f, request{url: url, fresh: fresh}, func(n int64) { got.Add(n); count(n) })
			if err != nil {
				count(-got.Load())
				return fmt.Errorf("%s: %w", j.name, err)
			}
			return nil
		})
		if !errors.Is(err, ErrMismatch) {
			return err
		}
	}
	return err
}
