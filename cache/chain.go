package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"dbuild/internal/fault"
	"dbuild/sign"
)

// Chain reads the statements of a store by their hashes, whether their images
// are still there or not, and without an engine: it is for walking from a
// published file back to the archive.
type Chain struct {
	dir  string
	ring *sign.Keyring
}

// OpenChain returns the statements of the store in dir that are signed by a key
// of the ring: the image key, and those that were before it.
func OpenChain(dir string, ring *sign.Keyring) *Chain { return &Chain{dir, ring} }

// Build verifies the signature of a build statement and returns it.
func (c *Chain) Build(data, sig []byte) (Statement, error) { return c.verify(data, sig, KindBuild) }

// Image returns the statement of a base or deps image. A missing one is an error
// that also is [fs.ErrNotExist].
func (c *Chain) Image(hash string) (st Statement, err error) {
	if !isHash(hash) {
		return st, fault.New(fault.Trust, "%q is no statement hash", hash)
	}
	path := filepath.Join(c.dir, "statements", hash+".json")
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		path = filepath.Join(c.dir, "retired", hash+".json")
	}
	data, err := readBounded(path, maxStatement)
	if err != nil {
		return st, fault.Wrap(fault.Trust, err)
	}
	if got := hashOf(data); got != hash {
		return st, fault.New(fault.Trust, "the content of %q has SHA-256 %s", path, got)
	}
	sig, err := readBounded(path+".asc", maxSignature)
	if err != nil {
		return st, fault.Wrap(fault.Trust, err)
	}
	if st, err = c.verify(data, sig, KindDeps); errors.Is(err, sign.ErrNotAllowed) {
		st, err = c.verify(data, sig, KindBase)
	}
	return st, err
}

func (c *Chain) verify(data, sig []byte, kind Kind) (st Statement, err error) {
	// A key that expired or was replaced since has signed all the same.
	good, err := c.ring.VerifyDetached(data, sig, sign.Policy{Kind: string(kind), LaxExpiry: true})
	if err != nil {
		return st, fault.Wrap(fault.Trust, err)
	}
	if st, err = ParseStatement(data); err != nil {
		return st, fault.New(fault.Trust, "%w", err)
	}
	if st.Kind != kind || st.Signer != good.Fingerprint {
		return st, fault.Wrap(fault.Trust, fmt.Errorf("it claims kind %q and signer %s", st.Kind, st.Signer))
	}
	return st, nil
}
