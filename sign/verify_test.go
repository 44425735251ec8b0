package sign

import (
	"crypto"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"dbuild/internal/fault"
)

func sha1Sig(s *packet.Signature) { s.Hash = crypto.SHA1 }

func madeAt(at time.Time) signOption { return func(s *packet.Signature) { s.CreationTime = at } }

func lasting(d time.Duration) signOption {
	secs := uint32(d / time.Second)
	return func(s *packet.Signature) { s.SigLifetimeSecs = &secs }
}

func notation(name, value string, critical bool) signOption {
	return func(s *packet.Signature) {
		s.Notations = append(s.Notations, &packet.Notation{Name: name, Value: []byte(value), IsCritical: critical, IsHumanReadable: true})
	}
}

// revoked returns a copy of the key that carries its revocation.
func revoked(t *testing.T, e *openpgp.Entity, reason packet.ReasonForRevocation) *openpgp.Entity {
	t.Helper()
	c := *e
	if err := c.Revoke(reason, "", signConfig(now.AddDate(0, -1, 0))); err != nil {
		t.Fatal(err)
	}
	return &c
}

// withSubkey returns a key with one subkey that signs.
func withSubkey(t *testing.T, crossSigned bool) *openpgp.Entity {
	t.Helper()
	e := testKey(t, "Subkeys", nil)
	config := signConfig(born)
	config.Algorithm = packet.PubKeyAlgoEdDSA
	if err := e.AddSigningSubkey(config); err != nil {
		t.Fatal(err)
	}
	if !crossSigned {
		binding := e.Subkeys[0].Bindings[0].Packet
		binding.EmbeddedSignature = nil
		if err := binding.SignKey(e.Subkeys[0].PublicKey, e.PrivateKey, config); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

// version3 is a signature packet as PGP 5 and old GnuPG wrote it.
func version3(keyID uint64) []byte {
	body := []byte{3, 5, byte(packet.SigTypeText), 0x60, 0, 0, 0}
	for i := range 8 {
		body = append(body, byte(keyID>>(56-8*i)))
	}
	body = append(body, byte(packet.PubKeyAlgoRSA), 8, 0, 0, 0, 8, 0xff)
	return append([]byte{0xc0 | tagSignature, byte(len(body))}, body...)
}

// TestSigners has the rows of reliability table 1.5 that concern keys, and
// those of B03: who signed, how, and when.
func TestSigners(t *testing.T) {
	archive, other, unknown := testKey(t, "Archive", nil), testKey(t, "Other", nil), testKey(t, "Unknown", nil)
	expired := testKey(t, "Expired", func(c *packet.Config) { c.KeyLifetimeSecs = 100 * 24 * 3600 })
	rsa := func(bits int) func(*packet.Config) {
		return func(c *packet.Config) { c.Algorithm, c.RSABits = packet.PubKeyAlgoRSA, bits }
	}
	small, large := testKey(t, "Small", rsa(1024)), testKey(t, "Large", rsa(2048))
	sub, unbound := withSubkey(t, true), withSubkey(t, false)
	lost := revoked(t, other, packet.KeyCompromised)
	retired := revoked(t, other, packet.KeyRetired)
	whileValid := madeAt(born.AddDate(0, 1, 0))
	sig := func(e *openpgp.Entity, options ...signOption) []byte { return textSig(t, e, releaseText, options...) }
	bySubkey := func(e *openpgp.Entity) []byte {
		return sigPacket(t, e.Subkeys[0].PrivateKey, packet.SigTypeText, signedBytes([]byte(releaseText)))
	}
	fingerprint := func(e *openpgp.Entity) string { return hexUpper(e.PrimaryKey.Fingerprint) }

	tests := []struct {
		name    string
		ring    []*openpgp.Entity
		packets [][]byte
		policy  Policy
		want    error
	}{
		{"good", []*openpgp.Entity{other, archive}, [][]byte{sig(archive)}, Policy{}, nil},
		{"RSA", []*openpgp.Entity{large}, [][]byte{sig(large)}, Policy{}, nil},
		{"two signatures, one key unknown", []*openpgp.Entity{archive}, [][]byte{sig(unknown), sig(archive)}, Policy{}, nil},
		{"two signatures, one weak", []*openpgp.Entity{archive}, [][]byte{sig(archive, sha1Sig), sig(archive)}, Policy{}, nil},
		{"two signatures, one of version 3", []*openpgp.Entity{archive}, [][]byte{version3(archive.PrimaryKey.KeyId), sig(archive)}, Policy{}, nil},
		{"two signatures, one expired key", []*openpgp.Entity{archive, expired}, [][]byte{sig(expired, whileValid), sig(archive)}, Policy{}, nil},
		{"two signatures, one forged", []*openpgp.Entity{archive, other}, [][]byte{textSig(t, other, "other\n"), sig(archive)}, Policy{}, ErrBadSignature},
		{"unknown key", []*openpgp.Entity{archive}, [][]byte{sig(unknown)}, Policy{}, ErrUnknownKey},
		{"SHA-1", []*openpgp.Entity{archive}, [][]byte{sig(archive, sha1Sig)}, Policy{}, ErrWeak},
		{"version 3", []*openpgp.Entity{archive}, [][]byte{version3(archive.PrimaryKey.KeyId)}, Policy{}, ErrWeak},
		{"small RSA key", []*openpgp.Entity{small}, [][]byte{sig(small)}, Policy{}, ErrWeak},
		{"text signed as binary", []*openpgp.Entity{archive},
			[][]byte{sigPacket(t, archive.PrivateKey, packet.SigTypeBinary, signedBytes([]byte(releaseText)))}, Policy{}, ErrUnsupported},

		{"key expired, signed while valid", []*openpgp.Entity{expired}, [][]byte{sig(expired, whileValid)}, Policy{}, ErrKeyExpired},
		{"the same, lax", []*openpgp.Entity{expired}, [][]byte{sig(expired, whileValid)}, Policy{LaxExpiry: true}, nil},
		{"key expired before it signed, lax", []*openpgp.Entity{expired}, [][]byte{sig(expired)}, Policy{LaxExpiry: true}, ErrKeyExpired},
		{"key compromised", []*openpgp.Entity{lost}, [][]byte{sig(other)}, Policy{}, ErrKeyRevoked},
		{"key compromised, lax", []*openpgp.Entity{lost}, [][]byte{sig(other, whileValid)}, Policy{LaxExpiry: true}, ErrKeyRevoked},
		{"key retired", []*openpgp.Entity{retired}, [][]byte{sig(other, whileValid)}, Policy{}, ErrKeyRevoked},
		{"a second copy is revoked", []*openpgp.Entity{other, lost}, [][]byte{sig(other)}, Policy{}, ErrKeyRevoked},
		{"the first copy is revoked", []*openpgp.Entity{lost, other}, [][]byte{sig(other)}, Policy{}, ErrKeyRevoked},
		{"key younger than the signature", []*openpgp.Entity{archive}, [][]byte{sig(archive, madeAt(born.Add(-time.Hour)))}, Policy{}, ErrKeyUnusable},
		{"key from the future", []*openpgp.Entity{archive}, [][]byte{sig(archive)}, Policy{Now: born.AddDate(-1, 0, 0)}, ErrSignatureTime},

		{"signature expired", []*openpgp.Entity{archive}, [][]byte{sig(archive, lasting(time.Minute))}, Policy{}, ErrSignatureTime},
		{"signature not expired", []*openpgp.Entity{archive}, [][]byte{sig(archive, lasting(24*time.Hour))}, Policy{}, nil},
		{"signed half an hour ahead", []*openpgp.Entity{archive}, [][]byte{sig(archive, madeAt(now.Add(30*time.Minute)))}, Policy{}, nil},
		{"signed tomorrow", []*openpgp.Entity{archive}, [][]byte{sig(archive, madeAt(now.AddDate(0, 0, 1)))}, Policy{}, ErrSignatureTime},

		{"subkey", []*openpgp.Entity{sub}, [][]byte{bySubkey(sub)}, Policy{Allowed: []string{fingerprint(sub)}}, nil},
		{"subkey that does not agree", []*openpgp.Entity{unbound}, [][]byte{bySubkey(unbound)}, Policy{}, ErrKeyUnusable},
		{"allowed", []*openpgp.Entity{archive}, [][]byte{sig(archive)}, Policy{Allowed: []string{strings.ToLower(fingerprint(archive))}}, nil},
		{"not allowed", []*openpgp.Entity{archive, other}, [][]byte{sig(archive)}, Policy{Allowed: []string{fingerprint(other)}}, ErrNotAllowed},
		{"statement", []*openpgp.Entity{archive}, [][]byte{sig(archive, notation(kindNotation, "base", true))}, Policy{}, ErrNotAllowed},
		{"notation that is not critical", []*openpgp.Entity{archive}, [][]byte{sig(archive, notation("x@example.org", "y", false))}, Policy{}, nil},
		{"unknown critical notation", []*openpgp.Entity{archive}, [][]byte{sig(archive, notation("x@example.org", "y", true))}, Policy{}, ErrNotAllowed},
		{"not a signature", []*openpgp.Entity{archive}, [][]byte{publicKey(t, archive)}, Policy{}, ErrFraming},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.policy.Now.IsZero() {
				tt.policy.Now = now
			}
			doc := clearsigned(t, releaseText, tt.packets...)
			text, sig, err := ringOf(t, tt.ring...).VerifyClearsigned([]byte(doc), tt.policy)
			if !errors.Is(err, tt.want) || err != nil && fault.ClassOf(err) != fault.Trust {
				t.Fatalf("error is %v (class %q), want %v", err, fault.ClassOf(err), tt.want)
			}
			if err == nil && (string(text) != releaseText || sig.Fingerprint == "" || sig.Hash != "SHA256") {
				t.Errorf("text %q, signature %+v", text, sig)
			}
		})
	}
}

