package repo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"dbuild/deb"
	"dbuild/internal/cleanup"
	"dbuild/internal/fault"
	"dbuild/sign"
)

// Rebuild fills the database again from the generations that clients see, and
// makes those and the files of suites again where they were lost, from what is
// recorded. Each InRelease must be signed by the repository's key, and each index
// must be the one that it names.
func (r *Repo) Rebuild(ctx context.Context) error {
	return r.write(ctx, func(w *writer) error {
		names, err := w.suiteNames()
		if err != nil {
			return err
		}
		for _, name := range names {
			_, cur, err := w.openSuite(ctx, DefaultSuite(name))
			if err != nil {
				return err
			}
			if err := w.readRows(ctx, name, cur); err != nil {
				return err
			}
			if err := w.refreshRecord(name, cur); err != nil {
				return err
			}
		}
		return w.disk.sync()
	})
}

// suiteNames are the suites that have a file, a generation or a record.
func (r *Repo) suiteNames() ([]string, error) {
	files, err := filepath.Glob(filepath.Join(r.dir, "suites", "*.json"))
	if err != nil {
		return nil, err
	}
	links, err := filepath.Glob(filepath.Join(r.dir, "dists", "*"))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, f := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(f), ".json"))
	}
	for _, l := range links {
		if name := filepath.Base(l); suiteName.MatchString(name) {
			names = append(names, name)
		}
	}
	records, err := filepath.Glob(filepath.Join(r.dir, "records", "*"))
	if err != nil {
		return nil, err
	}
	for _, d := range records {
		names = append(names, filepath.Base(d))
	}
	return slices.DeleteFunc(union(names), r.dropped), nil
}

// readRows replaces the rows of a suite by those of a generation. What waits for
// the next one is lost with them.
func (r *Repo) readRows(ctx context.Context, suite string, cur generation) error {
	all, err := r.readEntries(suite, cur)
	if err != nil {
		return err
	}
	if p, err := readPending(ctx, r.db, suite); err == nil && len(p.tickets) > 0 {
		r.report.Warn("what waited for the next generation of %q is not in its indexes: it must be added again", suite)
	}
	if err := r.recall(ctx, suite, cur, all); err != nil {
		return err
	}
	return inTx(ctx, r.db, func(tx *sql.Tx) error {
		for _, table := range []string{"repo_entry", "repo_shard"} {
			if _, err := tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE suite = ?`, suite); err != nil {
				return err
			}
		}
		for _, e := range all {
			if err := insertEntry(ctx, tx, suite, e); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM repo_pending WHERE suite = ?`, suite); err != nil {
			return err
		}
		ticket, err := shownTicket(ctx, tx, suite)
		if err != nil {
			return err
		}
		return recordShown(ctx, tx, suite, cur.digest, ticket)
	})
}

// readEntries returns the entries of a generation, after checking its signature
// and its indexes.
func (r *Repo) readEntries(suite string, g generation) (all []entry, err error) {
	if g.n == 0 {
		return nil, nil
	}
	if err := r.verifySigned(g); err != nil {
		return nil, err
	}
	indexes := map[string][][]entry{} // by what shares its serials
	for _, p := range slices.Sorted(maps.Keys(g.release.Files)) {
		x, ok := parseIndexPath(p)
		if !ok {
			continue
		}
		entries, err := r.readIndex(suite, g, p)
		if err != nil {
			return nil, fault.Wrap(fault.Trust, fmt.Errorf("read index %q of %q: %w", p, suite, err))
		}
		group := x.component + " " + string(x.kind)
		indexes[group] = append(indexes[group], entries)
	}
	for _, group := range slices.Sorted(maps.Keys(indexes)) {
		all = append(all, inOrder(indexes[group])...)
	}
	return all, nil
}

// inOrder merges the indexes of several architectures, each in the order of
// serials, and numbers their entries so that each index is in order again.
// Entries of Architecture: all are in several and come once.
func inOrder(indexes [][]entry) (all []entry) {
	in := map[id]int{} // how many indexes still have an entry ahead
	for _, x := range indexes {
		for _, e := range x {
			in[e.id()]++
		}
	}
	done := map[id]bool{}
	take := func(e entry) {
		if !done[e.id()] {
			done[e.id()] = true
			e.serial = int64(len(all)) + 1
			all = append(all, e)
		}
	}
	for {
		heads, moved := map[id]int{}, false
		for i, x := range indexes {
			for ; len(x) > 0 && (in[x[0].id()] == 1 || done[x[0].id()]); x = x[1:] {
				take(x[0])
			}
			if indexes[i] = x; len(x) > 0 {
				heads[x[0].id()]++
			}
		}
		if len(heads) == 0 {
			return all
		}
		// One that several have is next when it is the next of all of them.
		for _, x := range indexes {
			if len(x) > 0 && heads[x[0].id()] == in[x[0].id()] {
				take(x[0])
				moved = true
			}
		}
		for _, x := range indexes {
			if len(x) > 0 && !moved { // there is no such order: another program's
				take(x[0])
				moved = true
			}
		}
	}
}

