package sign

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"golang.org/x/sys/unix"

	"dbuild/internal/fault"
)

// maxKeyring bounds one keyring file, in bytes; debian-keyring has 30 MB.
const maxKeyring = 256 << 20

// Keyring is a set of public keys. It holds the keys unparsed, with an index
// of their key ids, because a Debian keyring takes seconds to parse and one
// verification needs one key. It is immutable and safe for concurrent use.
type Keyring struct {
	keys []keyBlock
	byID map[uint64][]int // key id of primary keys and subkeys → keys
}

// keyBlock is one primary key with all that belongs to it.
type keyBlock struct {
	fingerprint string
	data        []byte
}

// OpenKeyring reads the keyrings at paths into one, following symbolic links.
// Each is binary or armored, a regular file, and writable by its owner only.
// A file that is missing gives [os.ErrNotExist], a bad one [ErrKeyring]: empty,
// HTML, a GnuPG keybox, or with secret keys inside.
func OpenKeyring(paths ...string) (*Keyring, error) {
	var files [][]byte
	for _, path := range paths {
		data, err := readKeyring(path)
		if err == nil {
			_, err = ParseKeyring(data)
		}
		if err != nil {
			return nil, fault.Wrap(fault.Trust, fmt.Errorf("open keyring %q: %w", path, err))
		}
		files = append(files, data)
	}
	return ParseKeyring(files...)
}

func readKeyring(path string) ([]byte, error) {
	// Without O_NONBLOCK, a FIFO in that place would stop us here.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, refuse(ErrKeyring, "not a regular file")
	case info.Mode().Perm()&0o022 != 0:
		return nil, fault.WithHint(refuse(ErrKeyring, "writable by group or others"), "chmod go-w %s", path)
	case info.Size() > maxKeyring:
		return nil, refuse(ErrKeyring, "larger than %d bytes", maxKeyring)
	}
	return io.ReadAll(io.LimitReader(f, maxKeyring))
}

// ParseKeyring makes a keyring of the contents of keyring files, each binary
// or armored, as [OpenKeyring] does. The slices must not be changed afterwards.
func ParseKeyring(data ...[]byte) (*Keyring, error) {
	r := &Keyring{byID: make(map[uint64][]int)}
	for _, d := range data {
		binary, err := dearmorKeys(d)
		if err == nil {
			err = r.add(binary)
		}
		if err != nil {
			return nil, err
		}
	}
	if len(r.keys) == 0 {
		return nil, refuse(ErrKeyring, "no keys")
	}
	return r, nil
}

// dearmorKeys returns the binary form of a keyring file.
func dearmorKeys(b []byte) ([]byte, error) {
	switch trimmed := bytes.TrimLeft(b, " \t\r\n"); {
	case len(trimmed) == 0:
		return nil, refuse(ErrKeyring, "empty")
	case b[0]&0x80 != 0:
		return b, nil
	case len(b) > 12 && string(b[8:12]) == "KBXf":
		err := refuse(ErrKeyring, "GnuPG keybox, not a keyring")
		return nil, fault.WithHint(err, "gpg --no-default-keyring --keyring FILE --export > NEW")
	case bytes.HasPrefix(trimmed, []byte(beginLine(typePrivateKey))):
		return nil, refuse(ErrKeyring, "secret key inside")
	case trimmed[0] == '<':
		return nil, refuse(ErrKeyring, "HTML, not a keyring")
	}
	var keys []byte
	for b = bytes.TrimSpace(b); len(b) > 0; b = bytes.TrimSpace(b) {
		data, rest, err := decodeArmor(b, typePublicKey)
		if err != nil {
			return nil, refuse(ErrKeyring, "%v", err)
		}
		keys, b = append(keys, data...), rest
	}
	return keys, nil
}

// add indexes the keys in a binary keyring. Keys of versions that nothing
// can verify (3 and older) are left out, like gpgv does.
func (r *Keyring) add(b []byte) error {
	first := len(r.keys)
	current := -1    // the key that packets belong to; -1: one that is left out
	var start []byte // where that key begins
	finish := func(end []byte) {
		if current >= 0 {
			r.keys[current].data = start[:len(start)-len(end)]
		}
	}
	for len(b) > 0 {
		p, rest, err := nextPacket(b)
		if err != nil {
			return refuse(ErrKeyring, "%v", err)
		}
		switch p.tag {
		case tagPublicKey:
			finish(b)
			current, start = r.newKey(p.body), b
		case tagPublicSubkey:
			if _, id, ok := keyIDs(p.body); ok && current >= 0 {
				r.index(id, current)
			}
		case tagSecretKey, tagSecretSubkey:
			return refuse(ErrKeyring, "secret key inside")
		case tagSignature, tagUserID, tagUserAttr, tagTrust, tagMarker:
		default:
			return refuse(ErrKeyring, "packet of type %d does not belong in a keyring", p.tag)
		}
		b = rest
	}
	finish(nil)
	if len(r.keys) == first {
		return refuse(ErrKeyring, "no keys")
	}
	return nil
}

// newKey starts an entry for the primary key in body, or returns -1.
func (r *Keyring) newKey(body []byte) int {
	fingerprint, id, ok := keyIDs(body)
	if !ok {
		return -1
	}
	r.keys = append(r.keys, keyBlock{fingerprint: fingerprint})
	r.index(id, len(r.keys)-1)
	return len(r.keys) - 1
}

func (r *Keyring) index(id uint64, key int) {
	if !slices.Contains(r.byID[id], key) {
		r.byID[id] = append(r.byID[id], key)
	}
}

// Fingerprints lists the primary keys, sorted, each once.
func (r *Keyring) Fingerprints() []string {
	list := make([]string, 0, len(r.keys))
	for _, k := range r.keys {
		list = append(list, k.fingerprint)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// Export returns the keys with these primary fingerprints, or all keys if
// none is given, as a binary keyring that gpgv and apt read.
func (r *Keyring) Export(fingerprints ...string) []byte {
	var out []byte
	for _, k := range r.keys {
		if len(fingerprints) == 0 || allowed(k.fingerprint, fingerprints) {
			out = append(out, k.data...)
		}
	}
	return out
}

// allowed reports whether list has the fingerprint, in either letter case.
func allowed(fingerprint string, list []string) bool {
	return slices.ContainsFunc(list, func(f string) bool { return strings.EqualFold(f, fingerprint) })
}

// entities parses the keys that have a key with this id. Each call parses
// anew: the library caches its findings inside, which is neither safe for
// concurrent use nor right for a second point in time.
func (r *Keyring) entities(id uint64) ([]*openpgp.Entity, error) {
	var list []*openpgp.Entity
	var errs error
	for _, i := range r.byID[id] {
		e, err := openpgp.ReadEntity(packet.NewReader(bytes.NewReader(r.keys[i].data)))
		if err != nil {
			errs = errors.Join(errs, err)
			continue
		}
		list = append(list, e)
	}
	return list, errs
}
