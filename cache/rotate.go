package cache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"dbuild/internal/atomicfile"
	"dbuild/sign"
)

// Rotate puts everything in force under another image key: each statement is
// signed anew, those of the old key are retired, and a head of the new key
// comes into force as the last step. With forget set nothing is taken over: the
// new head is empty. The caller has the state alone, has stored the new key
// where [SignedBy] will tell whether this went through, and lets the new key
// take the old one's place afterwards.
func (s *Store) Rotate(ctx context.Context, next *sign.Key, forget bool) (err error) {
	l, err := s.lockHead(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Unlock()) }()
	after := *s
	after.key = next
	list := &head{V: Version, Kind: kindHead, Seq: s.memo.seq(ctx)}
	renamed := map[string]string{}
	verified := []string{}
	if h, err := s.readHead(ctx); err == nil {
		list.Seq = h.Seq
		if !forget {
			if verified, err = s.resign(ctx, h, list, &after, renamed); err != nil {
				return fmt.Errorf("rotate image key: %w", err)
			}
		}
	} else if !forget {
		return err
	}
	if after.memo, err = openMemo(ctx, s.o.DB, next, s.report); err != nil {
		return err
	}
	if err := after.writeHead(ctx, list); err != nil {
		return err
	}
	s.key, s.memo = after.key, after.memo
	for old := range renamed {
		if err := removeFiles(s.statementPath(old)+".asc", s.statementPath(old)); err != nil {
			return err
		}
	}
	return s.memo.rename(ctx, renamed, verified, s.o.BootID)
}

// resign writes the statements of h anew, for the entries of list. The old pairs
// are kept in retired as well. It returns which of the new ones need no hashing.
func (s *Store) resign(ctx context.Context, h, list *head, after *Store, renamed map[string]string) (verified []string, err error) {
	for _, c := range h.Entries { // an image stands behind those that it stands on
		st, err := s.loadListed(h, c.Statement)
		if err != nil {
			return nil, err
		}
		old := c.Statement
		if st.Parent != "" {
			st.Parent = renamed[st.Parent]
		}
		c.Parent, st.Signer = st.Parent, after.key.Fingerprint()
		if c.Statement, err = after.writeStatement(st); err != nil {
			return nil, err
		}
		for _, ext := range []string{"", ".asc"} {
			if err := os.Link(s.statementPath(old)+ext, s.retiredPath(old)+ext); err != nil && !errors.Is(err, os.ErrExist) {
				return nil, err
			}
		}
		renamed[old] = c.Statement
		list.Entries = append(list.Entries, c)
		if s.memo.verified(ctx, old, s.o.BootID) {
			verified = append(verified, c.Statement)
		}
	}
	return slices.Clip(verified), atomicfile.SyncDir(filepath.Dir(s.retiredPath("")))
}

// rename takes over what is known of statements that have new names. All else
// was authenticated with the old key and is dropped.
func (m *memo) rename(ctx context.Context, renamed map[string]string, verified []string, boot string) error {
	if m.db == nil {
		return nil
	}
	if _, err := m.db.ExecContext(ctx, "DELETE FROM memo WHERE key != ?", seqKey); err != nil {
		return fmt.Errorf("write memo: %w", err)
	}
	for old, name := range renamed {
		if _, err := m.db.ExecContext(ctx, "UPDATE OR REPLACE image_use SET statement = ? WHERE statement = ?", name, old); err != nil {
			return fmt.Errorf("note use of image: %w", err)
		}
	}
	for _, hash := range verified {
		m.setVerified(ctx, hash, boot)
	}
	return nil
}

// SignedBy reports whether the list of images in dir is signed by this key.
func SignedBy(dir string, key *sign.Key) bool {
	s := &Store{dir: dir, key: key, o: Options{Now: time.Now}}
	data, err := readBounded(s.headPath(), maxHead)
	if err != nil {
		return false
	}
	_, err = s.parseHead(data)
	return err == nil
}
