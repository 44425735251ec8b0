package docker

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// owner is this process as far as labels know it: a file that it holds locked
// as long as it lives.
type owner struct {
	id   string
	path string
	file *os.File
}

// newOwner makes and locks the file. Between the two, Reap in another process
// may take it for a leftover; then the next try gets another name.
func newOwner(dir string) (*owner, error) {
	for range 10 {
		id := newID()
		path := filepath.Join(dir, id)
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
		if err != nil {
			return nil, err
		}
		var st unix.Stat_t
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			err = unix.Fstat(int(f.Fd()), &st)
		}
		if err == nil && st.Nlink > 0 {
			return &owner{id, path, f}, nil
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("lock a new owner file: every try was taken away")
}

func (o *owner) close() error { return errors.Join(os.Remove(o.path), o.file.Close()) }

// dead reports whether the owner of something is gone, and forgets it then.
func (e *Engine) dead(id string) (bool, error) {
	if id == e.owner.id {
		return false, nil
	}
	if !validID(id) {
		return true, nil
	}
	path := filepath.Join(e.dir, "owners", id)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, f.Close()
	}
	if err != nil {
		return false, errors.Join(fmt.Errorf("lock %q: %w", path, err), f.Close())
	}
	return true, errors.Join(os.Remove(path), f.Close())
}

func newID() string {
	var b [10]byte
	rand.Read(b[:]) // never fails, see crypto/rand
	return hex.EncodeToString(b[:])
}

func validID(s string) bool {
	if len(s) != 20 {
		return false
	}
	_, err := hex.DecodeString(s)
	return err == nil
}
