package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dbuild/internal/atomicfile"
	"dbuild/internal/fault"
	"dbuild/sign"
)

// Keys is a directory of public keys beside the image key, each in a file
// named by its fingerprint:
//
//	retired/FPR.asc   image keys of before; good for statements that are no longer in force
//	pinned/FPR.asc    keys of other machines whose images may be imported
//	foreign/FPR.asc   keys of other machines whose images were imported; good for
//	                  looking at their statements, for nothing else
type Keys string

// The parts of [Keys].
const (
	keysRetired = "retired"
	keysPinned  = "pinned"
	keysForeign = "foreign"
)

// Retired returns the fingerprints of earlier image keys.
func (k Keys) Retired() ([]string, error) { return k.list(keysRetired) }

// Pinned returns the fingerprints of the keys whose images may be imported.
func (k Keys) Pinned() ([]string, error) { return k.list(keysPinned) }

// Pin allows imports signed by the key in data, a public key armored or not,
// which must have this fingerprint.
func (k Keys) Pin(data []byte, fingerprint string) error {
	return k.put(keysPinned, data, fingerprint)
}

// Unpin takes that back; what was imported stays. It is [ErrNotFound] if the key
// is not pinned.
func (k Keys) Unpin(fingerprint string) error {
	err := os.Remove(k.path(keysPinned, fingerprint))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("key %s is not pinned: %w", fingerprint, ErrNotFound)
	}
	return err
}

// Retire keeps the public part of an image key that is going out of use.
func (k Keys) Retire(key *sign.Key) error {
	return k.put(keysRetired, key.PublicArmored(), key.Fingerprint())
}

func (k Keys) path(part, fingerprint string) string {
	return filepath.Join(string(k), part, fingerprint+".asc")
}

func (k Keys) put(part string, data []byte, fingerprint string) error {
	if _, err := oneKey(data, fingerprint); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(string(k), part), 0o700); err != nil {
		return err
	}
	return atomicfile.Write(k.path(part, fingerprint), data, 0o600)
}

func (k Keys) list(part string) (all []string, err error) {
	if k == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(filepath.Join(string(k), part))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".asc"); ok && IsFingerprint(name) {
			all = append(all, name)
		}
	}
	return all, nil
}

// one reads one key; fs.ErrNotExist if it is not there.
func (k Keys) one(part, fingerprint string) (*sign.Keyring, error) {
	data, err := readBounded(k.path(part, fingerprint), maxKey)
	if err != nil {
		return nil, err
	}
	return oneKey(data, fingerprint)
}

// Own is a ring of the image key and of those that it replaced: the keys of all
// statements that this state has made.
func (k Keys) Own(key *sign.Key) (*sign.Keyring, error) { return k.ring(key, keysRetired) }

// past is a ring of the image key and of all that signed what is retired.
func (k Keys) past(key *sign.Key) (*sign.Keyring, error) {
	return k.ring(key, keysRetired, keysForeign)
}

func (k Keys) ring(key *sign.Key, parts ...string) (*sign.Keyring, error) {
	blocks := [][]byte{key.PublicArmored()}
	for _, part := range parts {
		names, err := k.list(part)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			data, err := readBounded(k.path(part, name), maxKey)
			if err == nil {
				_, err = oneKey(data, name)
			}
			if err != nil {
				return nil, fault.Wrap(fault.Trust, fmt.Errorf("key %q: %w", k.path(part, name), err))
			}
			blocks = append(blocks, data)
		}
	}
	return sign.ParseKeyring(blocks...)
}

const maxKey = 1 << 20

// oneKey reads a public key, which must be this one and alone.
func oneKey(data []byte, fingerprint string) (*sign.Keyring, error) {
	if !IsFingerprint(fingerprint) {
		return nil, fault.WithHint(fault.New(fault.Usage, "%q is no fingerprint", fingerprint), "give all 40 hex digits, without blanks")
	}
	ring, err := sign.ParseKeyring(data)
	if err != nil {
		return nil, fault.Wrap(fault.Trust, err)
	}
	if got := ring.Fingerprints(); !slices.Equal(got, []string{fingerprint}) {
		return nil, fault.New(fault.Trust, "the key is %s, not %s", strings.Join(got, ", "), fingerprint)
	}
	return ring, nil
}

// IsFingerprint reports whether s is a whole fingerprint as this package writes
// it: 40 or 64 upper-case hex digits.
func IsFingerprint(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return len(s) == 40 || len(s) == 64
}
