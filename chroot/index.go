package chroot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"

	"golang.org/x/sync/errgroup"

	"dbuild/deb"
	"dbuild/internal/fault"
)

// IndexFile is one uncompressed Packages file.
type IndexFile struct {
	Path  string
	State int // the state that it belongs to, as the caller counts them
	Pin   int // apt's pin priority of its packages
}

// Index finds package stanzas by name and by what they provide. It keeps only
// names, versions and file offsets in memory and reads a stanza when it is
// asked for, because the indexes of a suite are some 50 MB and a base needs a
// few hundred stanzas of them. Close it to close the files.
type Index struct {
	arch    string
	files   []*os.File
	sources []IndexFile
	byName  map[string]*candidate
	// provides pairs the hash of a provided name with its provider. A hash
	// suffices because [Index.providers] looks into the stanza again, and the
	// names themselves are many: a Rust crate provides dozens.
	provides []provided
	seed     maphash.Seed
}

// candidate is the version of a package that apt would install: of those with
// the highest pin the highest version.
type candidate struct {
	name, version string
	file          int32
	length        int32
	offset        int64
	essential     bool
	required      bool // Priority: required
	parsed        *deb.Package
}

type provided struct {
	hash uint64
	by   *candidate
}

// OpenIndex reads files, in parallel. A package that occurs more than once is
// reduced to its candidate.
func OpenIndex(ctx context.Context, arch string, files []IndexFile) (_ *Index, err error) {
	x := &Index{arch: arch, sources: files, byName: make(map[string]*candidate, 1<<16), seed: maphash.MakeSeed()}
	defer func() {
		if err != nil {
			err = errors.Join(err, x.Close())
		}
	}()
	var parts []*indexPart
	for i, f := range files {
		file, err := os.Open(f.Path)
		if err != nil {
			return nil, fmt.Errorf("read index: %w", err)
		}
		x.files = append(x.files, file)
		cut, err := split(file)
		if err != nil {
			return nil, fmt.Errorf("read index %q: %w", f.Path, err)
		}
		for j := 1; j < len(cut); j++ {
			parts = append(parts, &indexPart{file: int32(i), from: cut[j-1], to: cut[j]})
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range parts {
		g.Go(func() error { return p.scan(ctx, x) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for _, p := range parts {
		x.add(p)
	}
	return x, nil
}

// Close closes the index files.
func (x *Index) Close() error {
	var err error
	for _, f := range x.files {
		err = errors.Join(err, f.Close())
	}
	return err
}

// add merges what one part found. Parts come in a fixed order, so that of
// equal candidates always the same one stays.
func (x *Index) add(p *indexPart) {
	for _, c := range p.found {
		if old := x.byName[c.name]; old == nil || x.better(c, old) {
			x.byName[c.name] = c
		}
	}
	x.provides = append(x.provides, p.provides...)
	p.found, p.provides = nil, nil
}

func (x *Index) better(a, b *candidate) bool {
	if pa, pb := x.sources[a.file].Pin, x.sources[b.file].Pin; pa != pb {
		return pa > pb
	}
	return deb.CompareVersions(a.version, b.version) > 0
}

// load parses the stanza of c and checks that it is the package that it was
// taken for.
func (x *Index) load(c *candidate) (*deb.Package, error) {
	if c.parsed != nil {
		return c.parsed, nil
	}
	stanza := make([]byte, c.length)
	if _, err := x.files[c.file].ReadAt(stanza, c.offset); err != nil {
		return nil, fmt.Errorf("read index %q: %w", x.sources[c.file].Path, err)
	}
	p, err := deb.ParsePackage(stanza)
	if err != nil {
		return nil, fault.New(fault.Input, "read package %q in %q: %w", c.name, x.sources[c.file].Path, err)
	}
	if p.Architecture != x.arch && p.Architecture != "all" {
		return nil, fault.New(fault.Input, "package %q in the index of %s has architecture %q", c.name, x.arch, p.Architecture)
	}
	c.parsed = p
	return p, nil
}

// providers returns the candidates that may provide name, in a fixed order;
// the caller looks at their Provides field.
func (x *Index) providers(name string) []*candidate {
	hash := maphash.String(x.seed, name)
	var found []*candidate
	for _, p := range x.provides {
		if p.hash == hash && x.byName[p.by.name] == p.by {
			found = append(found, p.by)
		}
	}
	return found
}

// indexPart is a piece of an index file that is scanned by one goroutine.
type indexPart struct {
	file     int32
	from, to int64
	found    []*candidate
	provides []provided
}

// splitSize is where cutting an index in two pays.
const splitSize = 4 << 20

// split returns the offsets at which to cut f: its start and end, and for a
// large file the stanza boundary nearest after its middle.
func split(f *os.File) ([]int64, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := info.Size()
	if size < splitSize {
		return []int64{0, size}, nil
	}
	buf := make([]byte, 1<<20)
	n, err := f.ReadAt(buf, size/2)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	at := bytes.Index(buf[:n], []byte("\n\n"))
	if at < 0 {
		return []int64{0, size}, nil
	}
	return []int64{0, size/2 + int64(at) + 2, size}, nil
}

func (p *indexPart) scan(ctx context.Context, x *Index) error {
	count := 0
	var slab []candidate // one allocation for many candidates
	err := deb.ScanStanzas(io.NewSectionReader(x.files[p.file], p.from, p.to-p.from), func(stanza []byte, offset int64) error {
		if count++; count%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		h := readHead(stanza)
		if len(h.name) == 0 || len(h.version) == 0 {
			return fault.New(fault.Input, "stanza at offset %d has no Package or Version", p.from+offset)
		}
		if len(slab) == 0 {
			slab = make([]candidate, 1024)
		}
		c := &slab[0]
		slab = slab[1:]
		both := string(h.name) + string(h.version)
		*c = candidate{
			name: both[:len(h.name)], version: both[len(h.name):],
			file: p.file, offset: p.from + offset, length: int32(len(stanza)),
			essential: string(h.essential) == "yes", required: string(h.priority) == "required",
		}
		p.found = append(p.found, c)
		p.addProvides(x.seed, h.provides, c)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read index %q: %w", x.sources[p.file].Path, err)
	}
	return nil
}

// addProvides notes the names in a Provides field.
func (p *indexPart) addProvides(seed maphash.Seed, field []byte, by *candidate) {
	for len(field) > 0 {
		var item []byte
		item, field, _ = bytes.Cut(field, []byte(","))
		item = bytes.TrimLeft(item, " \t\n")
		if end := bytes.IndexAny(item, " \t\n(:"); end >= 0 {
			item = item[:end]
		}
		if len(item) > 0 {
			p.provides = append(p.provides, provided{maphash.Bytes(seed, item), by})
		}
	}
}

// head is what the solver wants to know of every stanza. The slices point
// into the stanza.
type head struct{ name, version, essential, priority, provides []byte }

// readHead reads the fields in one pass over the stanza. The names are
// compared as archives write them; a stanza that matters is parsed in full
// before it is used.
func readHead(stanza []byte) (h head) {
	for len(stanza) > 0 {
		line := stanza
		if end := bytes.IndexByte(stanza, '\n'); end >= 0 {
			line, stanza = stanza[:end], stanza[end+1:]
		} else {
			stanza = nil
		}
		if len(line) < 8 || (line[0] != 'P' && line[0] != 'V' && line[0] != 'E') {
			continue
		}
		for _, f := range [...]struct {
			prefix string
			value  *[]byte
		}{
			{"Package:", &h.name}, {"Version:", &h.version}, {"Essential:", &h.essential},
			{"Priority:", &h.priority}, {"Provides:", &h.provides},
		} {
			if len(line) >= len(f.prefix) && string(line[:len(f.prefix)]) == f.prefix {
				*f.value = bytes.TrimSpace(line[len(f.prefix):])
				break
			}
		}
	}
	return h
}
