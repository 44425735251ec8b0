package repo

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dbuild/internal/cleanup"
)

// handover is how long a change waits for the keys of somebody else, whose draft
// has it, before it is drafted again for its own.
const handover = 2 * time.Second

// staged is the next generation of a suite, complete but for its signatures.
// Until it is installed it is in a directory of its own, on which its maker
// holds a lock: one that nobody holds was left by a publish that was killed.
type staged struct {
	draft
	generation        // as it will be
	place      string // its directory for now; "" once it has its own
	live       *os.File
	date       time.Time
	text       []byte // of Release
	tails      []newTail
}

// last is the ticket of the newest change that it has.
func (s *staged) last() int64 { return s.tickets[len(s.tickets)-1] }

// draftPrefix begins the names of the directories of drafts; no name of a suite
// has an underscore.
func draftPrefix(suite string) string { return "." + suite + draftMark }

const draftMark = "_draft."

// stage writes the next generation where no client sees it: indexes by hash, and
// a directory with all but the signatures.
func (w *writer) stage(ctx context.Context, tx querier, d draft, date time.Time) (_ *staged, err error) {
	if _, err := w.drafts(d.suite.Name); err != nil {
		return nil, err
	}
	s := &staged{draft: d, date: date}
	rows, tails, err := w.writeIndexes(ctx, tx, d)
	if err != nil {
		return nil, err
	}
	s.tails = tails
	if err := w.makePlace(s); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.discard(s))
		}
	}()
	if err := w.fillGeneration(d.suite.Name, s.place, rows); err != nil {
		return nil, err
	}
	architectures, components := d.header()
	s.text = releaseText(d.suite, date, architectures, components, rows)
	// What this strict reader refuses must not reach a client.
	if s.generation, err = newGeneration(d.suite.Name, d.from.n+1, s.text); err != nil {
		return nil, err
	}
	if err := w.writeRelease(s.place, Document{"Release", s.text}, date); err != nil {
		return nil, err
	}
	return s, recordDraft(ctx, tx, s)
}

// makePlace makes the directory of a draft and locks it.
func (w *writer) makePlace(s *staged) (err error) {
	var token [8]byte
	_, _ = rand.Read(token[:]) // never fails, see crypto/rand
	s.place = path.Join("dists", draftPrefix(s.suite.Name)+hex.EncodeToString(token[:]))
	if err := w.disk.mkdir(s.place); err != nil {
		return err
	}
	if s.live, err = os.Open(w.path(s.place)); err == nil {
		err = unix.Flock(int(s.live.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("lock draft: %w", err), w.discard(s))
	}
	return nil
}

// commitRecord makes what was recorded durable, and commits it: from then on others may
// show it, who do not know its files. A draft that goes with it, which may be
// nil, is given up if that fails.
func (w *writer) commitRecord(ctx context.Context, s *staged, commit func() error) error {
	err := w.disk.sync()
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = commit()
	}
	if err != nil && s != nil {
		err = errors.Join(err, w.discard(s))
	}
	return err
}

// discard gives a draft up. What it recorded stays recorded.
func (r *Repo) discard(s *staged) error {
	var errs []error
	if s.place != "" {
		d := disk{root: r.dir, before: r.before, unsynced: map[string]bool{}}
		errs = append(errs, d.removeAll(s.place))
	}
	if s.live != nil {
		errs = append(errs, s.live.Close())
	}
	return errors.Join(errs...)
}

