package archive

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// have says whether the file at path is there with the right content. It goes
// by the size, and by the hash when the file was written or last confirmed
// before the machine started, or claims a time to come: then its bytes may
// never have reached the disk. A file that fails is removed, to be fetched
// again; one that passes gets the time of now.
func (c *Copy) have(path, sum string, size int64) (bool, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	good := info.Mode().IsRegular() && info.Size() == size
	now := time.Now()
	if good && info.ModTime().After(c.boot) && !info.ModTime().After(now.Add(time.Minute)) {
		return true, c.markUsed(path, info, now)
	}
	if good {
		got, err := hashFile(path)
		if err != nil {
			return false, err
		}
		if good = got == sum; good {
			return true, os.Chtimes(path, now, now)
		}
	}
	c.opt.Report.Warn("the local copy of %s is damaged and is fetched again", path)
	if err := os.RemoveAll(path); err != nil {
		return false, fmt.Errorf("remove damaged file: %w", err)
	}
	return false, nil
}

// markUsed keeps the time of use for [Copy.Expire], to a day.
func (c *Copy) markUsed(path string, info os.FileInfo, now time.Time) error {
	if now.Sub(info.ModTime()) < 24*time.Hour {
		return nil
	}
	return os.Chtimes(path, now, now)
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	if _, err := io.CopyBuffer(onlyWriter{h}, onlyReader{f}, *buf); err != nil {
		return "", fmt.Errorf("hash %q: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// onlyReader and onlyWriter keep [io.CopyBuffer] to the buffer it was given.
type onlyReader struct{ io.Reader }
type onlyWriter struct{ io.Writer }
