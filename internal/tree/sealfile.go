package tree

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
)

// sealMagic begins every seal; its last byte is the version of the format.
//
// After it come three 32-bit numbers, all little-endian as the rest: CRC-32C of
// everything after them, number of entries, bytes of the string area. Then a
// record of recordSize bytes for each entry, then the strings: for each entry
// its name, link target, capabilities and, if flagged, 32 bytes of attribute
// hash, without anything between.
const sealMagic = "dbuildSEAL\x00\x01"

const (
	sealHead   = len(sealMagic) + 12
	recordSize = 108
	maxPaths   = 256 << 20 // bytes of all paths together

	flagOpaque = 1
	flagAttrs  = 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Marshal returns the seal's binary form, about 130 bytes for each entry.
func (s *Seal) Marshal() []byte {
	strings := 0
	index := make(map[string]int32)
	for i := range s.m {
		e := &s.m[i]
		strings += len(baseName(e.Path)) + len(e.Link) + len(e.Caps)
		if s.stamps[i].attrs != [32]byte{} {
			strings += 32
		}
		if e.Type == TypeFile && s.stamps[i].nlink > 1 {
			index[e.Path] = int32(i)
		}
	}
	b := make([]byte, sealHead, sealHead+recordSize*len(s.m)+strings)
	copy(b, sealMagic)
	binary.LittleEndian.PutUint32(b[len(sealMagic)+4:], uint32(len(s.m)))
	binary.LittleEndian.PutUint32(b[len(sealMagic)+8:], uint32(strings))
	for i := range s.m {
		hard := int32(-1)
		if h := s.m[i].HardLink; h != "" {
			hard = index[h]
		}
		b = s.appendRecord(b, i, hard)
	}
	for i := range s.m {
		e := &s.m[i]
		b = append(b, baseName(e.Path)...)
		b = append(b, e.Link...)
		b = append(b, e.Caps...)
		if s.stamps[i].attrs != [32]byte{} {
			b = append(b, s.stamps[i].attrs[:]...)
		}
	}
	sum := crc32.Checksum(b[len(sealMagic)+4:], castagnoli)
	binary.LittleEndian.PutUint32(b[len(sealMagic):], sum)
	return b
}

func (s *Seal) appendRecord(b []byte, i int, hard int32) []byte {
	le := binary.LittleEndian
	e, st := &s.m[i], &s.stamps[i]
	flags := byte(0)
	if e.Opaque {
		flags |= flagOpaque
	}
	if st.attrs != [32]byte{} {
		flags |= flagAttrs
	}
	b = append(b, byte(e.Type), flags)
	b = le.AppendUint16(b, uint16(e.Mode))
	b = le.AppendUint32(b, uint32(s.parents[i]))
	b = le.AppendUint32(b, uint32(hard))
	b = le.AppendUint32(b, uint32(e.UID))
	b = le.AppendUint32(b, uint32(e.GID))
	b = le.AppendUint16(b, uint16(len(baseName(e.Path))))
	b = le.AppendUint16(b, uint16(len(e.Link)))
	b = le.AppendUint64(b, uint64(e.Size))
	b = le.AppendUint64(b, uint64(e.MTime))
	b = le.AppendUint64(b, e.Dev)
	b = le.AppendUint64(b, st.ino)
	b = le.AppendUint64(b, uint64(st.ctime))
	b = le.AppendUint64(b, st.nlink)
	b = append(b, e.SHA256[:]...)
	return le.AppendUint32(b, uint32(len(e.Caps)))
}

// UnmarshalSeal parses the binary form, which may come from anywhere: names,
// order, links and bounds are checked as [ReadManifest] does. The checksum finds
// damage, not intent; a statement signs the hash of the whole.
func UnmarshalSeal(b []byte) (*Seal, error) {
	le := binary.LittleEndian
	if len(b) < sealHead || string(b[:len(sealMagic)]) != sealMagic {
		return nil, fmt.Errorf("read seal: %w: no seal of this version", ErrSyntax)
	}
	n := int(le.Uint32(b[len(sealMagic)+4:]))
	size := int(le.Uint32(b[len(sealMagic)+8:]))
	if n > maxEntries || len(b) != sealHead+n*recordSize+size {
		return nil, fmt.Errorf("read seal: %w: wrong length", ErrSyntax)
	}
	if crc32.Checksum(b[len(sealMagic)+4:], castagnoli) != le.Uint32(b[len(sealMagic):]) {
		return nil, fmt.Errorf("read seal: %w: wrong checksum", ErrSyntax)
	}
	p := sealParser{
		s:       &Seal{m: make(Manifest, n), stamps: make([]stamp, n), parents: make([]int32, n)},
		records: b[sealHead : sealHead+n*recordSize],
		strings: string(b[sealHead+n*recordSize:]),
	}
	if err := p.parse(); err != nil {
		return nil, fmt.Errorf("read seal: %w", err)
	}
	return p.s, nil
}

type sealParser struct {
	s       *Seal
	records []byte
	strings string // what is left of them
}

func (p *sealParser) parse() error {
	names, err := p.fields()
	if err != nil {
		return err
	}
	if err := p.paths(names); err != nil {
		return err
	}
	var sh shape
	links := false
	for i := range p.s.m {
		e := &p.s.m[i]
		parent, err := sh.add(e)
		if err != nil {
			return err
		}
		if parent != p.s.parents[i] {
			return fmt.Errorf("%w: entry %q in the wrong directory", ErrSyntax, e.Path)
		}
		if hard := int32(le32(p.records[i*recordSize+8:])); hard >= 0 {
			if int(hard) >= i {
				return fmt.Errorf("%w: hard link %q to a later file", ErrSyntax, e.Path)
			}
			e.HardLink = p.s.m[hard].Path
			links = true
		}
	}
	if len(p.strings) > 0 {
		return fmt.Errorf("%w: trailing bytes", ErrSyntax)
	}
	if links {
		return checkLinks(p.s.m)
	}
	return nil
}

func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }

