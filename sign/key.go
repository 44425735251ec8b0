package sign

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"golang.org/x/sys/unix"

	"dbuild/internal/atomicfile"
	"dbuild/internal/fault"
)

// Key is a local signing key with its private part: an OpenPGP version 4
// Ed25519 key (algorithm 22, which every gpgv of the last ten years reads),
// without passphrase, subkeys and expiry. It is safe for concurrent use.
type Key struct {
	entity *openpgp.Entity
	public []byte // binary
}

// Generate makes a new key whose user id is name, for example "dbuild images
// on HOST". The name must not contain any of "()<>" and NUL.
func Generate(name string, created time.Time) (*Key, error) {
	config := signConfig(created)
	config.Algorithm, config.Curve = packet.PubKeyAlgoEdDSA, packet.Curve25519
	e, err := openpgp.NewEntity(name, "", "", config)
	if err != nil {
		return nil, fmt.Errorf("generate key %q: %w", name, err)
	}
	e.Subkeys = nil // the library adds one for encryption
	return newKey(e)
}

func signConfig(at time.Time) *packet.Config {
	return &packet.Config{
		DefaultHash: crypto.SHA512,
		Time:        func() time.Time { return at },
		// The same input gives the same signature, which keeps published
		// files reproducible. Ed25519 needs no randomness.
		NonDeterministicSignaturesViaNotation: packet.BoolPointer(false),
	}
}

func newKey(e *openpgp.Entity) (*Key, error) {
	var public bytes.Buffer
	if err := e.Serialize(&public); err != nil {
		return nil, fmt.Errorf("serialize key: %w", err)
	}
	return &Key{e, public.Bytes()}, nil
}

// Load reads a key that [Key.Save] wrote. A file that others may read or that
// is not a regular file is refused. A missing file gives [os.ErrNotExist].
func Load(path string) (*Key, error) {
	k, err := load(path)
	if err != nil {
		return nil, fault.Wrap(fault.Trust, fmt.Errorf("load signing key %q: %w", path, err))
	}
	return k, nil
}

func load(path string) (*Key, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return nil, fault.WithHint(fault.New(fault.Trust, "mode %#o lets others read or write it", perm), "chmod 600 %s", path)
	}
	armored, err := io.ReadAll(io.LimitReader(f, 1<<16))
	if err != nil {
		return nil, err
	}
	return parseSecret(armored)
}

func parseSecret(armored []byte) (*Key, error) {
	secret, rest, err := decodeArmor(armored, typePrivateKey)
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%w: text after the key", errArmor)
	}
	e, err := openpgp.ReadEntity(packet.NewReader(bytes.NewReader(secret)))
	switch {
	case err != nil:
		return nil, err
	case e.PrivateKey == nil || e.PrivateKey.Dummy() || e.PrivateKey.Encrypted:
		return nil, errors.New("secret part is missing or has a passphrase")
	case e.PrivateKey.PubKeyAlgo != packet.PubKeyAlgoEdDSA:
		return nil, errors.New("not an Ed25519 key")
	}
	return newKey(e)
}

// Save writes the key, secret part included, to path with mode 0600. It never
// replaces a file: if path exists the error is [os.ErrExist], so of two
// processes that generate a key at once, one wins and the other can [Load].
func (k *Key) Save(path string) (err error) {
	var secret bytes.Buffer
	if err := k.entity.SerializePrivateWithoutSigning(&secret, nil); err != nil {
		return fmt.Errorf("save signing key %q: %w", path, err)
	}
	f, err := atomicfile.Create(path, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Discard()) }()
	if _, err := f.Write(encodeArmor(typePrivateKey, secret.Bytes())); err != nil {
		return fmt.Errorf("save signing key %q: %w", path, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("save signing key %q: %w", path, err)
	}
	// A hard link, unlike a rename, fails if the name is taken.
	if err := os.Link(f.Name(), path); err != nil {
		return fmt.Errorf("save signing key: %w", err)
	}
	return atomicfile.SyncDir(filepath.Dir(path))
}

