package cache

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"dbuild/internal/atomicfile"
	"dbuild/internal/fault"
	"dbuild/sign"
)

// kindHead is the notation of head's signature.
const kindHead = "head"

// head lists the statements in force.
type head struct {
	V       int         `json:"v"`
	Kind    string      `json:"kind"`
	Seq     int64       `json:"seq"`
	Created time.Time   `json:"created"`
	Entries []headEntry `json:"entries"`
}

// headEntry is one statement. What stands beside the hash is for finding it;
// the statement must agree.
type headEntry struct {
	Statement string `json:"statement"`
	Kind      Kind   `json:"kind"`
	Key       string `json:"key"`
	Engine    string `json:"engine"`
	Parent    string `json:"parent"`
	Aside     bool   `json:"aside,omitempty"` // by Rollback: kept, but not found
}

func (s *Store) headPath() string { return filepath.Join(s.dir, "head") }

// find returns the entry of a statement.
func (h *head) find(hash string) (headEntry, bool) {
	i := slices.IndexFunc(h.Entries, func(e headEntry) bool { return e.Statement == hash })
	if i < 0 {
		return headEntry{}, false
	}
	return h.Entries[i], true
}

// readHead returns the verified head; an empty one in a fresh store. An older
// one than was seen before is refused, and so is a missing one if there was
// one.
func (s *Store) readHead(ctx context.Context) (*head, error) {
	seen := s.memo.seq(ctx)
	data, err := readBounded(s.headPath(), maxHead)
	if errors.Is(err, fs.ErrNotExist) {
		if seen > 0 {
			return nil, s.distrustHead(fmt.Errorf("it is missing; number %d was the last", seen))
		}
		return &head{V: Version, Kind: kindHead}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read list of images: %w", err)
	}
	h, err := s.parseHead(data)
	if err != nil {
		return nil, s.distrustHead(err)
	}
	if h.Seq < seen {
		return nil, s.distrustHead(fmt.Errorf("it is number %d, but number %d was seen before: an old one was put back", h.Seq, seen))
	}
	if h.Seq > seen {
		s.memo.setSeq(ctx, h.Seq)
	}
	return h, nil
}

const maxHead = 16 << 20

func (s *Store) parseHead(data []byte) (*head, error) {
	line, sig, found := bytes.Cut(data, []byte("\n"))
	if !found {
		return nil, sign.ErrUnsigned
	}
	line = append(bytes.Clone(line), '\n')
	_, err := s.key.Keyring().VerifyDetached(line, sig, sign.Policy{Now: s.o.Now(), Kind: kindHead})
	if err != nil {
		return nil, err
	}
	h := &head{}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(h); err != nil {
		return nil, err
	}
	if h.V != Version || h.Kind != kindHead {
		return nil, fmt.Errorf("version %d and kind %q are not known", h.V, h.Kind)
	}
	return h, nil
}

// writeHead signs the next head. The caller holds the head lock and h is what
// it read since.
func (s *Store) writeHead(ctx context.Context, h *head) error {
	h.Seq++
	h.Created = whole(s.o.Now())
	h.Entries = list(h.Entries)
	line, err := canonical(h)
	if err != nil {
		return err
	}
	sig, err := s.key.DetachSign(line, s.o.Now(), kindHead)
	if err != nil {
		return err
	}
	if err := atomicfile.Write(s.headPath(), append(line, sig...), 0o600); err != nil {
		return err
	}
	s.memo.setSeq(ctx, h.Seq)
	return nil
}

func (s *Store) distrustHead(err error) error {
	return fault.WithHint(fault.New(fault.Trust, "list of images %q: %w", s.headPath(), err),
		"if you did not do this, find out who did; dbuild clean --images forgets all images, and the next build makes them again")
}

// Discard puts an empty list of images in force, whatever state the old one is
// in. The images and statements become leftovers for [Store.Reap].
func (s *Store) Discard(ctx context.Context) (err error) {
	l, err := s.lockHead(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Unlock()) }()
	next := &head{V: Version, Kind: kindHead, Seq: s.memo.seq(ctx)}
	if h, err := s.readHead(ctx); err == nil {
		next.Seq = h.Seq
	}
	return s.writeHead(ctx, next)
}
