package repo

import (
	"context"
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"dbuild/deb"
	"dbuild/internal/cleanup"
)

// mark is where one form of an index is at the end of one of its shards: its
// size, its CRC-32C, and the state of its SHA-256. What comes behind can so be
// hashed without what is before.
type mark struct {
	Size int64
	CRC  uint32
	Hash []byte
}

// marks are those of all forms at the end of a shard.
type marks []mark

// encode adds a checksum: a wrong state would make a wrong hash, which no
// reader of the index forgives.
func (m marks) encode() string {
	b := encodeJSON([]mark(m))
	return fmt.Sprintf("%08x", crc32.Checksum(b, castagnoli)) + string(b)
}

func decodeMarks(text string) (m marks, err error) {
	if len(text) < 8 {
		return nil, errors.New("a mark is too short")
	}
	sum, err := strconv.ParseUint(text[:8], 16, 32)
	if err == nil && uint32(sum) != crc32.Checksum([]byte(text[8:]), castagnoli) {
		err = errors.New("a mark has a wrong checksum")
	}
	if err != nil {
		return nil, err
	}
	return m, json.Unmarshal([]byte(text[8:]), &m)
}

func encodeJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // numbers and bytes always encode
	}
	return b
}

// tail is the end of an index: the shards from one on, and where the index is
// before them. Without marks it is all of the index.
type tail struct {
	base   marks
	head   []shard // those before
	shards []shard
}

// fits tells whether kept shards make the index that has the given rows, as far
// as their sizes tell.
func (t tail) fits(rows []deb.IndexFile) bool {
	if len(t.shards) == 0 || len(t.base) > 0 && len(t.base) < len(rows) {
		return false // an empty index is quickly made anew
	}
	for i, row := range rows[:xzForm] {
		for _, s := range t.shards {
			row.Size -= s.parts[i].Size
		}
		if len(t.base) > 0 {
			row.Size -= t.base[i].Size
		}
		if row.Size != 0 {
			return false
		}
	}
	return true
}

// assembly is an index in the making: the beginning of the index before it, as
// far as the marks say, and the shards behind that.
type assembly struct {
	suite  Suite
	index  index
	base   marks
	head   []shard         // of the beginning
	before []deb.IndexFile // rows of the index before
	shards []shard

	rows []deb.IndexFile // the result
	ends []marks         // at the end of each shard
}

// assemble makes an index, each stored form in the by-hash directory.
func (w *writer) assemble(ctx context.Context, a *assembly) (err error) {
	forms := a.suite.forms()
	a.rows, a.ends = make([]deb.IndexFile, len(forms)), make([]marks, len(a.shards))
	for i := range a.ends {
		a.ends[i] = make(marks, len(forms))
	}
	files := make([]*os.File, len(forms))
	tmp := make([]string, len(forms))
	defer func() {
		for i, f := range files {
			if f != nil {
				err = errors.Join(err, f.Close(), w.disk.remove(tmp[i]))
			}
		}
	}()
	for i, form := range forms {
		if !stored(a.index.path() + form) {
			continue
		}
		tmp[i] = path.Join(byHashDir(a.suite.Name), "SHA256", "."+strings.ReplaceAll(a.index.path(), "/", "_")+form+".tmp")
		if files[i], err = w.disk.create(tmp[i]); err != nil {
			return err
		}
	}
	var g errgroup.Group
	for i := range forms {
		g.Go(func() (err error) {
			a.rows[i], err = w.concatenate(ctx, a, i, files[i])
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, f := range files {
		if f == nil {
			continue
		}
		files[i] = nil
		if err := errors.Join(f.Chmod(0o644), f.Close()); err != nil {
			return errors.Join(err, w.disk.remove(tmp[i]))
		}
		if err := w.disk.rename(tmp[i], byHashPath(a.suite.Name, a.rows[i].SHA256)); err != nil {
			return errors.Join(err, w.disk.remove(tmp[i]))
		}
	}
	return nil
}

// concatenate writes one form of an index to file, if there is one, and returns
// its row.
func (r *Repo) concatenate(ctx context.Context, a *assembly, form int, file *os.File) (row deb.IndexFile, err error) {
	f := formWriter{hash: sha256.New()}
	if file != nil {
		f.file = file
	}
	row.Path = a.index.path() + a.suite.forms()[form]
	switch {
	case len(a.base) > 0:
		err = r.continueForm(a, form, &f)
	case len(a.shards) == 0:
		var data [][]byte
		if data, err = r.compress(ctx, a.suite.forms(), nil); err == nil {
			_, err = f.Write(data[form])
		}
	case form == xzForm:
		_, err = f.Write(xzHeader)
	}
	if err != nil {
		return row, err
	}
	var buf []byte
	for i, s := range a.shards {
		if buf, err = r.readPart(a.suite.Name, s, form, buf); err != nil {
			return row, fmt.Errorf("%w: %w", errNoShard, err)
		}
		if _, err := f.Write(buf); err != nil {
			return row, err
		}
		if a.ends[i][form], err = f.mark(); err != nil {
			return row, err
		}
	}
	if form == xzForm && len(a.head)+len(a.shards) > 0 {
		if _, err := f.Write(xzTrailer(slices.Concat(a.head, a.shards))); err != nil {
			return row, err
		}
	}
	row.Size, row.SHA256 = f.size, hex.EncodeToString(f.hash.Sum(nil))
	return row, nil
}

// continueForm begins one form of an index with what the index before it had
// up to the marks. Its bytes are copied, and checked on the way; only those
// behind are hashed.
func (r *Repo) continueForm(a *assembly, form int, f *formWriter) (err error) {
	m := a.base[form]
	if f.file != nil {
		old, err := os.Open(r.path(byHashPath(a.suite.Name, a.before[form].SHA256)))
		if err != nil {
			return fmt.Errorf("%w: %w", errNoShard, err)
		}
		defer cleanup.Close(&err, old)
		copied := formWriter{file: f.file}
		n, err := io.CopyBuffer(&copied, io.LimitReader(old, m.Size), make([]byte, 1<<20))
		if err != nil {
			return err
		}
		if n != m.Size || copied.crc != m.CRC {
			return fmt.Errorf("%w: %q is not what it was", errNoShard, old.Name())
		}
	}
	f.size, f.crc = m.Size, m.CRC
	state, ok := f.hash.(encoding.BinaryUnmarshaler)
	if !ok {
		return errors.New("SHA-256 has no state to restore")
	}
	if err := state.UnmarshalBinary(m.Hash); err != nil {
		return fmt.Errorf("%w: %w", errNoShard, err)
	}
	return nil
}

// formWriter writes one form of an index. Without a file it only measures, and
// without a hash it only copies.
type formWriter struct {
	file io.Writer
	hash hash.Hash
	size int64
	crc  uint32
}

func (f *formWriter) Write(p []byte) (int, error) {
	if f.hash != nil {
		f.hash.Write(p)
	}
	f.crc = crc32.Update(f.crc, castagnoli, p)
	f.size += int64(len(p))
	if f.file == nil {
		return len(p), nil
	}
	return f.file.Write(p)
}

func (f *formWriter) mark() (m mark, err error) {
	state, ok := f.hash.(encoding.BinaryMarshaler)
	if !ok {
		return m, errors.New("SHA-256 has no state to keep")
	}
	m = mark{Size: f.size, CRC: f.crc}
	m.Hash, err = state.MarshalBinary()
	return m, err
}