// recall sets the time when entries came: as the rows before say, or else as
// the files do.
func (r *Repo) recall(ctx context.Context, suite string, cur generation, all []entry) error {
	before, err := r.rows(ctx, suite, `1`)
	if err != nil {
		return err
	}
	added := map[string]int64{}
	for _, e := range before {
		added[e.sha256] = e.added
	}
	for i, e := range all {
		if all[i].added = added[e.sha256]; all[i].added != 0 {
			continue
		}
		all[i].added = cur.release.Date.Unix()
		if fi, err := os.Lstat(r.path(e.filePath())); err == nil && fi.ModTime().Before(cur.release.Date) {
			all[i].added = fi.ModTime().Unix()
		}
	}
	return nil
}

// verifySigned checks that the generation's Release file is what the
// repository's key signed.
func (r *Repo) verifySigned(g generation) error {
	doc, err := os.ReadFile(r.path(path.Join(g.dir, "InRelease")))
	if err != nil {
		return err
	}
	ring, err := r.ring()
	if err != nil {
		return err
	}
	text, _, err := ring.VerifyClearsigned(doc, sign.Policy{Now: r.now()})
	if err != nil {
		return fmt.Errorf("verify %q: %w", path.Join(g.dir, "InRelease"), err)
	}
	release, err := os.ReadFile(r.path(path.Join(g.dir, "Release")))
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(release); !bytes.Equal(bytes.TrimSpace(text), bytes.TrimSpace(release)) || hex.EncodeToString(sum[:]) != g.digest {
		return fault.New(fault.Trust, "verify %q: Release and InRelease differ", g.dir)
	}
	return nil
}

// readIndex returns the entries of an index by the path of its uncompressed
// row, and nothing for other rows.
func (r *Repo) readIndex(suite string, g generation, p string) ([]entry, error) {
	x, ok := parseIndexPath(p)
	if !ok {
		return nil, nil
	}
	text, err := r.indexBytes(suite, g, p)
	if err != nil {
		return nil, err
	}
	var long map[string]string
	if x.kind == kindDeb {
		if long, err = r.descriptions(suite, g, x.component); err != nil {
			return nil, err
		}
	}
	var entries []entry
	err = deb.ScanStanzas(bytes.NewReader(text), func(b []byte, _ int64) error {
		e, err := parseEntry(x, b, long)
		entries = append(entries, e)
		return err
	})
	return entries, err
}

// parseIndexPath is the reverse of index.path for Packages and Sources.
func parseIndexPath(p string) (x index, ok bool) {
	component, rest, _ := strings.Cut(p, "/")
	if rest == "source/Sources" {
		return index{component, kindSource, archSource}, true
	}
	x = index{component: component, kind: kindDeb}
	if udebs, ok := strings.CutPrefix(rest, "debian-installer/"); ok {
		x.kind, rest = kindUdeb, udebs
	}
	arch, ok := strings.CutSuffix(rest, "/Packages")
	x.arch = strings.TrimPrefix(arch, "binary-")
	return x, ok && x.path() == p
}

// indexBytes returns an index uncompressed, from the stored form that is whole.
func (r *Repo) indexBytes(suite string, g generation, p string) (text []byte, err error) {
	want := g.release.Files[p]
	var errs []error
	for _, form := range allForms {
		row, ok := g.release.Files[p+form]
		if !ok || !stored(p+form) {
			continue
		}
		text, err := readCompressed(r.path(byHashPath(suite, row.SHA256)), form, want.Size)
		if sum := sha256.Sum256(text); err == nil && hex.EncodeToString(sum[:]) != want.SHA256 {
			err = fault.New(fault.Trust, "%s is not what Release names", p+form)
		}
		if err == nil {
			return text, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// readCompressed reads a compressed file that holds size bytes, and at most
// one more.
func readCompressed(path, form string, size int64) (b []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer cleanup.Close(&err, f)
	d, err := deb.Decompress(path+form, f)
	if err != nil {
		return nil, err
	}
	defer cleanup.Close(&err, d)
	return io.ReadAll(io.LimitReader(d, size+1))
}

// parseEntry takes a stanza of an index apart into what its file says and
// where the file is. long are the descriptions of Translation-en, if there is
// one.
func parseEntry(x index, b []byte, long map[string]string) (entry, error) {
	p, err := deb.ParseParagraph(b, deb.DefaultLimits)
	if err != nil {
		return entry{}, err
	}
	e := entry{component: x.component}
	if x.kind == kindSource {
		return e, e.parseSource(b, p)
	}
	pkg, err := deb.ParsePackage(b)
	if err != nil {
		return e, err
	}
	if err := undescribe(p, long); err != nil {
		return e, err
	}
	e.stanza, err = binaryStanza(p, x.kind)
	e.path, e.size, e.sha256 = pkg.Filename, pkg.Size, pkg.SHA256
	return e, err
}

func (e *entry) parseSource(b []byte, p *deb.Paragraph) error {
	src, err := deb.ParseSourceEntry(b)
	if err != nil {
		return err
	}
	e.path = src.Directory
	e.stanza = stanza{
		kind: kindSource, name: src.Name, version: src.Version, arch: archSource,
		source: src.Name, sourceVersion: src.Version, section: src.Section,
	}
	for _, f := range src.Files {
		if f.Name == e.fileName() {
			e.size, e.sha256 = f.Size, f.SHA256
		}
	}
	if e.sha256 == "" {
		return fault.New(fault.Input, "source %q lists no %q", src.Name, e.fileName())
	}
	p.Del("Directory")
	var text bytes.Buffer
	_, err = p.WriteTo(&text)
	e.text = text.Bytes()
	return err
}