func TestSignatureOfRefusal(t *testing.T) {
	key := testKey(t, "Unknown", nil)
	doc := clearsigned(t, releaseText, textSig(t, key, releaseText))
	_, sig, err := ringOf(t, testKey(t, "Archive", nil)).VerifyClearsigned([]byte(doc), Policy{Now: now})
	if !errors.Is(err, ErrUnknownKey) || sig.KeyID != hexUpper(key.PrimaryKey.Fingerprint)[24:] || sig.Fingerprint != "" {
		t.Errorf("signature %+v, error %v", sig, err)
	}
}

func TestDetached(t *testing.T) {
	key, err := Generate("Local", born)
	if err != nil {
		t.Fatal(err)
	}
	data := []byte("{\"v\":1}\n")
	plain, err := key.DetachSign(data, now, "")
	if err != nil {
		t.Fatal(err)
	}
	base, err := key.DetachSign(data, now, "base")
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := key.DetachSign(data, now, "base"); string(again) != string(base) {
		t.Error("signing twice gives different signatures")
	}
	unknown := testKey(t, "Unknown", nil)
	foreign := encodeArmor(typeSignature, sigPacket(t, unknown.PrivateKey, packet.SigTypeBinary, data))
	text := encodeArmor(typeSignature, sigPacket(t, key.entity.PrivateKey, packet.SigTypeText, []byte("{\"v\":1}\r\n")))
	tests := []struct {
		name, data, sig, kind string
		want                  error
	}{
		{"plain", string(data), string(plain), "", nil},
		{"statement", string(data), string(base), "base", nil},
		{"text signature", string(data), string(text), "", nil},
		{"two blocks", string(data), string(foreign) + string(plain), "", nil},
		{"statement of another kind", string(data), string(base), "deps", ErrNotAllowed},
		{"statement as a plain signature", string(data), string(base), "", ErrNotAllowed},
		{"plain signature as a statement", string(data), string(plain), "base", ErrNotAllowed},
		{"data changed", "{\"v\":2}\n", string(plain), "", ErrBadSignature},
		{"unknown key", string(data), string(foreign), "", ErrUnknownKey},
		{"empty", string(data), "", "", ErrUnsigned},
		{"junk before", string(data), "x\n" + string(plain), "", ErrFraming},
		{"junk between", string(data), string(plain) + "x\n" + string(plain), "", ErrFraming},
		{"junk after", string(data), string(plain) + "x\n", "", ErrFraming},
		{"binary", string(data), "\xc2\x01\x04", "", ErrFraming},
		{"too many", string(data), strings.Repeat(string(plain), maxSignatures+1), "", ErrFraming},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sig, err := key.Keyring().VerifyDetached([]byte(tt.data), []byte(tt.sig), Policy{Now: now, Kind: tt.kind})
			if !errors.Is(err, tt.want) {
				t.Fatalf("error is %v, want %v", err, tt.want)
			}
			if err == nil && sig.Fingerprint != key.Fingerprint() {
				t.Errorf("signature %+v", sig)
			}
		})
	}
}

