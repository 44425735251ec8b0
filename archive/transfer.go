package archive

import (
	"context"
	"errors"
	"fmt"
	"io"

	"dbuild/internal/fault"
)

// ErrMismatch is wrapped when bytes are not those that a signed index names.
var ErrMismatch = errors.New("not what the signed index names")

func mismatch(url, format string, args ...any) error {
	why := fmt.Sprintf(format, args...)
	err := fault.New(fault.Trust, "fetch %q: %s: %w", RedactURL(url), why, ErrMismatch)
	return fault.WithHint(err, "try another mirror with --mirror")
}

// content is what a file must turn out to be.
type content struct {
	size   int64
	sha256 string
}

// obtain fills p from url and checks it against want. An answer that does not
// match is asked for once more past all caches, from the start.
func (c *Copy) obtain(ctx context.Context, p *part, url string, want content, count func(int64)) error {
	var err error
	for _, fresh := range []bool{false, true} {
		err = c.client.retry(ctx, func() error { return c.transfer(ctx, p, url, fresh, want.size, count) })
		if err == nil {
			if p.sha256() == want.sha256 {
				return nil
			}
			err = mismatch(url, "SHA-256 is %s, expected %s", p.sha256(), want.sha256)
		}
		if !errors.Is(err, ErrMismatch) {
			return err
		}
		count(-p.n)
		if err := p.reset(); err != nil {
			return err
		}
	}
	return err
}

// transfer makes one attempt at the bytes of url that p lacks. count is told
// the bytes as they come, and a negative number for those given up.
func (c *Copy) transfer(ctx context.Context, p *part, url string, fresh bool, size int64, count func(int64)) (err error) {
	if p.n == size {
		return nil
	}
	r, err := c.client.open(ctx, request{url: url, offset: p.n, fresh: fresh})
	if err != nil {
		if errors.Is(err, errRange) {
			count(-p.n)
			err = errors.Join(err, p.reset())
		}
		return err
	}
	defer func() { err = errors.Join(err, r.body.Close()) }()
	if r.offset != p.n {
		count(-p.n)
		if err := p.reset(); err != nil {
			return err
		}
	}
	if err := r.announces(url, size); err != nil {
		return err
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for {
		n, rerr := r.body.Read(*buf)
		if p.n+int64(n) > size {
			return mismatch(url, "more than %d bytes", size)
		}
		if _, err := p.Write((*buf)[:n]); err != nil {
			return fmt.Errorf("write %q: %w", p.f.Name(), err)
		}
		count(int64(n))
		switch {
		case rerr == io.EOF && p.n < size:
			return c.client.fail(nil, request{url: url}, 0, errTruncated)
		case rerr == io.EOF:
			return nil
		case rerr != nil:
			return rerr
		}
	}
}

// announces compares the size that the server gives with the one expected,
// before any of it is stored. A web page in place of the file is told first.
func (r *response) announces(url string, size int64) error {
	if r.total < 0 || r.total == size {
		return nil
	}
	var head [512]byte
	if _, err := r.body.Read(head[:]); errors.Is(err, errPortal) {
		return err
	}
	return mismatch(url, "the server has %d bytes, expected %d", r.total, size)
}

// Get fetches a small document whose hash is not known beforehand, such as a
// .dsc at a URL. An answer longer than limit bytes is an error. What comes is
// not verified in any way.
func (c *Copy) Get(ctx context.Context, url string, limit int64) ([]byte, error) {
	if _, err := parseURL(url); err != nil { // a file is no document at a URL
		return nil, fault.Wrap(fault.Input, err)
	}
	a, err := c.get(ctx, request{url: url}, limit)
	if err != nil {
		return nil, err
	}
	return a.body, nil
}

// answer is a whole small document.
type answer struct {
	body           []byte
	notModified    bool
	etag, modified string
}

// get asks q, with retries, and reads at most limit bytes.
func (c *Copy) get(ctx context.Context, q request, limit int64) (a answer, err error) {
	err = c.client.retry(ctx, func() (err error) {
		a, err = c.getOnce(ctx, q, limit)
		return err
	})
	return a, err
}

func (c *Copy) getOnce(ctx context.Context, q request, limit int64) (a answer, err error) {
	r, err := c.client.open(ctx, q)
	if err != nil {
		return a, err
	}
	defer func() { err = errors.Join(err, r.body.Close()) }()
	a = answer{notModified: r.status == 304, etag: r.etag, modified: r.modified}
	if a.notModified {
		return a, nil
	}
	if r.total > limit {
		return a, c.client.fail(nil, q, 0, fmt.Errorf("%w: %d bytes, %d allowed", errTooLong, r.total, limit))
	}
	a.body, err = io.ReadAll(io.LimitReader(r.body, limit+1))
	if err == nil && int64(len(a.body)) > limit {
		err = c.client.fail(nil, q, 0, fmt.Errorf("%w: %d bytes allowed", errTooLong, limit))
	}
	return a, err
}