// Fingerprint returns 40 upper-case hex digits.
func (k *Key) Fingerprint() string { return hexUpper(k.entity.PrimaryKey.Fingerprint) }

// PublicArmored returns the public part as apt's Signed-By reads it from a
// file named *.asc.
func (k *Key) PublicArmored() []byte { return encodeArmor(typePublicKey, k.public) }

// Keyring returns a keyring of this one key.
func (k *Key) Keyring() *Keyring {
	r := &Keyring{byID: make(map[uint64][]int)}
	r.keys = []keyBlock{{k.Fingerprint(), k.public}}
	r.index(k.entity.PrimaryKey.KeyId, 0)
	return r
}

// Clearsign returns text as a clearsigned document, in the form of an
// InRelease file. White space at line ends is dropped and a missing last
// newline added, since no signature covers them; NUL and CR are refused. The
// result depends on text and at (to the second) alone.
func (k *Key) Clearsign(text []byte, at time.Time) ([]byte, error) {
	plain, escaped, err := escapeText(text)
	if err != nil {
		return nil, fmt.Errorf("clearsign: %w", err)
	}
	sig, err := k.sign(packet.SigTypeText, signedBytes(plain), at, "")
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	out.WriteString(beginLine(typeMessage) + "\nHash: SHA512\n\n")
	out.Write(escaped)
	out.Write(sig)
	return out.Bytes(), nil
}

// DetachSign returns an armored detached signature of data. A kind that is not
// empty is written into the signature as a critical notation: then only
// verifiers that ask for this kind in [Policy] accept it. The result depends
// on the arguments alone; at counts to the second.
func (k *Key) DetachSign(data []byte, at time.Time, kind string) ([]byte, error) {
	return k.sign(packet.SigTypeBinary, data, at, kind)
}

// SignStream returns an armored detached signature of what data reads, of no
// kind. It is dated at, or when the key was made if that is later, and depends
// on that and the data alone.
func (k *Key) SignStream(data io.Reader, at time.Time) ([]byte, error) {
	if created := k.entity.PrimaryKey.CreationTime; at.Before(created) {
		at = created
	}
	packets, err := k.signature(packet.SigTypeBinary, data, at, "")
	if err != nil {
		return nil, err
	}
	return encodeArmor(typeSignature, packets), nil
}

func (k *Key) sign(t packet.SignatureType, data []byte, at time.Time, kind string) ([]byte, error) {
	packets, err := k.signature(t, bytes.NewReader(data), at, kind)
	if err != nil {
		return nil, err
	}
	return encodeArmor(typeSignature, packets), nil
}

// signature returns a signature packet over what data reads.
func (k *Key) signature(t packet.SignatureType, data io.Reader, at time.Time, kind string) ([]byte, error) {
	if at.Before(k.entity.PrimaryKey.CreationTime) {
		return nil, fmt.Errorf("sign with %s: the key is younger than %s", k.Fingerprint(), at.UTC().Format(time.RFC3339))
	}
	id := k.entity.PrimaryKey.KeyId
	s := &packet.Signature{
		Version:      k.entity.PrimaryKey.Version,
		SigType:      t,
		PubKeyAlgo:   k.entity.PrimaryKey.PubKeyAlgo,
		Hash:         crypto.SHA512,
		CreationTime: at,
		IssuerKeyId:  &id,
	}
	if kind != "" {
		s.Notations = []*packet.Notation{{Name: kindNotation, Value: []byte(kind), IsCritical: true, IsHumanReadable: true}}
	}
	h := s.Hash.New()
	if _, err := io.Copy(h, data); err != nil {
		return nil, fmt.Errorf("sign with %s: %w", k.Fingerprint(), err)
	}
	var out bytes.Buffer
	if err := s.Sign(h, k.entity.PrivateKey, signConfig(at)); err != nil {
		return nil, fmt.Errorf("sign with %s: %w", k.Fingerprint(), err)
	}
	if err := s.Serialize(&out); err != nil {
		return nil, fmt.Errorf("sign with %s: %w", k.Fingerprint(), err)
	}
	return out.Bytes(), nil
}
