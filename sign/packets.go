package sign

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
)

// Packet types of RFC 9580 section 5 that this package tells apart.
const (
	tagSignature    = 2
	tagSecretKey    = 5
	tagPublicKey    = 6
	tagSecretSubkey = 7
	tagMarker       = 10
	tagTrust        = 12
	tagUserID       = 13
	tagPublicSubkey = 14
	tagUserAttr     = 17
)

var (
	errNotPacket = errors.New("not an OpenPGP packet")
	errTruncated = errors.New("truncated OpenPGP packet")
)

// rawPacket is one packet, cut out but not interpreted.
type rawPacket struct {
	tag  int
	body []byte // without the header
	all  []byte // with the header
}

// nextPacket cuts the first packet from b and returns what follows it.
// Partial and indeterminate lengths are refused: neither keys nor signatures
// may have them (RFC 9580 section 4.2.1.4).
func nextPacket(b []byte) (p rawPacket, rest []byte, err error) {
	if len(b) < 2 || b[0]&0x80 == 0 {
		return p, nil, errNotPacket
	}
	var header, length int
	if b[0]&0x40 != 0 {
		p.tag = int(b[0] & 0x3f)
		header, length, err = newLength(b)
	} else {
		p.tag = int(b[0] & 0x3c >> 2)
		header, length, err = oldLength(b)
	}
	if err != nil {
		return p, nil, err
	}
	if length > len(b)-header {
		return p, nil, errTruncated
	}
	p.body, p.all = b[header:header+length], b[:header+length]
	return p, b[header+length:], nil
}

func newLength(b []byte) (header, length int, err error) {
	switch first := b[1]; {
	case first < 192:
		return 2, int(first), nil
	case first < 224:
		if len(b) < 3 {
			return 0, 0, errTruncated
		}
		return 3, (int(first)-192)<<8 + int(b[2]) + 192, nil
	case first < 255:
		return 0, 0, errNotPacket
	}
	return longLength(b, 2)
}

func oldLength(b []byte) (header, length int, err error) {
	switch b[0] & 3 {
	case 0:
		return 2, int(b[1]), nil
	case 1:
		if len(b) < 3 {
			return 0, 0, errTruncated
		}
		return 3, int(binary.BigEndian.Uint16(b[1:])), nil
	case 2:
		return longLength(b, 1)
	}
	return 0, 0, errNotPacket
}

// longLength reads the four byte length at b[at:].
func longLength(b []byte, at int) (header, length int, err error) {
	if len(b) < at+4 {
		return 0, 0, errTruncated
	}
	n := binary.BigEndian.Uint32(b[at:])
	if n > 1<<30 {
		return 0, 0, errTruncated
	}
	return at + 4, int(n), nil
}

// keyIDs computes fingerprint and key id of a public key packet's body.
// Versions other than 4 and 6 give false.
func keyIDs(body []byte) (fingerprint string, id uint64, ok bool) {
	if len(body) < 6 || len(body) > 1<<16-1 {
		return "", 0, false
	}
	switch body[0] {
	case 4:
		h := sha1.New()
		h.Write([]byte{0x99, byte(len(body) >> 8), byte(len(body))})
		h.Write(body)
		sum := h.Sum(nil)
		return hexUpper(sum), binary.BigEndian.Uint64(sum[12:]), true
	case 6:
		h := sha256.New()
		h.Write(binary.BigEndian.AppendUint32([]byte{0x9b}, uint32(len(body))))
		h.Write(body)
		sum := h.Sum(nil)
		return hexUpper(sum), binary.BigEndian.Uint64(sum), true
	}
	return "", 0, false
}

func hexUpper(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }
