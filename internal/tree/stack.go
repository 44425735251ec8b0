package tree

import (
	"encoding/binary"
	"fmt"
)

// Stack is the seals of an image's layers, lowest first.
type Stack []*Seal

// stackMagic begins a marshalled stack; its last byte is the version of the
// format. A 32-bit little-endian number of seals follows, then each seal as a
// 32-bit length and its bytes.
const stackMagic = "dbuildSTCK\x00\x01"

// maxLayers is more than any storage driver stacks.
const maxLayers = 128

// Manifest returns the merged manifest of the layers.
func (s Stack) Manifest() Manifest {
	var m Manifest
	for _, seal := range s {
		m = Merge(m, seal.m)
	}
	return m
}

// Marshal returns the binary form.
func (s Stack) Marshal() []byte {
	b := binary.LittleEndian.AppendUint32([]byte(stackMagic), uint32(len(s)))
	for _, seal := range s {
		data := seal.Marshal()
		b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
		b = append(b, data...)
	}
	return b
}

// UnmarshalStack parses the binary form as [UnmarshalSeal] does its part.
func UnmarshalStack(b []byte) (Stack, error) {
	head := len(stackMagic) + 4
	if len(b) < head || string(b[:len(stackMagic)]) != stackMagic {
		return nil, fmt.Errorf("read seals: %w: no stack of this version", ErrSyntax)
	}
	n := binary.LittleEndian.Uint32(b[len(stackMagic):])
	if n > maxLayers {
		return nil, fmt.Errorf("read seals: %w: %d layers", ErrSyntax, n)
	}
	b = b[head:]
	s := make(Stack, 0, n)
	for range n {
		if len(b) < 4 || uint64(binary.LittleEndian.Uint32(b)) > uint64(len(b)-4) {
			return nil, fmt.Errorf("read seals: %w: cut off", ErrSyntax)
		}
		size := int(binary.LittleEndian.Uint32(b))
		seal, err := UnmarshalSeal(b[4 : 4+size])
		if err != nil {
			return nil, err
		}
		s, b = append(s, seal), b[4+size:]
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("read seals: %w: trailing bytes", ErrSyntax)
	}
	return s, nil
}
