package sign

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"dbuild/internal/fault"
)

// AgentKey is a key of the user's gpg-agent that signs for a repository. Its
// secret part is never seen: gpg signs.
type AgentKey struct {
	gpg         GPG
	fingerprint string
	public      []byte
	ring        *Keyring
	expiry      Expiry
}

// FindAgentKey asks gpg for the one secret key that id names: a fingerprint, key
// id or user id. It is checked that the key signs, and that apt accepts what it
// signs; so the agent may ask for its passphrase.
func FindAgentKey(ctx context.Context, gpg GPG, id string) (*AgentKey, error) {
	k, err := findAgentKey(ctx, gpg, id)
	if err != nil {
		return nil, fault.Wrap(fault.Trust, fmt.Errorf("key %q of gpg: %w", id, err))
	}
	return k, nil
}

func findAgentKey(ctx context.Context, gpg GPG, id string) (*AgentKey, error) {
	listed, err := gpg.run(ctx, nil, "--with-colons", "--list-secret-keys", "--", id)
	if err != nil {
		return nil, err
	}
	found := primaryFingerprints(string(listed))
	if len(found) != 1 {
		err := fault.New(fault.Usage, "%d secret keys have that name", len(found))
		return nil, fault.WithHint(err, "give a fingerprint: %s --list-secret-keys", gpg.by())
	}
	gpg.KeyID = found[0]
	public, err := exportKey(ctx, gpg)
	if err != nil {
		return nil, err
	}
	k, err := NewAgentKey(gpg, public)
	if err != nil {
		return nil, err
	}
	if k.expiry.Over(time.Now()) {
		return nil, k.expired()
	}
	_, err = k.Sign(ctx, Text, []byte("does it sign?\n"), time.Now())
	return k, err
}

// primaryFingerprints reads them from gpg's list of secret keys (doc/DETAILS in
// its source): the first record "fpr" after each "sec".
func primaryFingerprints(listed string) (found []string) {
	primary := false
	for line := range strings.Lines(listed) {
		f := strings.Split(strings.TrimSpace(line), ":")
		switch {
		case f[0] == "sec":
			primary = true
		case f[0] == "fpr" && primary && len(f) > 9:
			found, primary = append(found, f[9]), false
		}
	}
	return found
}

// exportKey asks gpg for a key's public part. A minimal one would lack the
// subkeys of a key that has expired.
func exportKey(ctx context.Context, gpg GPG) ([]byte, error) {
	return gpg.run(ctx, nil, "--no-armor", "--export-options", "no-export-attributes", "--export", "--", gpg.KeyID)
}

// NewAgentKey is the key with the given public part, binary or armored. gpg is
// run when it signs.
func NewAgentKey(gpg GPG, public []byte) (*AgentKey, error) {
	ring, err := ParseKeyring(public)
	if err != nil {
		return nil, err
	}
	if len(ring.keys) != 1 {
		return nil, refuse(ErrKeyring, "%d keys in the place of one", len(ring.keys))
	}
	k := &AgentKey{gpg: gpg, fingerprint: ring.keys[0].fingerprint, public: ring.keys[0].data, ring: ring}
	k.gpg.KeyID = k.fingerprint
	k.expiry, err = agentExpiry(k.gpg, k.public, time.Now())
	return k, err
}

// Refresh asks gpg for the public part as it is now: its owner may have moved
// the end of its time, or added a subkey. The key that comes back is the same
// one, or k if nothing has changed.
func (k *AgentKey) Refresh(ctx context.Context) (*AgentKey, error) {
	public, err := exportKey(ctx, k.gpg)
	if err == nil && len(public) == 0 {
		err = errors.New("gpg does not have it")
	}
	if err != nil {
		return k, fault.Wrap(fault.Trust, fmt.Errorf("read key %s: %w", k.fingerprint, err))
	}
	now, err := NewAgentKey(k.gpg, public)
	if err != nil || now.fingerprint != k.fingerprint || bytes.Equal(now.public, k.public) {
		return k, err
	}
	return now, nil
}

// expired is the error of a key whose time is over.
func (k *AgentKey) expired() error {
	err := fault.New(fault.Trust, "the key %s has expired on %s", k.fingerprint, k.expiry.At.UTC().Format(time.DateOnly))
	return fault.WithHint(err, "%s", k.expiry.Mend)
}

