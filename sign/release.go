package sign

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Form says what a signature is made over.
type Form int

// The forms of the signatures of a Release file.
const (
	Text   Form = iota // the text of a clearsigned document
	Binary             // a file as it is
)

// Signer signs for a repository: a local [Key], or an [AgentKey].
type Signer interface {
	// Fingerprint returns that of the primary key, 40 upper-case hex digits.
	Fingerprint() string
	// Public returns the public key in binary form.
	Public() []byte
	// Expiry says how long the key can sign.
	Expiry() Expiry
	// Sign returns a signature packet over data. It may take as long as a
	// person needs to type a passphrase, and ends with ctx. A local key dates
	// the signature at; another has a clock of its own.
	Sign(ctx context.Context, form Form, data []byte, at time.Time) ([]byte, error)
}

// ExpiryNotice is how long before its end a key is warned of.
const ExpiryNotice = 30 * 24 * time.Hour

// Expiry is the end of the time for which a key can sign.
type Expiry struct {
	At   time.Time // zero: never
	Mend string    // the command that moves it
}

// Over tells whether the key can no longer sign.
func (e Expiry) Over(now time.Time) bool { return !e.At.IsZero() && !now.Before(e.At) }

// Near tells whether it is time to warn.
func (e Expiry) Near(now time.Time) bool { return e.Over(now.Add(ExpiryNotice)) }

// Public returns the public key in binary form.
func (k *Key) Public() []byte { return k.public }

// Expiry is never: local keys do not expire.
func (k *Key) Expiry() Expiry { return Expiry{} }

// Sign signs in memory; ctx plays no role.
func (k *Key) Sign(_ context.Context, form Form, data []byte, at time.Time) ([]byte, error) {
	if form == Text {
		return k.signature(packet.SigTypeText, bytes.NewReader(signedBytes(data)), at, "")
	}
	return k.signature(packet.SigTypeBinary, bytes.NewReader(data), at, "")
}

// ClearsignAll is [Key.Clearsign] with a signature by each key, the form of an
// InRelease while one key takes over from another: a reader that knows any of
// them accepts it.
func ClearsignAll(ctx context.Context, keys []Signer, text []byte, at time.Time) ([]byte, error) {
	plain, escaped, err := escapeText(text)
	if err != nil {
		return nil, fmt.Errorf("clearsign: %w", err)
	}
	sig, err := signAll(ctx, keys, Text, plain, at)
	if err != nil {
		return nil, err
	}
	return slices.Concat([]byte(beginLine(typeMessage)+"\nHash: SHA512\n\n"), escaped, sig), nil
}

// DetachSignAll is [Key.DetachSign], of no kind, with a signature by each key.
func DetachSignAll(ctx context.Context, keys []Signer, data []byte, at time.Time) ([]byte, error) {
	return signAll(ctx, keys, Binary, data, at)
}

func signAll(ctx context.Context, keys []Signer, form Form, data []byte, at time.Time) ([]byte, error) {
	var all []byte
	for _, k := range keys {
		packets, err := k.Sign(ctx, form, data, at)
		if err != nil {
			return nil, err
		}
		all = append(all, packets...)
	}
	return encodeArmor(typeSignature, all), nil
}

// PublicArmored returns the public parts of keys as one keyring for Signed-By.
func PublicArmored(keys []Signer) []byte {
	var all []byte
	for _, k := range keys {
		all = append(all, k.Public()...)
	}
	return encodeArmor(typePublicKey, all)
}
