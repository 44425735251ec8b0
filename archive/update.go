package archive

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"dbuild/internal/fault"
	"dbuild/sign"
)

// Update brings srcs up to date, in parallel and with one conditional request
// each, and returns a state for each in their order. It fails if any source
// fails; of several failures the first in the order of srcs is told.
//
// A Release is refused ([fault.Trust]) unless it is one strictly framed block
// with a good signature by a key of the source that is neither expired nor
// revoked, of the suite asked for, not past its Valid-Until and not more than
// an hour ahead. When a mirror offers an older Date than was seen there
// before, the newer verified copy stays in use as long as it is fresh. A
// mirror that cannot be reached is [fault.Network], also when there is a copy:
// building from that is what Offline and MaxAge are for.
func (c *Copy) Update(ctx context.Context, srcs []Source) ([]*State, error) {
	rings, err := openKeyrings(srcs)
	if err != nil {
		return nil, err
	}
	states, errs := make([]*State, len(srcs)), make([]error, len(srcs))
	var wg sync.WaitGroup
	for i, src := range srcs {
		wg.Go(func() { states[i], errs[i] = c.update(ctx, src, rings[i], false) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return states, nil
}

// openKeyrings opens the keyring of each source, the same files once.
func openKeyrings(srcs []Source) ([]*sign.Keyring, error) {
	open := map[string]*sign.Keyring{}
	rings := make([]*sign.Keyring, len(srcs))
	for i, src := range srcs {
		if err := src.check(); err != nil {
			return nil, err
		}
		if len(src.Keyrings) == 0 {
			return nil, fault.New(fault.Trust, "source %s: no keyring to verify it with", src.label())
		}
		key := strings.Join(src.Keyrings, "\x00")
		if open[key] == nil {
			ring, err := sign.OpenKeyring(src.Keyrings...)
			if err != nil {
				return nil, fault.Wrap(fault.Trust, fmt.Errorf("source %s: %w", src.label(), err))
			}
			open[key] = ring
		}
		rings[i] = open[key]
	}
	return rings, nil
}

// update brings one source up to date. With force it asks even if MaxAge
// would let it be.
func (c *Copy) update(ctx context.Context, src Source, ring *sign.Keyring, force bool) (*State, error) {
	rec, err := c.load(src)
	if err != nil {
		return nil, err
	}
	if c.opt.Offline && !src.local() {
		return c.updateOffline(src, ring, rec)
	}
	if age := time.Since(rec.checked); !force && !src.local() && age >= 0 && age < c.opt.MaxAge {
		if st, err := c.stored(src, ring, rec); err == nil {
			st.Fresh = "max-age"
			return st, nil
		}
	}
	st, err := c.ask(ctx, src, ring, rec, false)
	if fault.ClassOf(err) == fault.Trust {
		// Perhaps a cache between us and the mirror is to blame.
		if again, err2 := c.ask(ctx, src, ring, record{}, true); err2 == nil {
			st, err = again, nil
		}
	}
	if err != nil {
		return nil, c.updateError(rec, err)
	}
	return st, nil
}

func (c *Copy) updateOffline(src Source, ring *sign.Keyring, rec record) (*State, error) {
	st, err := c.stored(src, ring, rec)
	if errors.Is(err, os.ErrNotExist) {
		err = fault.New(fault.Network, "update %s: there is no copy, and the network is not to be used", src.label())
		return nil, fault.WithHint(err, "run once without --offline")
	}
	if err != nil {
		return nil, err
	}
	st.Fresh = "offline"
	return st, nil
}

// ask fetches and verifies the Release and puts it in force. With fresh it
// passes by caches.
func (c *Copy) ask(ctx context.Context, src Source, ring *sign.Keyring, rec record, fresh bool) (*State, error) {
	old, err := c.readStored(rec)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	q := request{url: src.fileURL(src.dir(), "InRelease"), fresh: fresh}
	if err == nil && !rec.Detached {
		q.etag, q.modified = rec.ETag, rec.LastModified
	}
	a, err := c.get(ctx, q, maxRelease)
	doc := signed{inRelease: a.body}
	if src.Extra && isGone(err) {
		doc, err = c.askDetached(ctx, src, fresh)
	}
	if err != nil {
		return nil, err
	}
	if a.notModified {
		doc = old
	}
	st, err := c.verify(src, ring, doc)
	if err != nil {
		return nil, err
	}
	if st.SHA256 == rec.SHA256 {
		st.Fresh = "unchanged"
		return st, c.touch(src)
	}
	if st.Date.Before(rec.Date) {
		return c.keep(src, ring, rec, st)
	}
	newer, err := c.commit(ctx, st, a.etag, a.modified)
	if err != nil {
		return nil, err
	}
	if newer.SHA256 != "" {
		return c.keep(src, ring, newer, st)
	}
	st.Fresh = "checked"
	return st, nil
}

// askDetached fetches Release and Release.gpg, for extra sources without
// InRelease. The two may be of different moments; the signature then fails and
// [Copy.update] asks again.
func (c *Copy) askDetached(ctx context.Context, src Source, fresh bool) (d signed, err error) {
	release, err := c.get(ctx, request{url: src.fileURL(src.dir(), "Release"), fresh: fresh}, maxRelease)
	if err != nil {
		return d, err
	}
	signature, err := c.get(ctx, request{url: src.fileURL(src.dir(), "Release.gpg"), fresh: fresh}, maxRelease)
	if isGone(err) {
		return d, fault.New(fault.Trust, "update %s: neither InRelease nor Release.gpg: the archive is not signed", src.label())
	}
	return signed{release: release.body, signature: signature.body}, err
}

// keep answers an offer that is older than what is known with the copy that
// is there, if that is still good.
func (c *Copy) keep(src Source, ring *sign.Keyring, rec record, offer *State) (*State, error) {
	offered, known := offer.Date.UTC().Format(time.RFC3339), rec.Date.UTC().Format(time.RFC3339)
	st, err := c.stored(src, ring, rec)
	if err == nil && !st.Date.Before(rec.Date) {
		c.opt.Report.Note("%s offers a Release of %s; the verified copy of %s stays in use", src.label(), offered, known)
		st.Fresh = "kept"
		return st, nil
	}
	why := "there is no copy of that"
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		why = "the copy of that is no longer good"
	}
	err = fault.New(fault.Trust, "check Release of %s: its date %s is before %s, which was seen already, and %s", src.label(),
		offered, known, why)
	return nil, fault.WithHint(err, "try another mirror with --mirror; if this one was set back on purpose, remove %s", c.recordPath(src))
}

// updateError adds what can be done about a failed update.
func (c *Copy) updateError(rec record, err error) error {
	switch {
	case isGone(err):
		return fault.WithHint(err, "check suite and mirror; releases past their end move to http://archive.debian.org/debian or http://old-releases.ubuntu.com/ubuntu")
	case fault.ClassOf(err) == fault.Network && fault.HintOf(err) == "" && rec.SHA256 != "":
		return fault.WithHint(err, "--offline builds with the verified copy of %s", rec.Date.Format(time.RFC3339))
	}
	return err
}

// isGone says that the server does not have the file.
func isGone(err error) bool {
	var t *TransferError
	return errors.As(err, &t) && (t.Status == http.StatusNotFound || t.Status == http.StatusGone)
}
