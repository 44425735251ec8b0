package sign

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

const (
	// maxSignatures bounds the signatures on one document; InRelease of a
	// Debian stable release has three.
	maxSignatures = 32

	// skew is how far a signature may lie in the future of our clock, the
	// same as for the Date of a Release file.
	skew = time.Hour

	// kindNotation names the purpose of a statement's signature. The part
	// after the @ keeps it out of the names that the IETF registers.
	kindNotation = "statement@dbuild"
)

// Policy says which signatures are good enough.
type Policy struct {
	// Allowed lists fingerprints of primary keys; empty allows every key of
	// the ring.
	Allowed []string
	// Now is the time at which keys and signatures must be valid. The zero
	// value is the current time.
	Now time.Time
	// Kind is the purpose that the signature itself must name, as given to
	// [Key.DetachSign]. If it is empty, signatures that name one are refused.
	Kind string
	// LaxExpiry accepts a key that expired after it made the signature. Fit
	// for a source package, which is signed once; not for an archive.
	LaxExpiry bool
}

// Signature describes the signature that was accepted or, beside an error,
// as much as is known of the one that the error is about.
type Signature struct {
	Fingerprint string    // of the primary key, upper-case hex; "" if the key is unknown
	KeyID       string    // of the key that signed, 16 upper-case hex digits
	Created     time.Time // as the signer claims
	Hash        string    // "SHA512"
	Signer      string    // user id
}

// VerifyClearsigned verifies a clearsigned document, framed as
// [SplitClearsigned] demands, and returns the signed text. At least one
// signature must satisfy the policy; signatures by unknown keys beside it do
// no harm, but a signature by a known key that does not fit the text refuses
// the document, as in apt. The text is nil if err is not.
func (r *Keyring) VerifyClearsigned(doc []byte, pol Policy) (text []byte, sig Signature, err error) {
	text, armored, err := SplitClearsigned(doc)
	if err != nil {
		return nil, sig, err
	}
	packets, _, err := decodeArmor(armored, typeSignature)
	if err != nil {
		return nil, sig, refuse(ErrFraming, "%v", err)
	}
	d := document{text: signedBytes(text)}
	sig, err = r.verify(d, packets, pol)
	if err != nil {
		return nil, sig, err
	}
	return text, sig, nil
}

// VerifyDetached verifies a detached signature: one or several armored
// blocks with nothing before, between and after them. The rules for several
// signatures are those of [Keyring.VerifyClearsigned].
func (r *Keyring) VerifyDetached(data, armored []byte, pol Policy) (Signature, error) {
	packets, err := dearmorAll(armored)
	if err != nil {
		return Signature{}, err
	}
	return r.verify(document{data: data}, packets, pol)
}

// VerifyStream verifies a detached signature of a file that may be too large for
// memory, armored or not. open begins to read the file, once for each signature.
// Signatures of text are refused.
func (r *Keyring) VerifyStream(open func() io.Reader, sig []byte, pol Policy) (Signature, error) {
	if bytes.HasPrefix(sig, []byte("-----")) || len(sig) == 0 {
		var err error
		if sig, err = dearmorAll(sig); err != nil {
			return Signature{}, err
		}
	}
	return r.verify(document{stream: open}, sig, pol)
}

// dearmorAll decodes armored blocks of signatures with nothing between them.
func dearmorAll(armored []byte) (packets []byte, err error) {
	if len(armored) > MaxDocument {
		return nil, refuse(ErrFraming, "signature longer than %d bytes", MaxDocument)
	}
	if len(bytes.TrimSpace(armored)) == 0 {
		return nil, refuse(ErrUnsigned, "empty signature file")
	}
	for rest := armored; len(rest) > 0; {
		block, after, err := decodeArmor(rest, typeSignature)
		if err != nil {
			return nil, refuse(ErrFraming, "%v", err)
		}
		packets, rest = append(packets, block...), after
	}
	return packets, nil
}

// document is what signatures are made over: text in its signed form for
// clearsigned documents, stream or data for all others.
type document struct {
	text, data []byte
	stream     func() io.Reader
}

// signedBy reads the bytes that a signature of this type covers. In a
// clearsigned document only text signatures have a meaning.
func (d document) signedBy(t packet.SignatureType) (open func() io.Reader, ok bool) {
	read := func(b []byte) func() io.Reader { return func() io.Reader { return bytes.NewReader(b) } }
	switch {
	case t == packet.SigTypeText && d.text != nil:
		return read(d.text), true
	case t == packet.SigTypeText && d.stream == nil:
		lf := bytes.ReplaceAll(d.data, []byte("\r\n"), []byte{'\n'})
		return read(bytes.ReplaceAll(lf, []byte{'\n'}, []byte("\r\n"))), true
	case t == packet.SigTypeBinary && d.stream != nil:
		return d.stream, true
	case t == packet.SigTypeBinary && d.text == nil:
		return read(d.data), true
	}
	return nil, false
}

