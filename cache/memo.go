package cache

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"dbuild/internal/report"
	"dbuild/sign"
)

// memo holds small authenticated facts in the database. Without a database it
// knows nothing. A database that fails costs time but never a build: what it
// cannot tell is found out again.
type memo struct {
	db     *sql.DB
	secret []byte
	report report.Reporter
}

const memoTables = `
CREATE TABLE IF NOT EXISTS memo (key TEXT PRIMARY KEY, value TEXT NOT NULL, mac BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS image_use (statement TEXT PRIMARY KEY, used INTEGER NOT NULL) WITHOUT ROWID;`

func openMemo(ctx context.Context, db *sql.DB, key *sign.Key, r report.Reporter) (*memo, error) {
	if db == nil {
		return &memo{report: r}, nil
	}
	secret, err := memoSecret(key)
	if err != nil {
		return nil, err
	}
	if _, err := db.ExecContext(ctx, memoTables); err != nil {
		return nil, err
	}
	return &memo{db, secret, r}, nil
}

// memoSecret derives a secret from the image key by HKDF (RFC 5869). What goes
// in is a signature that is made for nothing else and never leaves the process:
// Ed25519 signatures depend on key and message alone, so only who can sign can
// make it. That also works for keys that can sign but not be read.
func memoSecret(key *sign.Key) ([]byte, error) {
	const purpose = "dbuild memo 1"
	sig, err := key.DetachSign([]byte(purpose), time.Unix(math.MaxUint32, 0), "memo-secret")
	if err != nil {
		return nil, err
	}
	return hkdf.Key(sha256.New, sig, nil, purpose, sha256.Size)
}

// mac authenticates a value under its key, so that rows cannot be exchanged.
func (m *memo) mac(key, value string) []byte {
	h := hmac.New(sha256.New, m.secret)
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], uint64(len(key)))
	h.Write(n[:])
	h.Write([]byte(key))
	h.Write([]byte(value))
	return h.Sum(nil)
}

// get returns the value of a row whose mac is right. Another row is dropped.
func (m *memo) get(ctx context.Context, key string) (string, bool) {
	if m.db == nil {
		return "", false
	}
	var value string
	var mac []byte
	err := m.db.QueryRowContext(ctx, "SELECT value, mac FROM memo WHERE key = ?", key).Scan(&value, &mac)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return "", false
	case err != nil:
		m.report.Note("memo cannot be read: %v", err)
		return "", false
	case hmac.Equal(mac, m.mac(key, value)):
		return value, true
	}
	m.report.Warn("memo row %q was altered and is dropped", key)
	if _, err := m.db.ExecContext(ctx, "DELETE FROM memo WHERE key = ? AND coalesce(mac, x'') = coalesce(?, x'')", key, mac); err != nil {
		m.report.Note("memo row %q cannot be dropped: %v", key, err)
	}
	return "", false
}

// put writes a row. With rising set, a row with a greater value stays.
func (m *memo) put(ctx context.Context, key, value string, rising bool) error {
	if m.db == nil {
		return nil
	}
	query := "INSERT OR REPLACE INTO memo (key, value, mac) VALUES (?, ?, ?)"
	if rising {
		query = "INSERT INTO memo (key, value, mac) VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value, mac = excluded.mac WHERE excluded.value > memo.value"
	}
	if _, err := m.db.ExecContext(ctx, query, key, value, m.mac(key, value)); err != nil {
		return fmt.Errorf("write memo: %w", err)
	}
	return nil
}

const seqKey = "head"

