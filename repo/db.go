package repo

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// schema is the version of the tables below. They hold nothing that the
// repository's files do not, so another version is dropped and filled again.
const schema = "5"

// Migrate makes this package's tables, or brings them to this version. It does
// nothing when they are current.
func Migrate(ctx context.Context, db *sql.DB) error {
	if _, err := db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS repo_schema (version TEXT NOT NULL)`); err != nil {
		return fmt.Errorf("make repository tables: %w", err)
	}
	var have string
	err := db.QueryRowContext(ctx, `SELECT version FROM repo_schema`).Scan(&have)
	if err == nil && have == schema {
		return nil
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("make repository tables: %w", err)
	}
	err = inTx(ctx, db, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, tables); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO repo_schema VALUES (?)`, schema)
		return err
	})
	if err != nil {
		return fmt.Errorf("make repository tables: %w", err)
	}
	return nil
}

const tables = `
DELETE FROM repo_schema;
DROP TABLE IF EXISTS repo_suite;
DROP TABLE IF EXISTS repo_stanza;
DROP TABLE IF EXISTS repo_entry;
DROP TABLE IF EXISTS repo_pending;
DROP TABLE IF EXISTS repo_draft;
DROP TABLE IF EXISTS repo_shard;
DROP TABLE IF EXISTS repo_contents;

-- release is the SHA-256 of the Release file that the suite's rows stand for,
-- but for what is pending; ticket is the last one that it has.
CREATE TABLE repo_suite (
	name    TEXT PRIMARY KEY,
	release TEXT NOT NULL,
	ticket  INTEGER NOT NULL
) WITHOUT ROWID;

-- Generations that wait to be signed: the directory, the SHA-256 of the Release
-- file, and the last ticket of what they have.
CREATE TABLE repo_draft (
	suite   TEXT NOT NULL,
	release TEXT NOT NULL,
	ticket  INTEGER NOT NULL,
	dir     TEXT NOT NULL,
	PRIMARY KEY (suite, release)
) WITHOUT ROWID;

-- One .deb, .udeb or .dsc by its SHA-256: what an index says about it, but
-- for where it is.
CREATE TABLE repo_stanza (
	sha256         TEXT PRIMARY KEY,
	kind           TEXT NOT NULL, -- deb, udeb, dsc
	name           TEXT NOT NULL,
	version        TEXT NOT NULL,
	arch           TEXT NOT NULL, -- "source" for a .dsc
	source         TEXT NOT NULL,
	source_version TEXT NOT NULL,
	section        TEXT NOT NULL,
	size           INTEGER NOT NULL,
	text           BLOB NOT NULL
);

-- The files in a .deb, a line each, for suites that have Contents.
CREATE TABLE repo_contents (
	sha256 TEXT PRIMARY KEY,
	paths  TEXT NOT NULL
);

-- What a suite lists. path is the Filename of a package and the Directory of
-- a source.
CREATE TABLE repo_entry (
	suite     TEXT NOT NULL,
	component TEXT NOT NULL,
	kind      TEXT NOT NULL,
	name      TEXT NOT NULL,
	version   TEXT NOT NULL,
	arch      TEXT NOT NULL,
	source    TEXT NOT NULL,
	sha256    TEXT NOT NULL,
	path      TEXT NOT NULL,
	serial    INTEGER NOT NULL, -- the order in the indexes: that of arrival
	added     INTEGER NOT NULL, -- time of arrival, in seconds of Unix
	PRIMARY KEY (suite, kind, name, version, arch)
) WITHOUT ROWID;
CREATE INDEX repo_entry_source ON repo_entry (source, suite);
CREATE INDEX repo_entry_serial ON repo_entry (suite, component, kind, serial);

-- How the rows of a large suite are spread; without being told, SQLite takes
-- all rows of a suite for few, and reads them all to find those of a source.
ANALYZE repo_entry;
DELETE FROM sqlite_stat1 WHERE tbl = 'repo_entry';
INSERT INTO sqlite_stat1 VALUES
	('repo_entry', 'repo_entry', '60000 30000 20000 2 1 1'),
	('repo_entry', 'repo_entry_source', '60000 5 5'),
	('repo_entry', 'repo_entry_serial', '60000 30000 15000 10000 1');
ANALYZE sqlite_schema;

-- What was changed in a suite since its last generation: entries by serial, and
-- with an empty kind a component or architecture that must be there, or
-- nothing but a new generation.
CREATE TABLE repo_pending (
	ticket    INTEGER PRIMARY KEY AUTOINCREMENT,
	suite     TEXT NOT NULL,
	component TEXT NOT NULL,
	kind      TEXT NOT NULL,
	arch      TEXT NOT NULL,
	serial    INTEGER NOT NULL
);

-- The shards of the last generation's indexes; see shard and mark.
CREATE TABLE repo_shard (
	suite TEXT NOT NULL,
	path  TEXT NOT NULL, -- of the uncompressed index
	first INTEGER NOT NULL,
	sum   TEXT NOT NULL,
	parts TEXT NOT NULL,
	ends  TEXT NOT NULL,
	PRIMARY KEY (suite, path, first)
) WITHOUT ROWID;
CREATE INDEX repo_shard_sum ON repo_shard (suite, sum);
`

