package repo

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"dbuild/deb"
	"dbuild/internal/cleanup"
)

// errNotThere is wrapped when an upload names something that is no file.
var errNotThere = errors.New("not a regular file that is there")

// measured is a file of an upload with its true size and hashes.
type measured struct {
	File
	md5 string // only of sources, whose index carries it
	// If a signature is added on the way into the pool, size and hash are those of
	// the copy there.
	origin *originSigned
}

func (m measured) row() deb.File {
	return deb.File{Name: m.Name, Size: m.Size, MD5: m.md5, SHA256: m.SHA256}
}

func rowsOf(files []measured) []deb.File {
	rows := make([]deb.File, len(files))
	for i, f := range files {
		rows[i] = f.row()
	}
	return rows
}

// open opens a regular file without following a link or waiting on a FIFO.
func (f File) open() (*os.File, fs.FileInfo, error) {
	file, err := os.OpenFile(f.Path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) {
		return nil, nil, fmt.Errorf("%w: %w", errNotThere, err)
	}
	if err != nil {
		return nil, nil, err
	}
	fi, err := file.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = errNotThere
	}
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	return file, fi, nil
}

// measure reads a file once for its size and hashes.
func measure(f File) (m measured, err error) {
	file, _, err := f.open()
	if err != nil {
		return m, err
	}
	defer cleanup.Close(&err, file)
	sha := sha256.New()
	w := io.Writer(sha)
	md := md5.New()
	isPackage := strings.HasSuffix(f.Name, ".deb") || strings.HasSuffix(f.Name, ".udeb")
	if !isPackage {
		w = io.MultiWriter(sha, md)
	}
	m.File = f
	if m.Size, err = io.Copy(w, file); err != nil {
		return m, err
	}
	m.SHA256 = hex.EncodeToString(sha.Sum(nil))
	if !isPackage {
		m.md5 = hex.EncodeToString(md.Sum(nil))
	}
	return m, nil
}

// read returns the bytes of a small file.
func (m measured) read() (b []byte, err error) {
	file, _, err := m.open()
	if err != nil {
		return nil, err
	}
	defer cleanup.Close(&err, file)
	b, err = io.ReadAll(io.LimitReader(file, deb.DefaultLimits.Document))
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != m.SHA256 {
		return nil, fmt.Errorf("read %q: it changed while it was read", m.Path)
	}
	return b, nil
}

// openBinary reads the control data of a measured package, and looks at all of
// the rest.
func openBinary(m measured, k kind) (s stanza, err error) {
	file, _, err := m.open()
	if err != nil {
		return s, err
	}
	defer cleanup.Close(&err, file)
	b, err := deb.OpenDeb(file, m.Size)
	if err != nil {
		return s, err
	}
	s, err = stanzaOf(b, k, m.Size, m.SHA256)
	return s, errors.Join(err, b.CheckData(file, nil))
}
