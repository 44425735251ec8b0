package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"dbuild/engine"
	"dbuild/internal/atomicfile"
	"dbuild/internal/fault"
	"dbuild/internal/tree"
)

// Incoming is an image of another machine.
type Incoming struct {
	Bundle *Bundle
	Signer string // fingerprint of the key that must have signed all of it
	// Open gives the tar of a tree; it is called twice for each.
	Open func(ctx context.Context, digest tree.Digest) (io.ReadCloser, error)
	// Policy is what this run would accept in place of this base.
	Policy func(base *Statement) (Policy, error)
}

// Import puts an image of another machine in force, together with its base if
// there is none of the same content. Everything is verified before the engine
// sees a byte: signatures, policy, and the digest of each tree; what the engine
// then has is hashed again. The new statements are this machine's own and name
// the original ones, which are kept. On error nothing is left. The caller closes
// the entry.
func (s *Store) Import(ctx context.Context, in Incoming) (*Entry, error) {
	v, err := s.vouch(in.Bundle, in.Signer, in.Policy)
	if err != nil {
		return nil, fmt.Errorf("import image: %w", err)
	}
	digests, err := in.Bundle.Trees()
	if err != nil {
		return nil, fmt.Errorf("import image: %w", err)
	}
	for _, d := range digests {
		if err := in.check(ctx, d); err != nil {
			return nil, fmt.Errorf("import image: %w", err)
		}
	}
	e, err := s.importVerified(ctx, in, v)
	if err == nil {
		if err = s.keepOriginals(in.Bundle, v); err != nil {
			err = errors.Join(err, e.Close(), s.Remove(context.WithoutCancel(ctx), e.Hash))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("import image: %w", err)
	}
	return e, nil
}

// check reads a tree and compares it with its digest.
func (in Incoming) check(ctx context.Context, want tree.Digest) (err error) {
	r, err := in.Open(ctx, want)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	got, err := digestOf(ctx, r)
	if err != nil {
		return fault.Wrap(fault.Input, err)
	}
	if got != want {
		return fault.Wrap(fault.Trust, differs(got, want))
	}
	return nil
}

func differs(got, want tree.Digest) error {
	return fault.New(fault.Trust, "%w: its tree is %s, signed was %s", engine.ErrDamaged, got, want)
}

func engineImage(st *Statement) engine.ImageID { return engine.ImageID(st.Engine.Image) }

func (s *Store) importVerified(ctx context.Context, in Incoming, v vouched) (_ *Entry, err error) {
	last := len(v.chain) - 1
	base, made, err := s.importBase(ctx, in, v)
	if err != nil || last == 0 {
		return base, err
	}
	defer func() {
		err = errors.Join(err, base.Close())
		if err != nil && made {
			err = errors.Join(err, s.Remove(context.WithoutCancel(ctx), base.Hash))
		}
	}()
	st := v.chain[0]
	st.Parent, st.Imported = base.Hash, &Origin{v.hashes[0], v.signer}
	for _, between := range v.chain[1:last] {
		for _, a := range between.Archive {
			if !slices.Contains(st.Archive, a) {
				st.Archive = append(st.Archive, a)
			}
		}
		st.Switches = union(st.Switches, between.Switches)
	}
	return s.importTree(ctx, in, st, in.Bundle.Statements[0].Tag)
}

// importBase returns a base of the same content and origin that is in force
// already, or puts the one of the bundle in force.
func (s *Store) importBase(ctx context.Context, in Incoming, v vouched) (e *Entry, made bool, err error) {
	last := len(v.chain) - 1
	st := v.chain[last]
	found := ""
	err = s.withHead(ctx, func(h *head) error {
		for _, c := range h.Entries {
			if c.Kind != KindBase || c.Engine != s.engineName() || h.aside(c.Statement) || c.Key != st.key() {
				continue
			}
			have, err := s.loadListed(h, c.Statement)
			if err != nil {
				return err
			}
			if have.Tree == st.Tree && slices.Equal(have.Archive, st.Archive) && slices.Equal(have.Packages, st.Packages) && slices.Equal(have.Switches, st.Switches) {
				found = c.Statement
			}
		}
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	if found != "" {
		e, err := s.Entry(ctx, found)
		if err == nil || !errors.Is(err, engine.ErrNotFound) && !errors.Is(err, ErrNotFound) {
			return e, false, err
		}
	}
	st.Imported = &Origin{v.hashes[last], v.signer}
	e, err = s.importTree(ctx, in, st, "base:"+st.Suite+"-"+st.Arch)
	return e, true, err
}

// importTree gives the engine a tree and puts it in force.
func (s *Store) importTree(ctx context.Context, in Incoming, st Statement, tag string) (_ *Entry, err error) {
	l, err := s.MakeLock(ctx, st.Kind, st.key(), s.waiting("the image that it makes"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Unlock()) }()
	r, err := in.Open(ctx, st.Tree)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	cfg := engine.Config{Tag: plainTag(tag), Labels: map[string]string{LabelState: s.o.State}}
	if st.Kind == KindDeps {
		cfg.Labels["dbuild.deps"] = st.key()
	}
	img, err := s.eng.Import(ctx, r, cfg)
	if err != nil {
		return nil, err
	}
	st.Engine = Stored{}
	e, err := s.add(ctx, nil, img, st)
	if err != nil {
		return nil, errors.Join(err, s.eng.Remove(context.WithoutCancel(ctx), img.ID))
	}
	return e, nil
}

// keepOriginals keeps the statements of the other machine and its key, so that
// what is built from the image can be traced beyond this one.
func (s *Store) keepOriginals(b *Bundle, v vouched) error {
	for i, c := range b.Statements {
		path := s.retiredPath(v.hashes[i])
		if _, err := os.Lstat(path + ".asc"); err == nil {
			continue
		}
		if err := atomicfile.Write(path, []byte(c.Statement), 0o600); err != nil {
			return err
		}
		if err := atomicfile.Write(path+".asc", []byte(c.Signature), 0o600); err != nil {
			return err
		}
	}
	if s.o.Keys == "" || v.signer == s.key.Fingerprint() {
		return nil
	}
	data := []byte(b.Key)
	if _, err := oneKey(data, v.signer); err != nil { // it came with another one, and that was pinned
		ring, err := s.signerKey(b, v.signer)
		if err != nil {
			return err
		}
		data = ring.Export()
	}
	return s.o.Keys.put(keysForeign, data, v.signer)
}

// plainTag drops a tag that is not one of ours in form.
func plainTag(tag string) string {
	if len(tag) > 200 || strings.Trim(tag, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:.+-_~") != "" {
		return "imported"
	}
	return tag
}
