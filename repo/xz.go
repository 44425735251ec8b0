package repo

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os/exec"

	"dbuild/internal/fault"
)

// An xz file is a header, blocks, an index of these, and a footer. apt reads
// the first of several files behind each other and no more, so an index of
// several shards is one file that has the block of each.

// xzHeader begins a file whose blocks are checked by CRC-32.
var xzHeader = append([]byte("\xfd7zXZ\x00\x00\x01"), xzCRC([]byte{0, 1})...)

func xzCRC(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(b))
}

// compressXZ makes an xz file of one block, or of none for no text.
func compressXZ(ctx context.Context, text []byte) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "xz", "-6", "--threads=1", "--check=crc32", "--compress", "--stdout", "--no-adjust")
	cmd.Env = []string{"PATH=/usr/bin:/bin"} // not what XZ_OPT says
	cmd.Stdin = bytes.NewReader(text)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, fault.WithHint(fault.New(fault.Usage, "compress with xz: %w", err), "apt-get install xz-utils")
	}
	if err != nil {
		return nil, fmt.Errorf("compress with xz: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

// xzBlock takes the block out of such a file, and its size without padding.
func xzBlock(file []byte) (block []byte, unpadded int64, err error) {
	const footer = 12
	malformed := errors.New("compress with xz: not a file of one block")
	if !bytes.HasPrefix(file, xzHeader) || len(file) < len(xzHeader)+footer {
		return nil, 0, malformed
	}
	indexSize := (int(binary.LittleEndian.Uint32(file[len(file)-8:])) + 1) * 4
	at := len(file) - footer - indexSize
	if at < len(xzHeader) || file[at] != 0 {
		return nil, 0, malformed
	}
	records, n := binary.Uvarint(file[at+1:])
	if n <= 0 || records > 1 {
		return nil, 0, malformed
	}
	block = file[len(xzHeader):at]
	if records == 0 {
		return block, 0, nil
	}
	size, n := binary.Uvarint(file[at+1+n:])
	if n <= 0 || (size+3)/4*4 != uint64(len(block)) {
		return nil, 0, malformed
	}
	return block, int64(size), nil //nolint:gosec // no more than the block
}

// xzTrailer is the index and footer behind the blocks of shards.
func xzTrailer(shards []shard) []byte {
	var sizes []byte
	records := uint64(0)
	for _, s := range shards {
		if s.parts[xzForm].Unpadded > 0 {
			records++
			sizes = binary.AppendUvarint(sizes, uint64(s.parts[xzForm].Unpadded)) //nolint:gosec // positive
			sizes = binary.AppendUvarint(sizes, uint64(s.parts[0].Size))          //nolint:gosec // positive
		}
	}
	index := append(binary.AppendUvarint([]byte{0}, records), sizes...)
	for len(index)%4 != 0 {
		index = append(index, 0)
	}
	index = append(index, xzCRC(index)...)
	end := binary.LittleEndian.AppendUint32(nil, uint32(len(index)/4-1)) //nolint:gosec // at most a few hundred kilobytes
	end = append(end, 0, 1)
	return append(append(append(index, xzCRC(end)...), end...), 'Y', 'Z')
}
