package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	"dbuild/deb"
)

// unpackIndex streams one compressed index into p. Three goroutines share the
// work, since a suite's index is some 50 MB: one reads and hashes what comes,
// one unpacks and writes, one hashes what was unpacked. Both hashes and sizes
// must be those of the Release.
func (c *Copy) unpackIndex(ctx context.Context, p *part, j indexJob, f indexForm, q request, count func(int64)) (err error) {
	r, err := c.client.open(ctx, q)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.body.Close()) }()
	if err := r.announces(q.url, f.row.Size); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	packed := newStream(gctx)
	plain := newStream(gctx)
	var packedSum, plainSum string
	g.Go(func() (err error) {
		packedSum, err = c.receive(r, q, f.row.Size, packed, count)
		return packed.close(err)
	})
	g.Go(func() error { return plain.close(expand(packed, f.ext, p, plain, q.url, j.plain.Size)) })
	g.Go(func() (err error) {
		plainSum, err = plain.hash()
		return err
	})
	if err := g.Wait(); err != nil {
		return err
	}
	switch {
	case packedSum != f.row.SHA256:
		return mismatch(q.url, "SHA-256 is %s, expected %s", packedSum, f.row.SHA256)
	case p.n != j.plain.Size || plainSum != j.plain.SHA256:
		return mismatch(q.url, "unpacks to something else than %s", j.plain.SHA256)
	}
	return nil
}

// receive reads an answer of exactly size bytes into out and returns its hash.
func (c *Copy) receive(r *response, q request, size int64, out *stream, count func(int64)) (string, error) {
	sum := sha256.New()
	for total := int64(0); ; {
		b := buffers.Get().(*[]byte)
		n, err := r.body.Read(*b)
		total += int64(n)
		if total > size {
			return "", mismatch(q.url, "more than %d bytes", size)
		}
		sum.Write((*b)[:n])
		count(int64(n))
		if serr := out.send(b, n); serr != nil {
			return "", serr
		}
		switch {
		case err == io.EOF && total < size:
			return "", c.client.fail(nil, q, 0, errTruncated)
		case err == io.EOF:
			return hex.EncodeToString(sum.Sum(nil)), nil
		case err != nil:
			return "", err
		}
	}
}

// expand unpacks in, whose form ext tells, into p and passes the same bytes on
// to out. It stops as soon as there are more than size of them.
func expand(in *stream, ext string, p *part, out *stream, url string, size int64) error {
	z, err := deb.Decompress("index"+ext, in)
	if err != nil {
		return in.blame(url, err)
	}
	defer z.Close()
	for {
		b := buffers.Get().(*[]byte)
		n, zerr := fill(z, *b)
		if p.n+int64(n) > size {
			return mismatch(url, "unpacks to more than %d bytes", size)
		}
		p.n += int64(n)
		if _, err := p.f.Write((*b)[:n]); err != nil {
			return fmt.Errorf("write %q: %w", p.f.Name(), err)
		}
		if err := out.send(b, n); err != nil {
			return err
		}
		switch {
		case errors.Is(zerr, io.EOF):
			_, err := io.Copy(io.Discard, onlyReader{in}) // what follows is hashed too
			return err
		case zerr != nil:
			return in.blame(url, zerr)
		}
	}
}

// fill reads until b is full or r fails. Other than [io.ReadFull] it returns
// r's own error, so that a stream cut off is not taken for its end.
func fill(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = r.Read(b[n:])
		n += m
	}
	return n, err
}
