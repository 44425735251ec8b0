package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"

	"dbuild/internal/fault"
)

// Publish puts an upload into its suite and returns when clients see it and a
// power cut cannot undo it. It is atomic: whatever fails, and wherever it is
// killed, clients see the old suite or the new one. Publishing what the suite
// holds already changes nothing. An upload that does not agree with itself or
// with the suite is refused with a [RejectedError]; nothing is kept of it.
//
// A suite has at most one generation per second. Uploads that come faster, also
// those of other processes, become one generation together. Nobody else has to
// wait while the keys sign. If ctx ends while this upload waits for the others,
// or if a key does not sign, it is part of the next generation all the same.
func (r *Repo) Publish(ctx context.Context, u Upload) (p Published, err error) {
	ready, err := r.Prepare(ctx, u)
	if err != nil {
		return p, err
	}
	return r.PublishPrepared(ctx, ready)
}

// Prepared is an upload that passed the checks which need no look into the suite,
// and for which the repository has made the signatures of its packages.
type Prepared struct {
	target      Suite
	main, debug checked // debug is empty unless the suite has a suite for it
}

// Signed returns, by name, the SHA-256 of the packages whose copies in the
// repository differ from the given ones, by a signature.
func (p Prepared) Signed() map[string]string {
	signed := map[string]string{}
	for _, it := range slices.Concat(p.main.items, p.debug.items) {
		if it.came != "" && it.came != it.sha256 {
			signed[it.fileName()] = it.sha256
		}
	}
	return signed
}

// Prepare does what of [Repo.Publish] changes nothing, so that a caller can
// record what will be published before it is. An upload that does not agree with
// itself is refused with a [RejectedError].
func (r *Repo) Prepare(ctx context.Context, u Upload) (p Prepared, err error) {
	p.target = DefaultSuite(u.Suite)
	p.target.Architectures = union(p.target.Architectures, u.Architectures)
	p.target.Immutable = u.Immutable
	if err := p.target.check(); err != nil {
		return p, fault.Wrap(fault.Usage, fmt.Errorf("publish: %w", err))
	}
	if p.main, err = r.check(ctx, u); err != nil {
		return p, err
	}
	if s, found, err := r.readSuite(u.Suite); err != nil {
		return p, err
	} else if found {
		p.target = s
	}
	if p.target.Debug == DebugSuite {
		p.main, p.debug = p.main.split()
		err = r.signOrigins(ctx, p.target.debugSuite().Name, p.debug.items)
	}
	if err = errors.Join(err, r.signOrigins(ctx, u.Suite, p.main.items)); err != nil {
		return p, publishError(u.Suite, err)
	}
	return p, nil
}

// PublishPrepared is the rest of [Repo.Publish]. The files of the upload must
// still be there.
func (r *Repo) PublishPrepared(ctx context.Context, ready Prepared) (p Published, err error) {
	if ready.target.Debug != DebugSuite {
		return r.publish(ctx, ready.target, ready.main)
	}
	symbols, err := r.publishDebug(ctx, ready.target, ready.main, ready.debug)
	if err != nil {
		return p, publishError(ready.target.Name, err)
	}
	if p, err = r.publish(ctx, ready.target, ready.main); err != nil {
		return p, err
	}
	p.Unchanged = p.Unchanged && symbols.Unchanged
	p.Files, p.Replaced = append(p.Files, symbols.Files...), append(p.Replaced, symbols.Replaced...)
	return p, nil
}

// publish brings a checked upload into one suite.
func (r *Repo) publish(ctx context.Context, target Suite, c checked) (p Published, err error) {
	var ch change
	var placed []entry
	g, err := r.update(ctx, target, func(w *writer, s Suite, cur generation) (_ change, err error) {
		ch, placed, err = w.accept(ctx, s, cur, c)
		return ch, err
	})
	if err != nil {
		return p, publishError(target.Name, err)
	}
	return r.published(g, ch, placed), nil
}

// publishError names the suite, unless the error does.
func publishError(suite string, err error) error {
	var rejected *RejectedError
	if errors.As(err, &rejected) {
		return err
	}
	return fmt.Errorf("publish into %q: %w", suite, err)
}

// accept plans the change that a checked upload makes, and brings its files
// into the pool.
func (w *writer) accept(ctx context.Context, s Suite, cur generation, c checked) (ch change, placed []entry, err error) {
	c = c.routed(s)
	ch, olds, err := w.plan(ctx, s, cur, c)
	if err != nil {
		return ch, nil, err
	}
	if placed, err = w.placeAll(&ch, c.items, olds); err != nil {
		return ch, nil, err
	}
	return ch, placed, w.keepRecords(c.Upload)
}

// placeAll brings the items into the pool, completes the change, and returns
// their entries. olds are the entries whose places they take.
func (w *writer) placeAll(ch *change, items []item, olds []entry) (placed []entry, err error) {
	for i, it := range items {
		old := olds[i]
		same := old.sha256 == it.sha256 && old.component == it.component
		if same && w.present(it, old) {
			placed = append(placed, old)
			continue
		}
		e, err := w.place(ch.suite.Name, it)
		if err != nil {
			return nil, err
		}
		placed = append(placed, e)
		if same && e.path == old.path {
			continue
		}
		ch.add = append(ch.add, e)
		if old.sha256 != "" {
			ch.drop = append(ch.drop, old)
		}
	}
	return placed, nil
}

func (r *Repo) published(g generation, ch change, placed []entry) Published {
	p := Published{Path: r.dir, Suite: ch.suite.Name, Generation: g.n, Date: g.release.Date, Unchanged: ch.empty()}
	for _, e := range ch.drop {
		p.Replaced = append(p.Replaced, e.filePath())
	}
	for _, e := range placed {
		p.Files = append(p.Files, PublishedFile{Name: e.fileName(), Path: e.filePath(), SHA256: e.sha256})
	}
	return p
}

// keepRecords keeps the .changes and .buildinfo of a build. They come before
// the generation, so that no published package is without them.
func (w *writer) keepRecords(u Upload) error {
	for _, d := range []Document{u.Changes, u.Buildinfo} {
		if d.Data == nil {
			continue
		}
		rel := path.Join("builds", u.Build, d.Name)
		if old, err := os.ReadFile(w.path(rel)); err == nil && bytes.Equal(old, d.Data) {
			continue
		}
		if err := w.disk.mkdirAll(path.Dir(rel)); err != nil {
			return err
		}
		if err := w.disk.write(rel, d.Data); err != nil {
			return err
		}
	}
	return nil
}
