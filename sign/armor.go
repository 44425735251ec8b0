package sign

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
)

// The armor types that this package reads and writes.
const (
	typeMessage    = "PGP SIGNED MESSAGE"
	typeSignature  = "PGP SIGNATURE"
	typePublicKey  = "PGP PUBLIC KEY BLOCK"
	typePrivateKey = "PGP PRIVATE KEY BLOCK"
)

func beginLine(kind string) string { return "-----BEGIN " + kind + "-----" }
func endLine(kind string) string   { return "-----END " + kind + "-----" }

var errArmor = errors.New("malformed armor")

// cutLine cuts the first line from b. The line end, LF or CRLF, is dropped;
// last says that the line had none.
func cutLine(b []byte) (line, rest []byte, last bool) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return bytes.TrimSuffix(b, []byte{'\r'}), nil, true
	}
	return bytes.TrimSuffix(b[:i], []byte{'\r'}), b[i+1:], false
}

// decodeArmor decodes the armored block at the very start of b and returns
// the bytes after its end line. The go-crypto reader is not used here: it
// skips text before the block, accepts text inside, and ignores the checksum.
func decodeArmor(b []byte, kind string) (data, rest []byte, err error) {
	line, b, last := cutLine(b)
	if last || string(line) != beginLine(kind) {
		return nil, nil, fmt.Errorf("%w: no %q line", errArmor, beginLine(kind))
	}
	if b, err = skipArmorHeaders(b); err != nil {
		return nil, nil, err
	}
	var text, checksum []byte
	for {
		if line, b, last = cutLine(b); string(line) == endLine(kind) {
			break
		}
		switch {
		case last || len(line) == 0 || len(line) > 96:
			return nil, nil, fmt.Errorf("%w: bad line in block", errArmor)
		case checksum != nil:
			return nil, nil, fmt.Errorf("%w: data after the checksum", errArmor)
		case line[0] == '=':
			checksum = line[1:]
		default:
			text = append(text, line...)
		}
	}
	data, err = decodeBase64(text, checksum)
	return data, b, err
}

// skipArmorHeaders returns what follows the empty line after the header
// lines ("Version: …", "Comment: …"). They are not signed and mean nothing.
func skipArmorHeaders(b []byte) ([]byte, error) {
	for {
		line, rest, last := cutLine(b)
		switch {
		case last:
			return nil, fmt.Errorf("%w: no end of headers", errArmor)
		case len(line) == 0:
			return rest, nil
		case !isArmorHeader(line):
			return nil, fmt.Errorf("%w: bad header line", errArmor)
		}
		b = rest
	}
}

func isArmorHeader(line []byte) bool {
	name, _, ok := bytes.Cut(line, []byte{':'})
	if !ok || len(name) == 0 || len(line) > 1000 {
		return false
	}
	for _, c := range name {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-') {
			return false
		}
	}
	return !bytes.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// decodeBase64 decodes text and compares it with the CRC-24 checksum, if
// there is one (RFC 9580 section 6.1 makes it optional).
func decodeBase64(text, checksum []byte) ([]byte, error) {
	enc := base64.StdEncoding.Strict()
	data := make([]byte, enc.DecodedLen(len(text)))
	n, err := enc.Decode(data, text)
	if err != nil || n == 0 {
		return nil, fmt.Errorf("%w: bad base64", errArmor)
	}
	data = data[:n]
	if checksum == nil {
		return data, nil
	}
	sum, err := enc.DecodeString(string(checksum))
	if err != nil || len(sum) != 3 {
		return nil, fmt.Errorf("%w: bad checksum line", errArmor)
	}
	if crc := crc24(data); crc != [3]byte(sum) {
		return nil, fmt.Errorf("%w: wrong checksum", errArmor)
	}
	return data, nil
}

// crc24 is the checksum of RFC 9580 section 6.1.1.
func crc24(data []byte) [3]byte {
	crc := uint32(0xb704ce)
	for _, b := range data {
		crc ^= uint32(b) << 16
		for range 8 {
			crc <<= 1
			if crc&0x1000000 != 0 {
				crc ^= 0x1864cfb
			}
		}
	}
	return [3]byte{byte(crc >> 16), byte(crc >> 8), byte(crc)}
}

// encodeArmor writes data as an armored block with checksum, which gpgv of
// older releases expects, and a newline at the end.
func encodeArmor(kind string, data []byte) []byte {
	var out bytes.Buffer
	out.WriteString(beginLine(kind) + "\n\n")
	text := base64.StdEncoding.EncodeToString(data)
	for len(text) > 64 {
		out.WriteString(text[:64] + "\n")
		text = text[64:]
	}
	crc := crc24(data)
	fmt.Fprintf(&out, "%s\n=%s\n%s\n", text, base64.StdEncoding.EncodeToString(crc[:]), endLine(kind))
	return out.Bytes()
}
