package repo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dbuild/internal/fault"
	"dbuild/sign"
)

// sign makes the signed forms of a draft's Release file.
func (r *Repo) sign(ctx context.Context, s *staged) (signed []Document, err error) {
	within, cancel := context.WithTimeout(ctx, r.signWithin)
	defer cancel()
	keys := r.usable()
	detached, err := sign.DetachSignAll(within, keys, s.text, s.date)
	if err == nil {
		var inline []byte
		inline, err = sign.ClearsignAll(within, keys, s.text, s.date)
		signed = []Document{{"Release.gpg", detached}, {"InRelease", inline}}
	}
	if err == nil || ctx.Err() != nil {
		return signed, errors.Join(err, ctx.Err())
	}
	hint := fault.HintOf(err)
	if within.Err() != nil {
		err = fault.New(fault.Timeout, "no signature within %s: %w", r.signWithin, err)
	}
	err = fault.Wrap(fault.Trust, fmt.Errorf("sign Release: %w; the change waits for the next generation", err))
	if hint != "" {
		hint += "; then: "
	}
	return nil, fault.WithHint(err, "%sdbuild repo publish %s", hint, s.suite.Name)
}

// usable are the keys that sign now: one that took over leaves out those before
// it whose time is over.
func (r *Repo) usable() (keys []sign.Signer) {
	for i, k := range r.keys {
		if i == 0 || !k.Expiry().Over(r.now()) {
			keys = append(keys, k)
		}
	}
	return keys
}

// checkKeys refuses to go on with an expired key, before anything is changed,
// and warns of keys that soon will be.
func (r *Repo) checkKeys() error {
	now := r.now()
	if own := r.keys[0]; own.Expiry().Over(now) {
		err := fault.New(fault.Trust, "the key of the repository, %s, has expired on %s", own.Fingerprint(), own.Expiry().At.UTC().Format(time.DateOnly))
		return fault.WithHint(err, "%s, or another key: dbuild repo key rotate", own.Expiry().Mend)
	}
	r.WarnOfExpiry()
	return nil
}

// WarnOfExpiry warns of keys that have expired or soon will, once.
func (r *Repo) WarnOfExpiry() {
	now := r.now()
	r.warned.Do(func() {
		for _, k := range r.keys {
			if e := k.Expiry(); e.Near(now) {
				verb := map[bool]string{true: "has expired", false: "expires"}[e.Over(now)]
				r.report.Warn("the key %s of the repository %s on %s: %s", k.Fingerprint(), verb, e.At.UTC().Format(time.DateOnly), e.Mend)
			}
		}
	})
}