// Fingerprint returns that of the primary key, 40 upper-case hex digits.
func (k *AgentKey) Fingerprint() string { return k.fingerprint }

// Public returns the public key in binary form.
func (k *AgentKey) Public() []byte { return k.public }

// Expiry is that of the primary key or of the subkey that gpg signs with,
// whichever ends first.
func (k *AgentKey) Expiry() Expiry { return k.expiry }

// Sign runs gpg, and checks what comes back with the public part. The errors have
// the class [fault.Trust], or [fault.Timeout] when ctx ended.
func (k *AgentKey) Sign(ctx context.Context, form Form, data []byte, _ time.Time) ([]byte, error) {
	armored, err := k.armored(ctx, form, data)
	if err != nil {
		if now, e := k.Refresh(ctx); e == nil && now.expiry.Over(time.Now()) { // gpg just says that it has none
			return nil, now.expired()
		}
		return nil, fault.Wrap(fault.Trust, fmt.Errorf("sign with %s: %w", k.fingerprint, err))
	}
	packets, _, err := decodeArmor(armored, typeSignature)
	if err != nil {
		return nil, refuse(ErrFraming, "%v", err)
	}
	return packets, nil
}

func (k *AgentKey) armored(ctx context.Context, form Form, data []byte) (armored []byte, err error) {
	if form == Binary {
		if armored, err = k.gpg.sign(ctx, data, "--armor", "--detach-sign"); err != nil {
			return nil, err
		}
		_, err = k.ring.VerifyDetached(data, armored, Policy{})
	} else {
		doc, e := k.gpg.clearsign(ctx, data)
		if e != nil {
			return nil, e
		}
		if _, armored, err = SplitClearsigned(doc); err == nil {
			_, _, err = k.ring.VerifyClearsigned(doc, Policy{})
		}
	}
	if errors.Is(err, ErrUnknownKey) {
		err = fault.WithHint(fmt.Errorf("gpg signs with a subkey that is new: %w", err), "dbuild repo key")
	}
	return armored, err
}

// agentExpiry finds the key that gpg signs with: the newest subkey that may, or
// else the primary key.
func agentExpiry(gpg GPG, public []byte, now time.Time) (Expiry, error) {
	e, err := openpgp.ReadEntity(packet.NewReader(bytes.NewReader(public)))
	if err != nil {
		return Expiry{}, refuse(ErrKeyUnusable, "%v", err)
	}
	self, err := e.PrimarySelfSignature(now, nil)
	if err != nil {
		return Expiry{}, refuse(ErrKeyUnusable, "%v", err)
	}
	if e.Revoked(now) {
		return Expiry{}, refuse(ErrKeyRevoked, "%s", gpg.KeyID)
	}
	mend := gpg.by() + " --quick-set-expire " + gpg.KeyID + " 1y"
	primary := Expiry{endOf(e.PrimaryKey, self), mend}
	var signing *Expiry
	var newest time.Time
	for i := range e.Subkeys {
		sub := &e.Subkeys[i]
		binding, err := sub.LatestValidBindingSignature(now, nil)
		if err != nil || sub.Revoked(binding, now) || !binding.FlagsValid || !binding.FlagSign {
			continue
		}
		end := Expiry{endOf(sub.PublicKey, binding), mend + " " + hexUpper(sub.PublicKey.Fingerprint)}
		better := signing == nil || signing.Over(now) && !end.Over(now)
		if !better && end.Over(now) == signing.Over(now) {
			better = sub.PublicKey.CreationTime.After(newest)
		}
		if better {
			signing, newest = &end, sub.PublicKey.CreationTime
		}
	}
	maySign := !self.FlagsValid || self.FlagSign
	switch {
	case signing == nil && !maySign:
		return Expiry{}, refuse(ErrKeyUnusable, "%s is not a signing key", gpg.KeyID)
	case signing == nil, maySign && signing.Over(now):
		return primary, nil
	case !primary.At.IsZero() && (signing.At.IsZero() || primary.At.Before(signing.At)):
		return primary, nil
	}
	return *signing, nil
}

// endOf is when a key expires as its self-signature says, the zero time for
// never.
func endOf(key *packet.PublicKey, self *packet.Signature) time.Time {
	if self.KeyLifetimeSecs == nil || *self.KeyLifetimeSecs == 0 {
		return time.Time{}
	}
	return key.CreationTime.Add(time.Duration(*self.KeyLifetimeSecs) * time.Second)
}
