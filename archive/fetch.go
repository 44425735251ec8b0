package archive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"dbuild/internal/fault"
	"dbuild/internal/report"
)

// File is a file of an archive's pool, as an index describes it. It is made
// with [Source.File] or [Source.SourceFiles].
type File struct {
	URL      string // complete, percent-encoded
	Filename string // path below the archive root as in the index, not percent-encoded
	Size     int64
	SHA256   string // lower-case hex
	Name     string // for messages: "hello 2.10-3"
}

// Fetch brings files into the pool; see [Copy.FetchEach].
func (c *Copy) Fetch(ctx context.Context, files []File) (downloaded int, bytes int64, err error) {
	return c.FetchEach(ctx, files, func(File) error { return nil })
}

// FetchEach brings files into the pool, where [Copy.Path] finds them, over
// several connections. It starts them in the order given and calls done, which
// may run in several goroutines at once, for each as soon as it is in place;
// those that are there already need no network. done should be quick, since
// the connection waits for it. An error of done ends everything and is
// returned.
//
// It returns how many files were fetched and their size. What was fetched
// before an error stays, also in part, for the next call. A file that another
// process fetches at this moment is waited for.
func (c *Copy) FetchEach(ctx context.Context, files []File, done func(File) error) (downloaded int, bytes int64, err error) {
	missing, err := c.missing(files)
	if err != nil {
		return 0, 0, err
	}
	m := &meter{report: c.opt.Report, label: "download", unit: report.Bytes, total: missing}
	var count, size atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(c.parallel)
	for _, f := range files {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error {
			if gctx.Err() != nil {
				return context.Cause(gctx)
			}
			fetched, err := c.fetchOne(gctx, f, m.add)
			if err != nil {
				return err
			}
			if fetched {
				count.Add(1)
				size.Add(f.Size)
			}
			return done(f)
		})
	}
	err = g.Wait()
	if err == nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		m.finish()
	}
	return int(count.Load()), size.Load(), err
}

// missing checks files and returns the size of those that are not in the pool.
// What has the right size there is looked at closely in its turn.
func (c *Copy) missing(files []File) (total int64, err error) {
	for _, f := range files {
		if err := checkSHA256(f.SHA256); err != nil {
			return 0, fmt.Errorf("fetch %s: %w", f.Name, err)
		}
		if f.Size < 0 {
			return 0, fault.New(fault.Input, "fetch %s: size %d", f.Name, f.Size)
		}
		if info, err := os.Lstat(c.Path(f.SHA256)); err != nil || info.Size() != f.Size {
			total += f.Size
		}
	}
	return total, nil
}

// fetchOne brings one file in place and says whether it had to be fetched.
func (c *Copy) fetchOne(ctx context.Context, f File, count func(int64)) (fetched bool, err error) {
	final := c.Path(f.SHA256)
	have := func() (bool, error) { return c.have(final, f.SHA256, f.Size) }
	if ok, err := have(); ok || err != nil {
		return false, err
	}
	if err := mkdir(filepath.Dir(final)); err != nil {
		return false, fmt.Errorf("fetch %s: %w", f.Name, err)
	}
	p, err := c.claim(ctx, final, f.Name, have)
	if err != nil || p == nil {
		if err == nil {
			count(f.Size) // another process fetched it
		}
		return false, err
	}
	if err := p.resume(f.Size); err != nil {
		return false, errors.Join(fmt.Errorf("fetch %s: %w", f.Name, err), p.leave())
	}
	count(p.n)
	if err := c.obtain(ctx, p, f.URL, content{f.Size, f.SHA256}, count); err != nil {
		if isGone(err) {
			err = fault.WithHint(err, "the mirror no longer has %s; indexes that were not refreshed (--offline, --max-age) may be too old", f.Name)
		}
		if p.n == 0 || errors.Is(err, ErrMismatch) {
			return false, errors.Join(err, p.drop())
		}
		return false, errors.Join(err, p.leave())
	}
	return true, p.install()
}
