package archive

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"dbuild/deb"
	"dbuild/internal/fault"
	"dbuild/sign"
)

// VerifyPast verifies a Release that the copy in dir took once, by the hash of
// its InRelease: that its bytes are still there, that they are those, and that
// the key with the primary fingerprint signedBy, one of ring, signed them. What
// has expired since, be it the key or the Release, does not count.
// Errors are of class trust; a missing file also is [fs.ErrNotExist].
func VerifyPast(dir, hash string, ring *sign.Keyring, signedBy string) (*deb.Release, error) {
	if b, err := hex.DecodeString(hash); err != nil || len(b) != sha256.Size {
		return nil, fault.New(fault.Trust, "%q is no hash of an InRelease", hash)
	}
	path := filepath.Join(dir, "releases", hash)
	doc, err := readSmall(path, maxRelease)
	if err != nil {
		return nil, fault.Wrap(fault.Trust, err)
	}
	if sum := sha256.Sum256(doc); hex.EncodeToString(sum[:]) != hash {
		return nil, fault.New(fault.Trust, "the content of %q has SHA-256 %x", path, sum)
	}
	pol := sign.Policy{Allowed: []string{signedBy}, LaxExpiry: true}
	text := doc
	signature, err := readSmall(path+".gpg", maxRelease)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, os.ErrNotExist):
		text, _, err = ring.VerifyClearsigned(doc, pol)
	case err == nil:
		_, err = ring.VerifyDetached(doc, signature, pol)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Trust, fmt.Errorf("verify %q: %w", path, err))
	}
	rel, err := deb.ParseRelease(text)
	if err != nil {
		return nil, fault.New(fault.Trust, "read %q: %w", path, err)
	}
	return rel, nil
}