// verify judges each signature packet and picks the verdict on the document.
func (r *Keyring) verify(d document, packets []byte, pol Policy) (Signature, error) {
	if pol.Now.IsZero() {
		pol.Now = time.Now()
	}
	var good, worst *verdict
	for n := 0; len(packets) > 0; n++ {
		p, rest, err := nextPacket(packets)
		if err != nil || p.tag != tagSignature || n == maxSignatures {
			return Signature{}, refuse(ErrFraming, "signature block holds other things than signatures")
		}
		v := r.judge(d, p, pol)
		switch {
		case v.err == nil && good == nil:
			good = &v
		case v.err != nil && (worst == nil || v.rank() < worst.rank()):
			worst = &v
		}
		packets = rest
	}
	if worst != nil && (good == nil || errors.Is(worst.err, ErrBadSignature)) {
		return worst.sig, worst.err
	}
	return good.sig, nil
}

// verdict is the finding on one signature, or on one copy of its key.
type verdict struct {
	sig Signature
	err error
}

// rank orders the refusals by how much they tell: forgery before revocation
// before a signer whom nobody knows.
func (v verdict) rank() int {
	for i, reason := range []error{ErrBadSignature, ErrKeyRevoked, ErrNotAllowed, ErrWeak, ErrKeyExpired,
		ErrSignatureTime, ErrKeyUnusable, ErrUnsupported} {
		if errors.Is(v.err, reason) {
			return i
		}
	}
	return 100
}

// judge examines one signature packet.
func (r *Keyring) judge(d document, p rawPacket, pol Policy) verdict {
	s, err := parseSignature(p)
	if err != nil {
		return verdict{err: err}
	}
	id, ok := issuer(s)
	if !ok {
		return verdict{err: refuse(ErrUnknownKey, "signature names no key")}
	}
	sig := Signature{KeyID: fmt.Sprintf("%016X", id), Created: s.CreationTime.UTC(), Hash: hashName(s.Hash)}
	entities, err := r.entities(id)
	if len(entities) == 0 {
		if err != nil {
			return verdict{sig, refuse(ErrKeyUnusable, "key %s: %v", sig.KeyID, err)}
		}
		return verdict{sig, refuse(ErrUnknownKey, "%s", sig.KeyID)}
	}
	signed, ok := d.signedBy(s.SigType)
	if !ok {
		return verdict{sig, refuse(ErrUnsupported, "signature of type %#02x", int(s.SigType))}
	}
	// The keyrings may hold a key twice, in different states. A copy that
	// is revoked decides; otherwise the best copy does.
	var best *verdict
	for _, e := range entities {
		v := signer{e, id, sig}.judge(s, signed, pol)
		if errors.Is(v.err, ErrKeyRevoked) {
			return v
		}
		if best == nil || best.err != nil && (v.err == nil || v.rank() > best.rank()) {
			best = &v
		}
	}
	return *best
}

// parseSignature reads a signature packet. Version 3 is refused here: go-crypto
// cannot read it and it has no place for anything but key id and time.
func parseSignature(p rawPacket) (*packet.Signature, error) {
	if len(p.body) < 6 {
		return nil, refuse(ErrFraming, "truncated signature")
	}
	if v := p.body[0]; v < 4 {
		return nil, refuse(ErrWeak, "signature of version %d", v)
	}
	if h := p.body[3]; h < 4 && h != 2 { // 1 is MD5, 3 RIPEMD-160, 2 SHA-1 which parses
		return nil, refuse(ErrWeak, "signature with hash algorithm %d", h)
	}
	parsed, err := packet.Read(bytes.NewReader(p.all))
	if err != nil {
		return nil, refuse(ErrUnsupported, "%v", err)
	}
	s, ok := parsed.(*packet.Signature)
	if !ok {
		return nil, refuse(ErrUnsupported, "not a signature packet")
	}
	return s, nil
}

// issuer returns the id of the key that claims to have signed.
func issuer(s *packet.Signature) (uint64, bool) {
	switch {
	case len(s.IssuerFingerprint) == 20:
		return binary.BigEndian.Uint64(s.IssuerFingerprint[12:]), true
	case len(s.IssuerFingerprint) == 32:
		return binary.BigEndian.Uint64(s.IssuerFingerprint), true
	case s.IssuerKeyId != nil:
		return *s.IssuerKeyId, true
	}
	return 0, false
}

// hashName is the name in the form of the "Hash" armor header.
func hashName(h crypto.Hash) string {
	switch h {
	case crypto.SHA1:
		return "SHA1"
	case crypto.SHA224, crypto.SHA256, crypto.SHA384, crypto.SHA512:
		return "SHA" + strconv.Itoa(h.Size()*8)
	}
	return h.String()
}