func TestStream(t *testing.T) {
	key, err := Generate("Local", born)
	if err != nil {
		t.Fatal(err)
	}
	const data = "a file\n"
	armored, err := key.SignStream(strings.NewReader(data), now)
	if err != nil {
		t.Fatal(err)
	}
	packets, _, err := decodeArmor(armored, typeSignature)
	if err != nil {
		t.Fatal(err)
	}
	early, err := key.SignStream(strings.NewReader(data), born.AddDate(-10, 0, 0))
	if err != nil {
		t.Fatalf("a file older than the key: %v", err)
	}
	text := sigPacket(t, key.entity.PrivateKey, packet.SigTypeText, []byte("a file\r\n"))
	tests := []struct {
		name, data, sig string
		want            error
		date            time.Time
	}{
		{"armored", data, string(armored), nil, now},
		{"binary", data, string(packets), nil, now},
		{"older than the key", data, string(early), nil, born},
		{"two of them", data, string(packets) + string(packets), nil, now},
		{"data changed", data + "x", string(packets), ErrBadSignature, now},
		{"text signature", data, string(text), ErrUnsupported, time.Time{}},
		{"statement", data, string(sealedFor(t, key, data)), ErrNotAllowed, now},
		{"empty", data, "", ErrUnsigned, time.Time{}},
		{"junk", data, "junk", ErrFraming, time.Time{}},
		{"empty block", data, string(encodeArmor(typeSignature, nil)), ErrFraming, time.Time{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			open := func() io.Reader { return strings.NewReader(tt.data) }
			sig, err := key.Keyring().VerifyStream(open, []byte(tt.sig), Policy{Now: now})
			if !errors.Is(err, tt.want) || err != nil && tt.want == nil {
				t.Fatalf("error is %v, want %v", err, tt.want)
			}
			if err == nil && (sig.Fingerprint != key.Fingerprint() || !sig.Created.Equal(tt.date)) {
				t.Errorf("signature %+v", sig)
			}
		})
	}
	broken := func() io.Reader { return iotest.ErrReader(errors.New("broken disk")) }
	if _, err := key.Keyring().VerifyStream(broken, packets, Policy{Now: now}); err == nil || errors.Is(err, ErrBadSignature) {
		t.Errorf("a file that cannot be read: %v", err)
	}
	if _, err := key.SignStream(broken(), now); err == nil {
		t.Error("a file that cannot be read is signed")
	}
}

