package cache

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"golang.org/x/sync/errgroup"

	"dbuild/internal/fault"
	"dbuild/internal/tree"
	"dbuild/sign"
)

// Bundle is what vouches for an image that goes to another machine: its
// statement and those below it as they are, and the key that signed them. It
// travels with the trees of [Bundle.Trees].
type Bundle struct {
	V          int       `json:"v"`
	Kind       string    `json:"kind"` // "bundle"
	Statements []Carried `json:"statements"`
	Key        string    `json:"key"` // the signer's public key, armored
}

// Carried is one statement in a bundle, the image's own first, the base's last.
type Carried struct {
	Statement string `json:"statement"` // its bytes
	Signature string `json:"signature"`
	Tag       string `json:"tag"` // decoration
}

const (
	kindBundle = "bundle"
	maxBundle  = 64 << 20
)

// Bundle makes the bundle of an open image.
func (s *Store) Bundle(e *Entry) (*Bundle, error) {
	b := &Bundle{V: Version, Kind: kindBundle, Key: string(s.key.PublicArmored())}
	hash := e.Hash
	for _, st := range append([]Statement{e.Statement}, e.Chain...) {
		path := s.statementPath(hash)
		if _, err := s.loadStatement(path, hash, st.Kind); err != nil {
			return nil, err
		}
		data, err1 := readBounded(path, maxStatement)
		sig, err2 := readBounded(path+".asc", maxSignature)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		b.Statements = append(b.Statements, Carried{Statement: string(data), Signature: string(sig)})
		hash = st.Parent
	}
	b.Statements[0].Tag = e.Image.Config.Tag
	return b, nil
}

// Marshal returns the bundle as one line of JSON.
func (b *Bundle) Marshal() ([]byte, error) { return canonical(b) }

// ParseBundle reads a bundle, which may come from anywhere.
func ParseBundle(data []byte) (*Bundle, error) {
	b := &Bundle{}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(b); err != nil {
		return nil, fault.New(fault.Input, "read statements of an image: %w", err)
	}
	if b.V != Version || b.Kind != kindBundle || len(b.Statements) == 0 || len(b.Statements) > maxChain {
		return nil, fault.New(fault.Input, "read statements of an image: version %d, kind %q and %d statements are not known", b.V, b.Kind, len(b.Statements))
	}
	return b, nil
}

// Trees returns the digests of the trees that travel with the bundle: the
// base's and then, if it is another, the image's. What lies between is not
// needed, since each tree is whole.
func (b *Bundle) Trees() ([]tree.Digest, error) {
	var digests []tree.Digest
	for _, c := range []Carried{b.Statements[len(b.Statements)-1], b.Statements[0]} {
		st, err := ParseStatement([]byte(c.Statement))
		if err != nil {
			return nil, err
		}
		if !slices.Contains(digests, st.Tree) {
			digests = append(digests, st.Tree)
		}
	}
	return digests, nil
}

// WriteTree writes the canonical tar of the tree with this digest, which is that
// of the entry or of its base. What is written is hashed on its way: the error
// is of class trust if it is not what was signed.
func (s *Store) WriteTree(ctx context.Context, e *Entry, digest tree.Digest, w io.Writer) error {
	st := &e.Statement
	if st.Tree != digest {
		st = e.Base()
	}
	r, tee := io.Pipe()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		err := s.eng.Export(ctx, engineImage(st), io.MultiWriter(w, tee))
		_ = tee.CloseWithError(err)
		return err
	})
	g.Go(func() error {
		got, err := digestOf(ctx, r)
		_ = r.CloseWithError(err)
		if err == nil && (got != digest || got != st.Tree) {
			err = e.damaged(differs(got, digest))
		}
		return err
	})
	return g.Wait()
}

// digestOf reads a tar to its end.
func digestOf(ctx context.Context, r io.Reader) (tree.Digest, error) {
	m, err := tree.ReadTar(ctx, r)
	if err == nil {
		_, err = io.Copy(io.Discard, r)
	}
	if err != nil {
		return "", err
	}
	return m.Digest(), nil
}

// vouched are the statements of a bundle that were found good.
type vouched struct {
	signer string
	hashes []string
	chain  []Statement // the image's own first, the base's last
}

// vouch verifies a bundle: every signature is by the signer, each statement
// stands on the next, the last is a base, and the policy that this run would
// have for it allows all.
func (s *Store) vouch(b *Bundle, signer string, policy func(base *Statement) (Policy, error)) (v vouched, err error) {
	ring, err := s.signerKey(b, signer)
	if err != nil {
		return v, err
	}
	v.signer = signer
	for i, c := range b.Statements {
		data := []byte(c.Statement)
		st, err := s.verify(ring, data, []byte(c.Signature), "")
		hash := hashOf(data)
		switch {
		case err != nil:
		case st.Kind != KindBase && st.Kind != KindDeps:
			err = fmt.Errorf("its kind is %q", st.Kind)
		case i > 0 && v.chain[i-1].Parent != hash, (st.Parent == "") != (i == len(b.Statements)-1):
			err = errors.New("it is not what the one before it stands on")
		}
		if err != nil {
			return v, fault.Wrap(fault.Trust, fault.New(fault.Trust, "statement %.12s of the image: %w", hash, err))
		}
		v.hashes, v.chain = append(v.hashes, hash), append(v.chain, st)
	}
	base := &v.chain[len(v.chain)-1]
	p, err := policy(base)
	if err != nil {
		return v, err
	}
	why := p.refuses(base)
	for _, st := range v.chain {
		if st.Suite != base.Suite || st.Arch != base.Arch || st.HostArch != base.HostArch || st.Recipe != base.Recipe {
			why = "its statements do not agree with the base's"
		}
		if w := p.refusesOrigin(&st); w != "" {
			why = w
		}
	}
	if why != "" {
		return v, fault.New(fault.Trust, "the image is none that this run would have made: %s", why)
	}
	return v, nil
}

// signerKey returns the key with the signer's fingerprint: the pinned one, else
// the one that came along.
func (s *Store) signerKey(b *Bundle, signer string) (*sign.Keyring, error) {
	if signer == s.key.Fingerprint() {
		return s.key.Keyring(), nil
	}
	ring, err := s.o.Keys.one(keysPinned, signer)
	if errors.Is(err, fs.ErrNotExist) {
		ring, err = oneKey([]byte(b.Key), signer)
	}
	return ring, err
}

// Signer returns the fingerprint of the key that came along. It proves nothing;
// somebody who knows better has to say that it is the right one.
func (b *Bundle) Signer() (string, error) {
	ring, err := sign.ParseKeyring([]byte(b.Key))
	if err != nil {
		return "", fault.Wrap(fault.Trust, err)
	}
	names := ring.Fingerprints()
	if len(names) != 1 {
		return "", fault.New(fault.Trust, "the image comes with %d keys", len(names))
	}
	return names[0], nil
}