// fields decodes the records, all but paths and hard links, and returns the
// names.
func (p *sealParser) fields() ([]string, error) {
	le := binary.LittleEndian
	names := make([]string, len(p.s.m))
	for i := range p.s.m {
		r := p.records[i*recordSize:][:recordSize]
		e, st := &p.s.m[i], &p.s.stamps[i]
		flags := r[1]
		e.Type = Type(r[0])
		e.Opaque = flags&flagOpaque != 0
		e.Mode = uint32(le.Uint16(r[2:]))
		p.s.parents[i] = int32(le.Uint32(r[4:]))
		e.UID, e.GID = int(le.Uint32(r[12:])), int(le.Uint32(r[16:]))
		e.Size = int64(le.Uint64(r[24:]))
		e.MTime = int64(le.Uint64(r[32:]))
		e.Dev = le.Uint64(r[40:])
		st.ino = le.Uint64(r[48:])
		st.ctime = int64(le.Uint64(r[56:]))
		st.nlink = le.Uint64(r[64:])
		copy(e.SHA256[:], r[72:])
		var attrs string
		ok := p.take(&names[i], int(le.Uint16(r[20:]))) &&
			p.take(&e.Link, int(le.Uint16(r[22:]))) &&
			p.take(&e.Caps, int(le.Uint32(r[104:]))) &&
			(flags&flagAttrs == 0 || p.take(&attrs, len(st.attrs)))
		copy(st.attrs[:], attrs)
		if !ok || flags&^(flagOpaque|flagAttrs) != 0 || !plausible(e) {
			return nil, fmt.Errorf("%w: entry %d", ErrSyntax, i)
		}
	}
	return names, nil
}

// take cuts n bytes off the strings.
func (p *sealParser) take(s *string, n int) bool {
	if n > len(p.strings) {
		return false
	}
	*s, p.strings = p.strings[:n], p.strings[n:]
	return true
}

// plausible checks what the text form cannot even express.
func plausible(e *Entry) bool {
	if e.Type.words() == "" || e.Mode > 0o7777 || e.Size < 0 || uint64(e.UID) > math.MaxUint32 {
		return false
	}
	return (e.Size == 0 || e.Type == TypeFile) && (e.Link != "") == (e.Type == TypeSymlink) &&
		(e.Caps == "" || e.Type == TypeFile && len(e.Caps) == capsSize) && (!e.Opaque || e.Type == TypeDir)
}

// paths makes full paths of names, all in one string.
func (p *sealParser) paths(names []string) error {
	ends := make([]int, len(names))
	buf := make([]byte, 0, 64*len(names))
	for i, name := range names {
		parent := int(p.s.parents[i])
		if parent >= i || parent < 0 && i > 0 || len(buf) > maxPaths {
			return fmt.Errorf("%w: entry %d in no directory", ErrSyntax, i)
		}
		if parent > 0 {
			start := ends[parent-1]
			if ends[parent]-start+len(name) >= maxPath {
				return fmt.Errorf("%w: entry %d: path too long", ErrSyntax, i)
			}
			buf = append(buf, buf[start:ends[parent]]...)
			buf = append(buf, '/')
		}
		buf = append(buf, name...)
		ends[i] = len(buf)
	}
	all, start := string(buf), 0
	for i, end := range ends {
		p.s.m[i].Path = all[start:end]
		start = end
	}
	return nil
}