// drafts are the directories of a suite's drafts that wait to be signed, or of all
// suites for "". Those that a killed publish left are removed.
func (w *writer) drafts(suite string) (live []string, err error) {
	dir, err := os.ReadDir(w.path("dists"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range dir {
		if !strings.HasPrefix(e.Name(), draftPrefix(suite)) && (suite != "" || !strings.Contains(e.Name(), draftMark)) {
			continue
		}
		rel := path.Join("dists", e.Name())
		alive, err := w.isLive(rel)
		if err != nil {
			return nil, err
		}
		if alive {
			live = append(live, rel)
		} else if err := w.disk.removeAll(rel); err != nil {
			return nil, err
		}
	}
	return live, nil
}

// isLive tells whether somebody holds a draft.
func (r *Repo) isLive(place string) (live bool, err error) {
	f, err := os.Open(r.path(place))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer cleanup.Close(&err, f)
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

// liveDraft is a draft with the change of a ticket that somebody is about to
// sign and install, "" if there is none.
func (w *writer) liveDraft(ctx context.Context, suite string, ticket int64) (place string, err error) {
	if place, err = draftWith(ctx, w.db, suite, ticket); err != nil || place == "" {
		return "", err
	}
	if live, err := w.isLive(place); err != nil || !live {
		return "", err
	}
	return place, nil
}

// awaitDraft waits until nobody holds a draft any more; false says that this
// took too long.
func (r *Repo) awaitDraft(ctx context.Context, place string) bool {
	end := time.Now().Add(r.handover)
	for pause := time.Millisecond; time.Now().Before(end) && ctx.Err() == nil; pause = min(2*pause, 50*time.Millisecond) {
		if live, err := r.isLive(place); err != nil || !live {
			return true
		}
		_ = sleep(ctx, pause) // its end is seen above
	}
	return false
}

// finish signs a draft without the repository's lock, and installs it under it
// unless another generation came first.
func (r *Repo) finish(ctx context.Context, s *staged) (g generation, installed bool, err error) {
	defer func() { err = errors.Join(err, r.discard(s)) }()
	signed, err := r.sign(ctx, s)
	if err != nil {
		return g, false, err
	}
	err = r.write(ctx, func(w *writer) error {
		installed, err = w.install(ctx, s, signed)
		return err
	})
	return s.generation, installed, err
}

// install shows a signed draft to clients, if they still see the generation that
// it follows.
func (w *writer) install(ctx context.Context, s *staged, signed []Document) (done bool, err error) {
	suite := s.suite.Name
	if !w.isSuite(suite) {
		return false, nil
	}
	_, cur, err := w.openSuite(ctx, s.suite)
	if err != nil || cur.digest != s.from.digest {
		return false, err
	}
	if p, err := readPending(ctx, w.db, suite); err != nil || len(p.tickets) == 0 || p.tickets[0] != s.tickets[0] {
		return false, err // the rows were read again, and no longer stand for it
	}
	return true, w.showStaged(ctx, s, signed)
}

// showStaged shows a signed draft. The order matters: everything of it is durable
// before the one step that clients see, and the database comes last, since it can
// be filled again from what clients see.
func (w *writer) showStaged(ctx context.Context, s *staged, signed []Document) error {
	suite := s.suite.Name
	if err := w.removeUnshown(suite, s.from); err != nil {
		return err
	}
	for _, f := range signed {
		if err := w.writeRelease(s.place, f, s.date); err != nil {
			return err
		}
	}
	here := s.generation
	here.dir = s.place
	if err := w.keepRecord(suite, here); err != nil {
		return err
	}
	if err := w.disk.sync(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := w.disk.rename(s.place, s.dir); err != nil {
		return err
	}
	s.place = "" // whatever fails now, clients may see it
	if err := w.show(suite, s.n); err != nil {
		return err
	}
	// Clients see the new generation: from here on nothing is an error.
	ctx = context.WithoutCancel(ctx)
	err := w.inTx(ctx, func(tx *sql.Tx, commit func() error) error {
		for _, t := range s.tails {
			if err := writeTail(ctx, tx, suite, t); err != nil {
				return err
			}
		}
		if err := recordShown(ctx, tx, suite, s.digest, s.last()); err != nil {
			return err
		}
		return commit()
	})
	if err != nil {
		w.report.Warn("the database does not have generation %d of %q yet: %v", s.n, suite, err)
		return nil
	}
	for _, t := range s.tails {
		w.removeShards(ctx, suite, t.gone())
	}
	if err := w.adoptRecord(suite, s.generation); err != nil {
		w.report.Note("the record of %q is left to be collected: %v", suite, err)
	}
	return nil
}

// resume brings the database in step with a generation that was a draft of which
// it knows, and whose maker died after showing it: the rows are right. What was
// recorded after the draft stays pending.
func (w *writer) resume(ctx context.Context, suite string, cur generation) (known bool, err error) {
	ticket, known, err := draftTicket(ctx, w.db, suite, cur.digest)
	if err != nil || !known {
		return false, err
	}
	err = inTx(ctx, w.db, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM repo_shard WHERE suite = ?`, suite); err != nil {
			return err
		}
		return recordShown(ctx, tx, suite, cur.digest, ticket)
	})
	return true, err
}
