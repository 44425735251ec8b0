package dsc

import (
	"errors"

	"dbuild/internal/fault"
	"dbuild/sign"
)

// State is what is known of a document's signature. The names are stable.
type State string

// The states. Documents with a signature that does not fit their text are
// refused and have no state.
const (
	Unsigned   State = "none"
	Unverified State = "unverified" // signed, but there was no keyring to look at
	Good       State = "good"
	UnknownKey State = "unknown-key" // 3 to 7 % of Debian's .dsc files
	ExpiredKey State = "expired-key" // it had expired when it signed
	RevokedKey State = "revoked-key"
	NotAllowed State = "not-allowed"
	Weak       State = "weak"
	Unusable   State = "unusable" // a kind of signature or key that cannot be judged
)

// Signed describes the signature of a document.
type Signed struct {
	State       State
	Signer      string // user id, if the key is known
	Fingerprint string // of the primary key; the key id if only that is known
	Note        string // why the state is not good
}

// checkSignature separates the signed text of doc from its signature and
// judges that. An unsigned document is its own text.
func checkSignature(doc []byte, o Options) (text []byte, s Signed, err error) {
	text, _, err = sign.SplitClearsigned(doc)
	switch {
	case errors.Is(err, sign.ErrUnsigned):
		if o.RequireSignature {
			return nil, s, fault.WithHint(err, "sign it with debsign, or drop --require-signature")
		}
		return doc, Signed{State: Unsigned}, nil
	case err != nil:
		return nil, s, err
	case o.Keyring == nil && o.RequireSignature:
		return nil, s, fault.New(fault.Trust, "a signature is required, but there is no keyring to verify it with")
	case o.Keyring == nil:
		return text, Signed{State: Unverified, Note: "no keyring to verify it with"}, nil
	}
	// A source package is signed once and may be older than its signer's
	// key lasts.
	pol := sign.Policy{Allowed: o.Allowed, Now: o.Now, LaxExpiry: true}
	_, sig, err := o.Keyring.VerifyClearsigned(doc, pol)
	s = Signed{State: stateOf(err), Signer: sig.Signer, Fingerprint: sig.Fingerprint}
	if s.Fingerprint == "" {
		s.Fingerprint = sig.KeyID
	}
	if err != nil {
		if o.RequireSignature || errors.Is(err, sign.ErrBadSignature) || errors.Is(err, sign.ErrFraming) {
			return nil, s, err
		}
		s.Note = err.Error()
	}
	return text, s, nil
}

func stateOf(err error) State {
	if err == nil {
		return Good
	}
	for reason, state := range map[error]State{
		sign.ErrUnknownKey: UnknownKey, sign.ErrKeyExpired: ExpiredKey, sign.ErrKeyRevoked: RevokedKey,
		sign.ErrNotAllowed: NotAllowed, sign.ErrWeak: Weak,
	} {
		if errors.Is(err, reason) {
			return state
		}
	}
	return Unusable
}