// sealedFor is a signature of data as a statement.
func sealedFor(t *testing.T, key *Key, data string) []byte {
	t.Helper()
	sig, err := key.DetachSign([]byte(data), now, "base")
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// debianRing is the keyring that Debian systems have.
const debianRing = "/usr/share/keyrings/debian-archive-keyring.gpg"

// realRelease returns an InRelease file that this machine's apt fetched and
// that is signed by Debian.
func realRelease(t testing.TB) []byte {
	t.Helper()
	paths, err := filepath.Glob("/var/lib/apt/lists/*debian_dists_*_InRelease")
	if err != nil || len(paths) == 0 {
		t.Skip("apt has no InRelease file of Debian here")
	}
	doc, err := os.ReadFile(paths[0])
	if err != nil {
		t.Skip(err)
	}
	return doc
}

func TestDebianArchive(t *testing.T) {
	doc := realRelease(t)
	ring, err := OpenKeyring(debianRing)
	if err != nil {
		t.Skip(err)
	}
	text, sig, err := ring.VerifyClearsigned(doc, Policy{})
	if err != nil || sig.Signer == "" {
		t.Fatalf("signature %+v, error %v", sig, err)
	}
	reference, err := gpgv(t, ring.Export(), string(doc))
	if err != nil || string(reference) != string(text) {
		t.Errorf("gpgv gives another text, error %v", err)
	}
}

// BenchmarkInRelease is what each start pays per suite: load Debian's
// keyring and verify a real InRelease file.
func BenchmarkInRelease(b *testing.B) {
	doc := realRelease(b)
	for b.Loop() {
		ring, err := OpenKeyring(debianRing)
		if err != nil {
			b.Skip(err)
		}
		if _, _, err := ring.VerifyClearsigned(doc, Policy{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStatement is what each start pays per image.
func BenchmarkStatement(b *testing.B) {
	key, err := Generate("Local", born)
	if err != nil {
		b.Fatal(err)
	}
	data := make([]byte, 8<<10)
	sig, err := key.DetachSign(data, now, "base")
	if err != nil {
		b.Fatal(err)
	}
	ring := key.Keyring()
	for b.Loop() {
		if _, err := ring.VerifyDetached(data, sig, Policy{Now: now, Kind: "base"}); err != nil {
			b.Fatal(err)
		}
	}
}
