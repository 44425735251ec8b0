package deb

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Bounds of a .deb's control part.
const (
	maxControl        = 64 << 20 // bytes, unpacked; apt has the same limit
	maxControlMembers = 1000
	maxDebianBinary   = 64 // bytes
	maxMembers        = 16 // of the ar archive
)

// BinaryFile is what the front of a .deb says (deb(5)): all of its control
// part, in memory, and where its data part is.
type BinaryFile struct {
	Control *Paragraph

	ControlFiles   map[string][]byte // every control file by base name, "control" included
	ControlHeaders []tar.Header      // in the order of the archive, "./" included

	DataName             string // ar member, such as "data.tar.xz"
	DataOffset, DataSize int64  // of the compressed data, in bytes

	// BuiltSize is where the three members end that dpkg-deb wrote. What follows
	// was added later: members that dpkg ignores, such as signatures.
	BuiltSize int64
	Added     []string // their names

	// Made is the time that dpkg-deb wrote into the archive, that of the
	// changelog's entry in a reproducible build. Nobody vouches for it.
	Made time.Time

	members []arMember
	size    int64
}

// OpenDeb reads the front of a .deb of size bytes. The archive must hold
// debian-binary (format 2.x), control.tar and data.tar, in this order, each tar
// uncompressed, gzip, xz or zstd. Behind them may be members whose names begin
// with "_", which are for others (deb(5)), each name once, and nothing else. The control part
// must hold one valid control file and only regular files beside each
// other, and unpack to at most 64 MiB. The data part is not read; a
// compression that Data would refuse is refused here.
//
// Nothing is written anywhere, and no decoder outlives the call.
func OpenDeb(r io.ReaderAt, size int64) (*BinaryFile, error) {
	members, err := readAr(r, size, maxMembers)
	if err != nil {
		return nil, fmt.Errorf("read deb: %w", err)
	}
	if err := checkDebMembers(members); err != nil {
		return nil, fmt.Errorf("read deb: %w", err)
	}
	if err := checkDebFormat(r, members[0], size); err != nil {
		return nil, fmt.Errorf("read deb: %w", err)
	}
	b := &BinaryFile{
		ControlFiles: map[string][]byte{},
		DataName:     members[2].name,
		DataOffset:   members[2].offset,
		DataSize:     members[2].size,
		BuiltSize:    size,
		Made:         time.Unix(members[0].date, 0),
		members:      members,
		size:         size,
	}
	for _, m := range members[3:] {
		b.Added = append(b.Added, m.name)
		b.BuiltSize = min(b.BuiltSize, m.offset-arHeaderSize)
	}
	if err := b.readControl(r, members[1]); err != nil {
		return nil, fmt.Errorf("read deb: %s: %w", members[1].name, err)
	}
	return b, nil
}

func checkDebMembers(members []arMember) error {
	if len(members) < 3 {
		return fmt.Errorf("%d members, not 3", len(members))
	}
	for i, m := range members[3:] {
		if !strings.HasPrefix(m.name, "_") {
			return fmt.Errorf("member %q behind the data", m.name)
		}
		if slices.ContainsFunc(members[3:3+i], func(o arMember) bool { return o.name == m.name }) {
			return fmt.Errorf("member %q is given twice", m.name)
		}
	}
	for i, stem := range []string{"debian-binary", "control.tar", "data.tar"} {
		name := members[i].name
		suffix, ok := strings.CutPrefix(name, stem)
		if !ok || i == 0 && suffix != "" || suffix != "" && suffix[0] != '.' {
			return fmt.Errorf("member %d is %q, not %s", i+1, name, stem)
		}
		if _, ok := codecFor(name); !ok {
			return &CompressionError{Name: name, Reason: "compression not supported"}
		}
		if members[i].size == 0 {
			return fmt.Errorf("member %q is empty", name)
		}
	}
	return nil
}

// checkDebFormat reads debian-binary: a line with the format version, of
// which dpkg takes every minor number.
func checkDebFormat(r io.ReaderAt, m arMember, size int64) error {
	if m.size > maxDebianBinary {
		return &LimitError{What: m.name, Limit: maxDebianBinary}
	}
	b, err := readExactly(r, m.offset, m.size, size)
	if err != nil {
		return err
	}
	line, rest, ok := strings.Cut(string(b), "\n")
	minor, two := strings.CutPrefix(line, "2.")
	if _, err := parseDecimal(minor, 999); !ok || rest != "" || !two || err != nil {
		return fmt.Errorf("format version %q, not 2.x", string(b))
	}
	return nil
}

func (b *BinaryFile) readControl(r io.ReaderAt, m arMember) error {
	in, err := Decompress(m.name, io.NewSectionReader(r, m.offset, m.size))
	if err != nil {
		return err
	}
	defer in.Close()
	bounded := newBoundedReader(in, maxControl, "control archive")
	if err := b.readControlTar(tar.NewReader(bounded)); err != nil {
		return err
	}
	// What follows the end of the tar must decompress too, and only now are
	// the checksums of the compression verified.
	if _, err := io.Copy(io.Discard, bounded); err != nil {
		return err
	}
	control, ok := b.ControlFiles["control"]
	if !ok {
		return errors.New("no control file")
	}
	b.Control, err = parseBinaryControl(control)
	return err
}

func (b *BinaryFile) readControlTar(t *tar.Reader) error {
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(b.ControlHeaders) == maxControlMembers {
			return &LimitError{What: "members of the control archive", Limit: maxControlMembers}
		}
		b.ControlHeaders = append(b.ControlHeaders, *h)
		if h.Typeflag == tar.TypeDir && (h.Name == "./" || h.Name == ".") {
			continue
		}
		if err := b.readControlFile(t, h); err != nil {
			return err
		}
	}
}

func (b *BinaryFile) readControlFile(t *tar.Reader, h *tar.Header) error {
	name := strings.TrimPrefix(h.Name, "./")
	if err := CheckFileName(name); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeReg || isSparse(h) {
		return fmt.Errorf("%q is not a regular file", name)
	}
	if _, ok := b.ControlFiles[name]; ok {
		return fmt.Errorf("%q is given twice", name)
	}
	if h.Size > maxControl {
		return &LimitError{What: "control archive", Limit: maxControl}
	}
	content, err := io.ReadAll(io.LimitReader(t, maxControl))
	if err != nil {
		return err
	}
	b.ControlFiles[name] = content
	return nil
}

// isSparse reports whether h is a sparse file in PAX form, whose content may
// be any number of zeros out of nothing.
func isSparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// parseBinaryControl reads a control file and demands the fields that
// Policy 5.3 does for the identity of a package.
func parseBinaryControl(content []byte) (*Paragraph, error) {
	p, err := ParseParagraph(content, Limits{})
	if err != nil {
		return nil, fmt.Errorf("control file: %w", err)
	}
	if _, err := requiredName(p, "Package"); err != nil {
		return nil, fmt.Errorf("control file: %w", err)
	}
	if _, err := requiredVersion(p); err != nil {
		return nil, fmt.Errorf("control file: %w", err)
	}
	if !checkArchName(p.Get("Architecture")) {
		return nil, fmt.Errorf("control file: %w", &SyntaxError{Field: "Architecture", Reason: "is missing or malformed"})
	}
	return p, nil
}

// Data returns the unpacked data tar of the .deb that r reads, which must be
// the one that OpenDeb read. The length of the output is not bounded; the
// caller closes it.
func (b *BinaryFile) Data(r io.ReaderAt) (io.ReadCloser, error) {
	return Decompress(b.DataName, io.NewSectionReader(r, b.DataOffset, b.DataSize))
}
