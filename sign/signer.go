package sign

import (
	"crypto"
	"fmt"
	"io"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// minRSABits is what apt of Debian 13 demands (a modulus may be one bit short).
const minRSABits = 2047

// signer is one known key in the light of one signature that names it.
type signer struct {
	entity *openpgp.Entity
	id     uint64
	sig    Signature
}

// judge decides whether the signature s over what signed reads is good.
func (k signer) judge(s *packet.Signature, signed func() io.Reader, pol Policy) verdict {
	k.sig.Fingerprint = hexUpper(k.entity.PrimaryKey.Fingerprint)
	// Our clock may be a little behind the signer's.
	now := pol.Now
	if s.CreationTime.After(now) && s.CreationTime.Before(now.Add(skew)) {
		now = s.CreationTime
	}
	if _, id := k.entity.PrimaryIdentity(now, nil); id != nil {
		k.sig.Signer = id.Name
	}
	for _, check := range []func() error{
		func() error { return k.checkStrength(s) },
		func() error { return k.checkBytes(s, signed) },
		func() error { return k.checkTime(s, now) },
		func() error { return k.checkKey(s, now, pol.LaxExpiry) },
		func() error { return k.checkPurpose(s, pol) },
	} {
		if err := check(); err != nil {
			return verdict{k.sig, err}
		}
	}
	return verdict{k.sig, nil}
}

// key returns the key that signed: the primary key or one of its subkeys.
func (k signer) key() (pub *packet.PublicKey, subkey *openpgp.Subkey) {
	if k.entity.PrimaryKey.KeyId == k.id {
		return k.entity.PrimaryKey, nil
	}
	for i := range k.entity.Subkeys {
		if sub := &k.entity.Subkeys[i]; sub.PublicKey.KeyId == k.id {
			return sub.PublicKey, sub
		}
	}
	return nil, nil
}

// checkStrength refuses hashes and keys that can be forged, or soon could.
func (k signer) checkStrength(s *packet.Signature) error {
	pub, _ := k.key()
	if pub == nil {
		return refuse(ErrKeyUnusable, "subkey %s cannot be read", k.sig.KeyID)
	}
	switch s.Hash {
	case crypto.SHA1, crypto.MD5, crypto.RIPEMD160:
		return refuse(ErrWeak, "%s by %s", k.sig.Hash, k.sig.Fingerprint)
	}
	for _, key := range []*packet.PublicKey{k.entity.PrimaryKey, pub} {
		switch key.PubKeyAlgo {
		case packet.PubKeyAlgoRSA, packet.PubKeyAlgoRSASignOnly:
			if bits, err := key.BitLength(); err != nil || bits < minRSABits {
				return refuse(ErrWeak, "RSA key of %d bits, %s", bits, k.sig.Fingerprint)
			}
		case packet.PubKeyAlgoDSA:
			return refuse(ErrWeak, "DSA key %s", k.sig.Fingerprint)
		}
	}
	return nil
}

// checkBytes is the cryptographic check alone.
func (k signer) checkBytes(s *packet.Signature, signed func() io.Reader) error {
	pub, _ := k.key()
	h, err := s.PrepareVerify()
	if err != nil {
		return refuse(ErrUnsupported, "%v", err)
	}
	if _, err := io.Copy(h, signed()); err != nil {
		return fmt.Errorf("read what is signed: %w", err)
	}
	if err := pub.VerifySignature(h, s); err != nil {
		return refuse(ErrBadSignature, "by %s: the signed bytes were changed", k.sig.Fingerprint)
	}
	return nil
}

func (k signer) checkTime(s *packet.Signature, now time.Time) error {
	switch {
	case s.CreationTime.After(now):
		return refuse(ErrSignatureTime, "made in the future, %s", s.CreationTime.UTC().Format(time.RFC3339))
	case s.SigExpired(now):
		return refuse(ErrSignatureTime, "it has expired")
	}
	return nil
}

// checkKey asks the newest self-signatures whether the key may sign. Both
// the primary key and a signing subkey must be unrevoked and unexpired.
func (k signer) checkKey(s *packet.Signature, now time.Time, lax bool) error {
	primary := k.entity.PrimaryKey
	if k.entity.Revoked(now) {
		return refuse(ErrKeyRevoked, "%s", k.sig.Fingerprint)
	}
	self, err := k.entity.PrimarySelfSignature(now, nil)
	if err != nil {
		return refuse(ErrKeyUnusable, "%s: %v", k.sig.Fingerprint, err)
	}
	when := now
	if lax {
		when = s.CreationTime
	}
	pub, sub := k.key()
	if s.CreationTime.Before(pub.CreationTime) {
		return refuse(ErrKeyUnusable, "%s is younger than the signature", k.sig.KeyID)
	}
	expired := primary.KeyExpired(self, when)
	if direct, err := k.entity.LatestValidDirectSignature(now, nil); err == nil && primary.Version < 6 {
		expired = expired || primary.KeyExpired(direct, when)
	}
	if expired {
		return refuse(ErrKeyExpired, "%s", k.sig.Fingerprint)
	}
	if sub != nil {
		return k.checkSubkey(sub, now, when)
	}
	// A primary key without flags may sign, as in gpg.
	if self.FlagsValid && !self.FlagSign {
		return refuse(ErrKeyUnusable, "%s is not a signing key", k.sig.KeyID)
	}
	return nil
}

// checkSubkey does the same for a subkey, whose binding must state that it
// signs: only then does the library demand that the subkey agrees to it.
func (k signer) checkSubkey(sub *openpgp.Subkey, now, when time.Time) error {
	binding, err := sub.LatestValidBindingSignature(now, nil)
	switch {
	case err != nil:
		return refuse(ErrKeyUnusable, "subkey %s: %v", k.sig.KeyID, err)
	case sub.Revoked(binding, now):
		return refuse(ErrKeyRevoked, "subkey %s", k.sig.KeyID)
	case sub.PublicKey.KeyExpired(binding, when):
		return refuse(ErrKeyExpired, "subkey %s", k.sig.KeyID)
	case !binding.FlagsValid || !binding.FlagSign:
		return refuse(ErrKeyUnusable, "subkey %s is not a signing key", k.sig.KeyID)
	}
	return nil
}

// checkPurpose compares what the signature is for, and by whom, with the
// policy. RFC 9580 section 5.2.3.24: a critical notation that the verifier
// does not know makes the signature invalid.
func (k signer) checkPurpose(s *packet.Signature, pol Policy) error {
	kind := ""
	for _, n := range s.Notations {
		switch {
		case n.Name == kindNotation && n.IsCritical && kind == "" && len(n.Value) > 0:
			kind = string(n.Value)
		case n.Name == kindNotation, n.IsCritical:
			return refuse(ErrNotAllowed, "notation %q", n.Name)
		}
	}
	switch {
	case kind != pol.Kind:
		return refuse(ErrNotAllowed, "signed as %q, not %q", kind, pol.Kind)
	case len(pol.Allowed) > 0 && !allowed(k.sig.Fingerprint, pol.Allowed):
		return refuse(ErrNotAllowed, "%s", k.sig.Fingerprint)
	}
	return nil
}
