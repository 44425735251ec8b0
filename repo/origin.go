package repo

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"dbuild/deb"
	"dbuild/internal/cleanup"
	"dbuild/internal/fault"
)

// originSigned says how the copy of a .deb that comes into the pool is made of
// the file that was given: these parts of it, and behind them the member with the
// signature of its origin.
type originSigned struct {
	parts  []deb.Part
	member []byte
}

// content reads what comes into the pool. file is the one that was given, opened
// anew.
func (m measured) content(file *os.File) io.Reader {
	if m.origin == nil {
		return file
	}
	return io.MultiReader(deb.ReadParts(file, m.origin.parts), bytes.NewReader(m.origin.member))
}

// signOrigins makes each .deb of an upload the signed copy that comes into the
// pool, if the repository signs them. Those that the suite has already stay as
// they are there, whatever key signed them, or none: the same package has the
// same bytes for ever.
func (r *Repo) signOrigins(ctx context.Context, suite string, items []item) error {
	for i := range items {
		it := &items[i]
		if it.kind != kindDeb {
			continue
		}
		same, err := r.rows(ctx, suite, `e.kind = ? AND e.name = ? AND e.version = ? AND e.arch = ?`, it.kind, it.name, it.version, it.arch)
		if err != nil {
			return err
		}
		there := len(same) == 1 && (same[0].sha256 == it.sha256 || r.adopt(it, same[0]))
		if there || r.debKey == nil {
			continue
		}
		if err := r.signOrigin(it); err != nil {
			return fmt.Errorf("sign %q: %w", it.fileName(), err)
		}
	}
	return nil
}

// signOrigin adds the signature of its origin to a package, in place of one that
// it came with. The signature is dated like the package, so that the same key
// makes the same copy of it whenever it comes.
func (r *Repo) signOrigin(it *item) (err error) {
	m := it.files[0]
	file, fi, err := m.open()
	if err != nil {
		return err
	}
	defer cleanup.Close(&err, file)
	b, err := deb.OpenDeb(file, fi.Size())
	if err != nil {
		return err
	}
	at := b.Made
	if now := r.now(); at.After(now) {
		at = now
	}
	sig, err := r.debKey.SignStream(deb.ReadParts(file, b.Signed()), at)
	if err != nil {
		return err
	}
	came, _, err := hashOf(io.NewSectionReader(file, 0, fi.Size()))
	if err != nil {
		return err
	}
	if came != m.SHA256 {
		return fault.New(fault.Trust, "it changed after it was checked")
	}
	m.origin = &originSigned{b.Unsigned(), deb.OriginBytes(sig)}
	if m.SHA256, m.Size, err = hashOf(m.content(file)); err != nil {
		return err
	}
	it.files = []measured{m}
	it.size, it.sha256 = m.Size, m.SHA256
	return nil
}

// adopt lets an item stand for the copy of the same package that a suite lists,
// if the two differ in nothing but the signature of their origin, and tells
// whether they do. Where the repository does not sign, a signature that somebody
// else brings counts.
func (r *Repo) adopt(it *item, old entry) bool {
	if it.kind != kindDeb || old.fileName() != it.fileName() || old.sha256 == it.sha256 {
		return false
	}
	// What cannot be read is another package; whoever needs it will say so.
	there, err := readUnsigned(measured{File: File{Path: r.path(old.path)}})
	if err != nil {
		return false
	}
	came, err := readUnsigned(it.files[0])
	if err != nil || came.signed && r.debKey == nil || came.size != there.size {
		return false
	}
	if !came.signed && !there.signed && it.files[0].origin == nil {
		return false
	}
	a, err := came.sum()
	if err != nil {
		return false
	}
	b, err := there.sum()
	if err != nil || a != b {
		return false
	}
	it.size, it.sha256, it.path = old.size, old.sha256, old.path
	it.files = []measured{{File: File{Name: it.fileName(), Path: r.path(old.path), Size: old.size, SHA256: old.sha256, Link: true}}}
	return true
}

// unsigned is a .deb without the signature of its origin.
type unsigned struct {
	path   string
	parts  []deb.Part
	size   int64
	signed bool // there is one in the file
}

func readUnsigned(m measured) (u unsigned, err error) {
	file, fi, err := m.open()
	if err != nil {
		return u, err
	}
	defer cleanup.Close(&err, file)
	b, err := deb.OpenDeb(file, fi.Size())
	if err != nil {
		return u, err
	}
	u = unsigned{path: m.Path, parts: b.Unsigned()}
	for _, p := range u.parts {
		u.size += p.Size
	}
	u.signed = u.size != fi.Size()
	return u, nil
}

func (u unsigned) sum() (sum string, err error) {
	file, _, err := File{Path: u.path}.open()
	if err != nil {
		return "", err
	}
	defer cleanup.Close(&err, file)
	sum, _, err = hashOf(deb.ReadParts(file, u.parts))
	return sum, err
}