// querier is the database, or a transaction that sees its own changes.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// inTx runs fn in a transaction, in which fn calls commit as its last step; if
// it does not, nothing has changed. The end of ctx does not end the
// transaction: fn decides up to where that matters.
func (w *writer) inTx(ctx context.Context, fn func(tx *sql.Tx, commit func() error) error) error {
	tx, err := w.db.BeginTx(context.WithoutCancel(ctx), nil)
	if err != nil {
		return fmt.Errorf("write repository tables: %w", err)
	}
	committed := false
	err = fn(tx, func() error {
		committed = true
		return tx.Commit()
	})
	if !committed {
		err = errors.Join(err, tx.Rollback())
	}
	return err
}

// inTx runs fn in a transaction. fn writes before it reads, so that a writer
// in another process is waited for and not an error.
func inTx(ctx context.Context, db *sql.DB, fn func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := fn(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

const columns = `e.component, e.kind, e.name, e.version, e.arch, e.path, e.serial, e.added,
	s.sha256, s.source, s.source_version, s.section, s.size, s.text`

// rows returns the entries of a suite that a condition on e (repo_entry) and
// s (repo_stanza) selects.
func (r *Repo) rows(ctx context.Context, suite, where string, args ...any) (found []entry, err error) {
	err = eachRow(ctx, r.db, suite, where, args, func(e entry) error {
		found = append(found, e)
		return nil
	})
	return found, err
}

// eachRow calls fn with each of these entries.
func eachRow(ctx context.Context, q querier, suite, where string, args []any, fn func(entry) error) (err error) {
	query := `SELECT ` + columns + ` FROM repo_entry e JOIN repo_stanza s USING (sha256) WHERE e.suite = ? AND ` + where
	rows, err := q.QueryContext(ctx, query, append([]any{suite}, args...)...)
	if err != nil {
		return fmt.Errorf("read repository tables: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var e entry
		err := rows.Scan(&e.component, &e.kind, &e.name, &e.version, &e.arch, &e.path, &e.serial, &e.added,
			&e.sha256, &e.source, &e.sourceVersion, &e.section, &e.size, &e.text)
		if err != nil {
			return fmt.Errorf("read repository tables: %w", err)
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	return rows.Err()
}

// cachedStanza returns what is known about a file by its hash.
func (r *Repo) cachedStanza(ctx context.Context, sha256 string) (s stanza, ok bool, err error) {
	err = r.db.QueryRowContext(ctx, `SELECT kind, name, version, arch, source, source_version, section, size, text
		FROM repo_stanza WHERE sha256 = ?`, sha256).
		Scan(&s.kind, &s.name, &s.version, &s.arch, &s.source, &s.sourceVersion, &s.section, &s.size, &s.text)
	if errors.Is(err, sql.ErrNoRows) {
		return s, false, nil
	}
	if err != nil {
		return s, false, fmt.Errorf("read repository tables: %w", err)
	}
	s.sha256 = sha256
	return s, true, nil
}

// apply records a change: the rows as they will be, and what that touches.
func apply(ctx context.Context, tx querier, ch change, now time.Time) error {
	for _, e := range ch.drop {
		if err := dropEntry(ctx, tx, ch.suite.Name, e.id()); err != nil {
			return err
		}
	}
	architectures, components := ch.header()
	var touched []touch
	for _, a := range architectures {
		touched = append(touched, touch{arch: a})
	}
	for _, c := range components {
		touched = append(touched, touch{component: c})
	}
	if ch.empty() { // new rules, or a new Date
		touched = append(touched, touch{})
	}
	for _, t := range touched {
		if err := recordTouch(ctx, tx, ch.suite.Name, t); err != nil {
			return err
		}
	}
	add := slices.Clone(ch.add)
	slices.SortStableFunc(add, entry.compare)
	for _, e := range add {
		if err := dropEntry(ctx, tx, ch.suite.Name, e.id()); err != nil {
			return err
		}
		e.added = now.Unix()
		err := tx.QueryRowContext(ctx, `SELECT serial FROM repo_entry WHERE suite = ? AND component = ? AND kind = ? ORDER BY serial DESC LIMIT 1`,
			ch.suite.Name, e.component, e.kind).Scan(&e.serial)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		e.serial++
		if err := insertEntry(ctx, tx, ch.suite.Name, e); err != nil {
			return err
		}
		if err := recordTouch(ctx, tx, ch.suite.Name, e.touch()); err != nil {
			return err
		}
	}
	return nil
}

// dropEntry removes what is there under an id, if anything.
func dropEntry(ctx context.Context, tx querier, suite string, i id) error {
	t := touch{kind: i.kind, arch: i.arch}
	err := tx.QueryRowContext(ctx, `DELETE FROM repo_entry WHERE suite = ? AND kind = ? AND name = ? AND version = ? AND arch = ?
		RETURNING component, serial`, suite, i.kind, i.name, i.version, i.arch).Scan(&t.component, &t.serial)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return recordTouch(ctx, tx, suite, t)
}

func recordTouch(ctx context.Context, tx querier, suite string, t touch) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO repo_pending (suite, component, kind, arch, serial) VALUES (?, ?, ?, ?, ?)`,
		suite, t.component, t.kind, t.arch, t.serial)
	return err
}

// readPending returns what is recorded in a suite since its last generation.
func readPending(ctx context.Context, q querier, suite string) (p pending, err error) {
	rows, err := q.QueryContext(ctx, `SELECT ticket, component, kind, arch, serial FROM repo_pending WHERE suite = ? ORDER BY ticket`, suite)
	if err != nil {
		return p, fmt.Errorf("read repository tables: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var ticket int64
		var t touch
		if err := rows.Scan(&ticket, &t.component, &t.kind, &t.arch, &t.serial); err != nil {
			return p, fmt.Errorf("read repository tables: %w", err)
		}
		p.tickets = append(p.tickets, ticket)
		switch {
		case t.kind != "":
			p.touched = append(p.touched, t)
		case t.arch != "":
			p.architectures = append(p.architectures, t.arch)
		case t.component != "":
			p.components = append(p.components, t.component)
		}
	}
	return p, rows.Err()
}

// recordShown notes that the rows of a suite are those of the generation with
// the given Release file, but for what is pending after a ticket. No draft can
// follow the generation before any more.
func recordShown(ctx context.Context, tx querier, suite, release string, ticket int64) error {
	for _, statement := range []string{`DELETE FROM repo_pending WHERE suite = ? AND ticket <= ?`, `DELETE FROM repo_draft WHERE suite = ? AND ? IS NOT NULL`} {
		if _, err := tx.ExecContext(ctx, statement, suite, ticket); err != nil {
			return err
		}
	}
	_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO repo_suite VALUES (?, ?, ?)`, suite, release, ticket)
	return err
}

// shownTicket is the last ticket of which clients see the change.
func shownTicket(ctx context.Context, q querier, suite string) (ticket int64, err error) {
	err = q.QueryRowContext(ctx, `SELECT ticket FROM repo_suite WHERE name = ?`, suite).Scan(&ticket)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("read repository tables: %w", err)
	}
	return ticket, nil
}

// recordDraft notes what a generation has that waits to be signed.
func recordDraft(ctx context.Context, tx querier, s *staged) error {
	_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO repo_draft VALUES (?, ?, ?, ?)`, s.suite.Name, s.digest, s.last(), s.place)
	return err
}

// draftTicket is the last ticket of the draft with the given Release file.
func draftTicket(ctx context.Context, q querier, suite, release string) (ticket int64, found bool, err error) {
	err = q.QueryRowContext(ctx, `SELECT ticket FROM repo_draft WHERE suite = ? AND release = ?`, suite, release).Scan(&ticket)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("read repository tables: %w", err)
	}
	return ticket, true, nil
}

// draftWith is the directory of a draft that has the change of a ticket, "" if
// there is none.
func draftWith(ctx context.Context, q querier, suite string, ticket int64) (dir string, err error) {
	err = q.QueryRowContext(ctx, `SELECT dir FROM repo_draft WHERE suite = ? AND ticket >= ? ORDER BY ticket DESC LIMIT 1`, suite, ticket).Scan(&dir)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("read repository tables: %w", err)
	}
	return dir, nil
}

// readTail returns the end of an index from the shard on that the lowest of the
// given serials falls into, or all of it for none. What is before is only read
// where the rules need it, for xz.
func readTail(ctx context.Context, q querier, suite Suite, x index, serials []int64) (t tail, err error) {
	from := int64(0)
	if len(serials) > 0 {
		err := q.QueryRowContext(ctx, `SELECT ifnull(max(first), 0) FROM repo_shard WHERE suite = ? AND path = ? AND first < ?`,
			suite.Name, x.path(), slices.Min(serials)).Scan(&from)
		if err != nil {
			return t, fmt.Errorf("read repository tables: %w", err)
		}
		var ends string
		err = q.QueryRowContext(ctx, `SELECT ends FROM repo_shard WHERE suite = ? AND path = ? AND first < ? ORDER BY first DESC LIMIT 1`,
			suite.Name, x.path(), from).Scan(&ends)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return t, fmt.Errorf("read repository tables: %w", err)
		}
		if err == nil {
			t.base, err = decodeMarks(ends)
			if err != nil {
				return tail{}, nil //nolint:nilerr // a damaged cache is as good as none
			}
		}
	}
	if t.base != nil && suite.XZ {
		if t.head, err = readShards(ctx, q, suite.Name, x, 0, from); err != nil {
			return tail{}, err
		}
	}
	t.shards, err = readShards(ctx, q, suite.Name, x, from, math.MaxInt64)
	return t, err
}

// readShards returns the shards of an index that begin at serials from one up
// to, but not including, another. If one of them cannot be read there are none:
// a damaged cache is as good.
func readShards(ctx context.Context, q querier, suite string, x index, from, to int64) (all []shard, err error) {
	rows, err := q.QueryContext(ctx, `SELECT first, sum, parts FROM repo_shard WHERE suite = ? AND path = ? AND first >= ? AND first < ? ORDER BY first`,
		suite, x.path(), from, to)
	if err != nil {
		return nil, fmt.Errorf("read repository tables: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var s shard
		var parts string
		if err := rows.Scan(&s.first, &s.sum, &parts); err != nil {
			return nil, fmt.Errorf("read repository tables: %w", err)
		}
		if err := json.Unmarshal([]byte(parts), &s.parts); err != nil {
			return nil, nil // as above
		}
		all = append(all, s)
	}
	return all, rows.Err()
}

// writeTail replaces the shards of an index by those of a new tail.
func writeTail(ctx context.Context, tx querier, suite string, t newTail) error {
	for _, s := range t.old {
		if _, err := tx.ExecContext(ctx, `DELETE FROM repo_shard WHERE suite = ? AND path = ? AND first = ?`, suite, t.index.path(), s.first); err != nil {
			return err
		}
	}
	for i, s := range t.shards {
		if _, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO repo_shard VALUES (?, ?, ?, ?, ?, ?)`,
			suite, t.index.path(), s.first, s.sum, string(encodeJSON(s.parts)), t.ends[i].encode()); err != nil {
			return err
		}
	}
	return nil
}

// shardUsed tells whether an index of a suite has a shard.
func shardUsed(ctx context.Context, q querier, suite, sum string) (used bool, err error) {
	err = q.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM repo_shard WHERE suite = ? AND sum = ?)`, suite, sum).Scan(&used)
	return used, err
}

func insertEntry(ctx context.Context, tx querier, suite string, e entry) error {
	if _, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO repo_stanza VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		e.sha256, e.kind, e.name, e.version, e.arch, e.source, e.sourceVersion, e.section, e.size, e.text); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO repo_entry VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		suite, e.component, e.kind, e.name, e.version, e.arch, e.source, e.sha256, e.path, e.serial, e.added)
	return err
}

// recordedRelease returns the digest of the Release file that the suite's rows stand
// for, "" when there are none.
func (r *Repo) recordedRelease(ctx context.Context, suite string) (release string, err error) {
	err = r.db.QueryRowContext(ctx, `SELECT release FROM repo_suite WHERE name = ?`, suite).Scan(&release)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return release, err
}
