package repo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path"
	"slices"
	"sort"
	"strings"

	"golang.org/x/sync/errgroup"

	"dbuild/internal/cleanup"
)

// shard is a run of an index's entries, in all forms, kept from one generation
// to the next: an index is its shards one after the other, which for gzip and
// zstd is again a valid file. A change makes the shard that it falls into anew
// and copies the others.
//
// Where shards begin depends on the entries alone, so that the same entries in
// the same order always make the same bytes.
type shard struct {
	first int64  // the serial of its first entry
	sum   string // SHA-256 of its text in hex, which names its file
	parts [len(allForms)]part
}

// part is one form of a shard in the shard's file, where the forms follow each
// other in their order. The checksum finds what a power cut left of a file
// that nobody waited for to be durable.
type part struct {
	Size int64
	CRC  uint32 // CRC-32C
	// Unpadded is the size of an xz block as xz's own index has it.
	Unpadded int64
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errNoShard says that the kept shards of an index cannot be used, and that
// all are to be made from the rows.
var errNoShard = errors.New("a shard is missing or damaged")

// startsShard tells whether a shard begins at an entry: at one of 256, which
// makes about a quarter MiB of Debian's Packages.
func startsShard(e entry) bool { return strings.HasPrefix(e.sha256, "00") }

func shardDir(suite string) string { return path.Join("dists", "."+suite+".shards") }

func shardPath(suite, sum string) string { return path.Join(shardDir(suite), sum) }

// span is a run of shards that is made anew: those with numbers from up to,
// but not including, to, and the serials between their first ones. A highest
// of zero is no bound.
type span struct {
	from, to        int
	lowest, highest int64
}

// spans are the runs of shards that the given serials fall into, rising. Where
// an entry that starts a shard may go, the shard before is made anew as well:
// the two become one.
func spans(shards []shard, serials []int64) []span {
	touched := make([]bool, max(1, len(shards)))
	for _, serial := range serials {
		i := max(0, sort.Search(len(shards), func(i int) bool { return shards[i].first > serial })-1)
		touched[i] = true
		if i > 0 && shards[i].first == serial {
			touched[i-1] = true
		}
	}
	var all []span
	for i := 0; i < len(touched); i++ {
		if !touched[i] {
			continue
		}
		s := span{from: i}
		for i < len(touched) && touched[i] {
			i++
		}
		s.to = min(i, len(shards))
		if s.from > 0 {
			s.lowest = shards[s.from].first
		}
		if s.to < len(shards) {
			s.highest = shards[s.to].first
		}
		all = append(all, s)
	}
	return all
}

// remake returns the shards at the end of an index after the entries of the
// given serials have come or gone. q sees the rows as they are now.
func (w *writer) remake(ctx context.Context, q querier, a assembly, shards []shard, serials []int64) ([]shard, error) {
	var next []shard
	done := 0
	for _, s := range spans(shards, serials) {
		if s.from == 0 && len(shards) > 0 && len(a.base) > 0 {
			s.lowest = shards[0].first
		}
		next = append(next, shards[done:s.from]...)
		made, err := w.makeShards(ctx, q, a, s)
		if err != nil {
			return nil, err
		}
		next, done = append(next, made...), s.to
	}
	return append(next, shards[min(done, len(shards)):]...), nil
}

// makeShards makes the shards of the entries whose serials are in a span; an
// index with no entry has none. No more than one shard is in memory.
func (w *writer) makeShards(ctx context.Context, q querier, a assembly, s span) (made []shard, err error) {
	var entries []entry
	flush := func() error {
		if len(entries) == 0 {
			return nil
		}
		one, err := w.writeShard(ctx, q, a, entries)
		made, entries = append(made, one), entries[:0]
		return err
	}
	x := a.index
	where, args := `e.component = ? AND e.kind = ? AND e.serial >= ?`, []any{x.component, x.lists(), s.lowest}
	if s.highest != 0 {
		where, args = where+` AND e.serial < ?`, append(args, s.highest)
	}
	err = eachRow(ctx, q, a.suite.Name, where+` ORDER BY e.serial`, args, func(e entry) error {
		if !x.has(e.arch) {
			return nil
		}
		if startsShard(e) {
			if err := flush(); err != nil {
				return err
			}
		}
		entries = append(entries, e)
		return nil
	})
	return made, errors.Join(err, flush())
}

// writeShard makes a shard of entries and its file.
func (w *writer) writeShard(ctx context.Context, q querier, a assembly, entries []entry) (s shard, err error) {
	var text []byte
	switch a.index.kind {
	case kindTranslation:
		text, err = translationText(entries)
	case kindContents:
		text, err = w.contentsText(ctx, q, entries)
	default:
		text, err = indexText(a.suite.Rules, entries)
	}
	if err != nil {
		return s, err
	}
	sum := sha256.Sum256(text)
	s = shard{first: entries[0].serial, sum: hex.EncodeToString(sum[:])}
	data, err := w.compress(ctx, a.suite.forms(), text)
	if err != nil {
		return s, err
	}
	for i := range data {
		if i == xzForm {
			if data[i], s.parts[i].Unpadded, err = xzBlock(data[i]); err != nil {
				return s, err
			}
		}
		s.parts[i].Size, s.parts[i].CRC = int64(len(data[i])), crc32.Checksum(data[i], castagnoli)
	}
	return s, w.disk.writeCache(shardPath(a.suite.Name, s.sum), slices.Concat(data...))
}

// compress makes the given forms of a text, side by side.
func (r *Repo) compress(ctx context.Context, forms []string, text []byte) (data [][]byte, err error) {
	c, err := r.compressor()
	if err != nil {
		return nil, err
	}
	data = make([][]byte, len(forms))
	var g errgroup.Group
	for i, form := range forms {
		g.Go(func() (err error) {
			data[i], err = c.compress(ctx, form, text)
			return err
		})
	}
	return data, g.Wait()
}

// readPart reads one form of a shard, into buf if it is large enough.
func (r *Repo) readPart(suite string, s shard, form int, buf []byte) (_ []byte, err error) {
	f, err := os.Open(r.path(shardPath(suite, s.sum)))
	if err != nil {
		return nil, err
	}
	defer cleanup.Close(&err, f)
	offset := int64(0)
	for _, p := range s.parts[:form] {
		offset += p.Size
	}
	p := s.parts[form]
	buf = slices.Grow(buf[:0], int(p.Size))[:p.Size]
	if _, err := f.ReadAt(buf, offset); err != nil {
		return nil, err
	}
	if crc32.Checksum(buf, castagnoli) != p.CRC {
		return nil, fmt.Errorf("%q: wrong checksum", f.Name())
	}
	return buf, nil
}

// removeShards removes the files of shards that a generation before had and
// that no index has any more. What goes wrong is left to Collect.
func (w *writer) removeShards(ctx context.Context, suite string, gone []shard) {
	for _, s := range gone {
		used, err := shardUsed(ctx, w.db, suite, s.sum)
		if err == nil && !used {
			err = w.disk.remove(shardPath(suite, s.sum))
		}
		if err != nil {
			w.report.Note("shard %s of suite %s is left to be collected: %v", s.sum, suite, err)
		}
	}
}

// shardFiles are the paths of the shards that a suite has.
func (r *Repo) shardFiles(ctx context.Context, suite string) (files map[string]bool, err error) {
	rows, err := r.db.QueryContext(ctx, `SELECT DISTINCT sum FROM repo_shard WHERE suite = ?`, suite)
	if err != nil {
		return nil, fmt.Errorf("read repository tables: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	files = map[string]bool{}
	for rows.Next() {
		var sum string
		if err := rows.Scan(&sum); err != nil {
			return nil, fmt.Errorf("read repository tables: %w", err)
		}
		files[shardPath(suite, sum)] = true
	}
	return files, rows.Err()
}
