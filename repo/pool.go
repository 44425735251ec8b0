package repo

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"dbuild/internal/cleanup"
	"dbuild/internal/fault"
)

// poolDir is where a source package's files go: pool/SUITE/COMPONENT/h/hello,
// or libh/libhello for libraries, as in Debian's pool.
func poolDir(suite, component, source string) string {
	prefix := source[:1]
	if strings.HasPrefix(source, "lib") && len(source) > 3 {
		prefix = source[:4]
	}
	return path.Join("pool", suite, component, prefix, source)
}

// place puts the files of an item into the pool and returns its entry with the
// path set. A file in the pool never changes: clients of an older generation
// may still come for it. So when a name is taken by other bytes, the item goes
// into a directory below, named by its hash; a source moves there as a whole,
// because an index gives one directory for all of its files.
func (w *writer) place(suite string, it item) (entry, error) {
	dir := poolDir(suite, it.component, it.source)
	free, err := w.fits(dir, it.files)
	if err != nil {
		return entry{}, err
	}
	if !free {
		dir = path.Join(dir, it.sha256[:12])
	}
	if err := w.disk.mkdirAll(dir); err != nil {
		return entry{}, fmt.Errorf("add to pool: %w", err)
	}
	for _, m := range it.files {
		if err := w.put(path.Join(dir, m.Name), m); err != nil {
			return entry{}, fmt.Errorf("add to pool: %w", err)
		}
	}
	e := it.entry
	e.path = dir
	if e.kind != kindSource {
		e.path = path.Join(dir, it.fileName())
	}
	return e, nil
}

// fits tells whether every file's name in dir is free or holds its bytes.
func (w *writer) fits(dir string, files []measured) (bool, error) {
	for _, m := range files {
		found, same, err := w.holds(path.Join(dir, m.Name), m)
		if err != nil || found && !same {
			return false, err
		}
	}
	return true, nil
}

// holds tells whether there is something at a path of the pool, and whether
// that is the given file. The bytes are read: the file may be what is left of
// a publish that lost power.
func (w *writer) holds(rel string, m measured) (found, same bool, err error) {
	fi, err := os.Lstat(w.path(rel))
	if errors.Is(err, fs.ErrNotExist) {
		return false, false, nil
	}
	if err != nil || !fi.Mode().IsRegular() || fi.Size() != m.Size {
		return true, false, err
	}
	sum, err := fileHash(w.path(rel))
	return true, sum == m.SHA256, err
}

func fileHash(path string) (sum string, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer cleanup.Close(&err, f)
	sum, _, err = hashOf(f)
	return sum, err
}

// hashOf reads to the end, for the SHA-256 in hex.
func hashOf(r io.Reader) (sum string, size int64, err error) {
	h := sha256.New()
	if size, err = io.Copy(h, r); err != nil {
		return "", size, err
	}
	return hex.EncodeToString(h.Sum(nil)), size, nil
}

// put makes rel hold the bytes of m. Bytes of another kind can only be there
// in a directory named by hash, where they are damage.
func (w *writer) put(rel string, m measured) (err error) {
	found, same, err := w.holds(rel, m)
	if err != nil {
		return err
	}
	if same {
		w.disk.changed(rel)
		return nil
	}
	if m.Link && m.origin == nil && !found {
		if err := w.disk.linkFrom(m.Path, rel); err == nil || !cannotLink(err) {
			return err
		}
	}
	f, _, err := m.open()
	if err != nil {
		return err
	}
	defer cleanup.Close(&err, f)
	return w.disk.copy(rel, &verified{r: m.content(f), hash: sha256.New(), want: m})
}

// cannotLink tells whether another file system, or a rule of this one, is why
// a link was refused; then a copy does.
func cannotLink(err error) bool {
	return errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EMLINK) || errors.Is(err, unix.EOPNOTSUPP)
}

// verified reads a file and fails at its end if the bytes are not the ones
// that were checked before.
type verified struct {
	r    io.Reader
	hash hash.Hash
	want measured
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.hash.Write(p[:n])
	if err == io.EOF && hex.EncodeToString(v.hash.Sum(nil)) != v.want.SHA256 {
		return n, fault.New(fault.Trust, "read %q: it changed after it was checked", v.want.Path)
	}
	return n, err
}
