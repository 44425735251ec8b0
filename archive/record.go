package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"dbuild/internal/atomicfile"
	"dbuild/internal/lock"
	"dbuild/sign"
)

// record is what is remembered of a source between runs. The time of the last
// check is the modification time of its file.
type record struct {
	URL          string    `json:"url"` // redacted
	Suite        string    `json:"suite"`
	SHA256       string    `json:"sha256"`   // of the Release in force, a file in releases/
	Detached     bool      `json:"detached"` // its signature is in a file with .gpg appended
	Date         time.Time `json:"date"`     // the highest Date ever accepted
	ETag         string    `json:"etag,omitempty"`
	LastModified string    `json:"last_modified,omitempty"`

	checked time.Time
}

// recordPath names the record of a source after its archive root and suite:
// the highest Date holds for these two. The hash keeps apart what the readable
// part does not.
func (c *Copy) recordPath(src Source) string {
	id := RedactURL(src.URL) + " " + src.dir()
	sum := sha256.Sum256([]byte(id))
	_, readable, _ := strings.Cut(id, "://")
	readable = strings.Map(func(r rune) rune {
		if r == '.' || r == '-' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return '_'
	}, readable)
	return filepath.Join(c.dir, "suites", readable[:min(len(readable), 120)]+"-"+hex.EncodeToString(sum[:4])+".json")
}

// load returns the record of a source, zero when there is none. A damaged one
// counts as none, with a warning: protection against an older Release starts
// anew then.
func (c *Copy) load(src Source) (record, error) {
	var rec record
	path := c.recordPath(src)
	data, err := readSmall(path, 1<<16)
	if errors.Is(err, os.ErrNotExist) {
		return rec, nil
	}
	if err != nil {
		return rec, fmt.Errorf("read record of %s: %w", src.label(), err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return rec, err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&rec); err != nil || checkSHA256(rec.SHA256) != nil || rec.Date.IsZero() {
		c.opt.Report.Warn("the record %s is damaged and is made anew", path)
		return record{}, nil //nolint:nilerr // the warning is the answer
	}
	rec.checked = info.ModTime()
	return rec, nil
}

// readStored reads the Release in force. A file that is gone or not what the
// record says is [os.ErrNotExist].
func (c *Copy) readStored(rec record) (signed, error) {
	if rec.SHA256 == "" {
		return signed{}, os.ErrNotExist
	}
	doc, err := readSmall(c.releasePath(rec.SHA256), maxRelease)
	if err != nil {
		return signed{}, err
	}
	d := signed{inRelease: doc}
	if rec.Detached {
		d = signed{release: doc}
		if d.signature, err = readSmall(c.releasePath(rec.SHA256)+".gpg", maxRelease); err != nil {
			return signed{}, err
		}
	}
	if d.sha256() != rec.SHA256 {
		return signed{}, fmt.Errorf("stored Release %s is damaged: %w", rec.SHA256, os.ErrNotExist)
	}
	return d, nil
}

// stored verifies the Release in force as if it had just come.
func (c *Copy) stored(src Source, ring *sign.Keyring, rec record) (*State, error) {
	d, err := c.readStored(rec)
	if err != nil {
		return nil, err
	}
	return c.verify(src, ring, d)
}

// commit makes st the Release in force, unless one with a later Date is, which
// it returns as newer. Only the record is written under the source's lock, so
// that several sources wait for the disk together.
func (c *Copy) commit(ctx context.Context, st *State, etag, modified string) (newer record, err error) {
	if err := c.storeRelease(st); err != nil {
		return record{}, fmt.Errorf("store Release of %s: %w", st.Source.label(), err)
	}
	l, err := c.lock(ctx, filepath.Base(c.recordPath(st.Source)), lock.Exclusive)
	if err != nil {
		return record{}, err
	}
	defer func() { err = errors.Join(err, l.Unlock()) }()
	old, err := c.load(st.Source)
	if err != nil {
		return record{}, err
	}
	if old.Date.After(st.Date) {
		return old, nil
	}
	rec := record{
		URL:          RedactURL(st.Source.URL),
		Suite:        st.Source.Suite,
		SHA256:       st.SHA256,
		Detached:     st.InRelease == nil,
		Date:         st.Date.UTC(),
		ETag:         etag,
		LastModified: modified,
	}
	data, err := json.MarshalIndent(rec, "", " ")
	if err != nil {
		return record{}, err
	}
	return record{}, atomicfile.Write(c.recordPath(st.Source), append(data, '\n'), 0o600)
}

func (c *Copy) storeRelease(st *State) error {
	path, doc := c.releasePath(st.SHA256), st.InRelease
	if doc == nil {
		doc = st.Text
		if err := atomicfile.Write(path+".gpg", st.Signature, 0o644); err != nil {
			return err
		}
	}
	return atomicfile.Write(path, doc, 0o644)
}

// touch notes that the Release in force was confirmed now.
func (c *Copy) touch(src Source) error {
	now := time.Now()
	return os.Chtimes(c.recordPath(src), now, now)
}
