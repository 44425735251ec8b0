package sign

import (
	"errors"
	"fmt"

	"dbuild/internal/fault"
)

// The reasons for which a signature is refused. Errors of this package wrap
// one of them and carry the class [fault.Trust].
var (
	ErrUnsigned      = errors.New("not signed")
	ErrFraming       = errors.New("malformed signed document")
	ErrUnknownKey    = errors.New("signed by an unknown key")
	ErrBadSignature  = errors.New("bad signature")
	ErrKeyExpired    = errors.New("signed by an expired key")
	ErrKeyRevoked    = errors.New("signed by a revoked key")
	ErrKeyUnusable   = errors.New("signed by a key that may not sign")
	ErrSignatureTime = errors.New("signature is not valid at this time")
	ErrWeak          = errors.New("signature is too weak")
	ErrUnsupported   = errors.New("unsupported signature")
	ErrNotAllowed    = errors.New("signed by a key or for a purpose that is not allowed here")

	// ErrKeyring says that a keyring cannot be used at all: empty, not
	// OpenPGP, a secret key inside, writable by others.
	ErrKeyring = errors.New("unusable keyring")
)

// refuse wraps reason, one of the sentinels above, with what was seen.
func refuse(reason error, format string, args ...any) error {
	return fault.New(fault.Trust, "%w: %s", reason, fmt.Sprintf(format, args...))
}
