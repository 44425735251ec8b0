package sign

import (
	"bytes"
	"crypto"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"dbuild/internal/testenv"
)

// born is when the keys of the tests were made, now when they are used.
var (
	born = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	now  = time.Date(2024, 6, 1, 0, 0, 0, 0, time.UTC)
)

const releaseText = "Origin: Test\nSuite: test\n\n- dash\n-----\nFrom here\nlast\n"

// testKey makes a key that is not as plain as those of Generate.
func testKey(t testing.TB, name string, change func(*packet.Config)) *openpgp.Entity {
	t.Helper()
	config := signConfig(born)
	config.Algorithm, config.Curve = packet.PubKeyAlgoEdDSA, packet.Curve25519
	if change != nil {
		change(config)
	}
	e, err := openpgp.NewEntity(name, "", "", config)
	if err != nil {
		t.Fatal(err)
	}
	e.Subkeys = nil
	return e
}

func publicKey(t testing.TB, e *openpgp.Entity) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := e.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func ringOf(t testing.TB, entities ...*openpgp.Entity) *Keyring {
	t.Helper()
	var data []byte
	for _, e := range entities {
		data = append(data, publicKey(t, e)...)
	}
	r, err := ParseKeyring(data)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// signOption changes a signature before it is made.
type signOption func(*packet.Signature)

// sigPacket makes one signature packet over signed.
func sigPacket(t testing.TB, key *packet.PrivateKey, kind packet.SignatureType, signed []byte, options ...signOption) []byte {
	t.Helper()
	id := key.KeyId
	s := &packet.Signature{
		Version: key.Version, SigType: kind, PubKeyAlgo: key.PubKeyAlgo,
		Hash: crypto.SHA256, CreationTime: now.Add(-time.Hour), IssuerKeyId: &id,
	}
	for _, o := range options {
		o(s)
	}
	h := s.Hash.New()
	h.Write(signed)
	if err := s.Sign(h, key, signConfig(s.CreationTime)); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := s.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// textSig signs text for a clearsigned document.
func textSig(t testing.TB, e *openpgp.Entity, text string, options ...signOption) []byte {
	t.Helper()
	return sigPacket(t, e.PrivateKey, packet.SigTypeText, signedBytes([]byte(text)), options...)
}

// clearsigned puts a document together from text and signature packets.
func clearsigned(t testing.TB, text string, packets ...[]byte) string {
	t.Helper()
	_, escaped, err := escapeText([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return beginLine(typeMessage) + "\nHash: SHA256\n\n" + string(escaped) +
		string(encodeArmor(typeSignature, bytes.Join(packets, nil)))
}

// gpgv runs the reference verifier on a clearsigned document and returns
// what it takes for the signed text. It skips the test where there is none.
func gpgv(t *testing.T, keyring []byte, doc string) (text []byte, err error) {
	t.Helper()
	program := testenv.NeedProgram(t, "gpgv")
	dir := t.TempDir()
	files := map[string][]byte{"ring.gpg": keyring, "doc.asc": []byte(doc)}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "text")
	cmd := exec.Command(program, "--quiet", "--homedir", dir, "--keyring", filepath.Join(dir, "ring.gpg"),
		"--output", out, filepath.Join(dir, "doc.asc"))
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Logf("gpgv: %v: %s", err, msg)
		return nil, err
	}
	text, err = os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return text, nil
}
