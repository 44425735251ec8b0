package archivetest

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
)

// storeXZ wraps data in an .xz file of one block of uncompressed LZMA2 chunks
// (the xz file format, version 1.1.0), since there is no encoder to be had in
// Go that is worth depending on.
func storeXZ(data []byte) []byte {
	var b bytes.Buffer
	flags := []byte{0, 1} // check: CRC32
	b.WriteString("\xfd7zXZ\x00")
	b.Write(flags)
	b.Write(crc(flags))

	// Block header: size 12, no optional fields, filter LZMA2 with a 64 KiB dictionary.
	header := []byte{2, 0, 0x21, 1, 8, 0, 0, 0}
	start := b.Len()
	b.Write(header)
	b.Write(crc(header))
	for first, rest := true, data; len(rest) > 0; first = false {
		n := min(len(rest), 1<<16)
		control := byte(2)
		if first {
			control = 1 // and reset the dictionary
		}
		b.Write([]byte{control, byte((n - 1) >> 8), byte(n - 1)})
		b.Write(rest[:n])
		rest = rest[n:]
	}
	b.WriteByte(0)
	unpadded := b.Len() - start + 4
	pad(&b, b.Len()-start)
	b.Write(crc(data))

	var index bytes.Buffer
	index.Write([]byte{0, 1})
	index.Write(binary.AppendUvarint(nil, uint64(unpadded)))
	index.Write(binary.AppendUvarint(nil, uint64(len(data))))
	pad(&index, index.Len())
	index.Write(crc(index.Bytes()))
	b.Write(index.Bytes())

	footer := binary.LittleEndian.AppendUint32(nil, uint32(index.Len()/4-1))
	footer = append(footer, flags...)
	b.Write(crc(footer))
	b.Write(footer)
	b.WriteString("YZ")
	return b.Bytes()
}

func crc(data []byte) []byte { return binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(data)) }

func pad(b *bytes.Buffer, length int) { b.Write(make([]byte, (4-length%4)%4)) }