// seq returns the highest number of a head that was seen, 0 for none.
func (m *memo) seq(ctx context.Context) int64 {
	v, ok := m.get(ctx, seqKey)
	if !ok {
		return 0
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func (m *memo) setSeq(ctx context.Context, n int64) {
	// Leading zeros make the order of text that of numbers.
	if err := m.put(ctx, seqKey, fmt.Sprintf("%019d", n), true); err != nil {
		m.report.Note("number of the list of images is not kept: %v", err)
	}
}

func verifiedKey(hash string) string { return "verified " + hash }

// verified reports whether the image was hashed since the machine started.
func (m *memo) verified(ctx context.Context, hash, boot string) bool {
	v, ok := m.get(ctx, verifiedKey(hash))
	return ok && boot != "" && v == boot
}

func (m *memo) setVerified(ctx context.Context, hash, boot string) {
	if err := m.put(ctx, verifiedKey(hash), boot, false); err != nil {
		m.report.Note("that image %.12s was hashed is not kept: %v", hash, err)
	}
}

// forgetVerified makes the next use of the image hash it.
func (m *memo) forgetVerified(ctx context.Context, hash string) error {
	if m.db == nil {
		return nil
	}
	if _, err := m.db.ExecContext(ctx, "DELETE FROM memo WHERE key = ?", verifiedKey(hash)); err != nil {
		return fmt.Errorf("write memo: %w", err)
	}
	return nil
}

// forgetAllVerified is forgetVerified for all images.
func (m *memo) forgetAllVerified(ctx context.Context) error {
	if m.db == nil {
		return nil
	}
	if _, err := m.db.ExecContext(ctx, "DELETE FROM memo WHERE key >= 'verified ' AND key < 'verified!'"); err != nil {
		return fmt.Errorf("write memo: %w", err)
	}
	return nil
}

// forget drops what was kept about a statement.
func (m *memo) forget(ctx context.Context, hash string) {
	if m.db == nil {
		return
	}
	_, err1 := m.db.ExecContext(ctx, "DELETE FROM memo WHERE key IN (?, ?)", verifiedKey(hash), sketchKey(hash))
	_, err2 := m.db.ExecContext(ctx, "DELETE FROM image_use WHERE statement = ?", hash)
	if err := errors.Join(err1, err2); err != nil {
		m.report.Note("rows of image %.12s are not dropped: %v", hash, err)
	}
}

// maxResolved is how many resolver answers are kept, some 50 kB each.
const maxResolved = 500

// prune drops the resolver answers that were written longest ago.
func (m *memo) prune(ctx context.Context) error {
	if m.db == nil {
		return nil
	}
	_, err := m.db.ExecContext(ctx, `DELETE FROM memo WHERE rowid IN
		(SELECT rowid FROM memo WHERE key >= 'resolved ' AND key < 'resolved!' ORDER BY rowid DESC LIMIT -1 OFFSET ?)`, maxResolved)
	if err != nil {
		return fmt.Errorf("prune memo: %w", err)
	}
	return nil
}

// MemoInput is all that the resolver's answer depends on.
type MemoInput struct {
	Base         string   `json:"base"`      // hash of the base statement
	Archives     []string `json:"archives"`  // SHA-256 of each InRelease, in order
	Depends      []string `json:"depends"`   // Build-Depends, -Indep, -Arch, in this order, as in the .dsc
	Conflicts    []string `json:"conflicts"` // the same of Build-Conflicts
	BuildType    string   `json:"build_type"`
	Arch         string   `json:"arch"`
	HostArch     string   `json:"host_arch"`
	Profiles     []string `json:"profiles"`
	Resolver     string   `json:"resolver"` // mode and version
	AddDepends   []string `json:"add_depends"`
	ExtraHashes  []string `json:"extra_hashes"`  // of extra packages
	ExtraSources []string `json:"extra_sources"` // of extra repositories' states
}

func (in MemoInput) key() (string, error) {
	for _, l := range []*[]string{&in.Archives, &in.Depends, &in.Conflicts, &in.Profiles, &in.AddDepends, &in.ExtraHashes, &in.ExtraSources} {
		*l = list(*l)
	}
	b, err := canonical(in)
	if err != nil {
		return "", err
	}
	return "resolved " + hashOf(b), nil
}

// Key names the question: equal input has an equal key.
func (in MemoInput) Key() (string, error) {
	key, err := in.key()
	return strings.TrimPrefix(key, "resolved "), err
}

// Memo returns the set that an earlier resolver run with equal input gave. A
// row that someone altered is dropped with a warning.
func (s *Store) Memo(ctx context.Context, in MemoInput) (set []Package, ok bool) {
	key, err := in.key()
	if err != nil {
		return nil, false
	}
	v, ok := s.memo.get(ctx, key)
	if !ok {
		return nil, false
	}
	if err := json.Unmarshal([]byte(v), &set); err != nil {
		s.report.Note("memo row %q cannot be read: %v", key, err)
		return nil, false
	}
	return set, true
}

// PutMemo keeps the answer for [Store.Memo]. Without a database it does
// nothing.
func (s *Store) PutMemo(ctx context.Context, in MemoInput, set []Package) error {
	key, err := in.key()
	if err != nil {
		return err
	}
	v, err := canonical(list(Sort(set)))
	if err != nil {
		return err
	}
	if err := s.memo.put(ctx, key, string(v), false); err != nil {
		return err
	}
	return s.memo.prune(ctx)
}
