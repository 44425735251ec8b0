package repo

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"dbuild/internal/fault"
)

// update changes a suite. fn is called under the repository's lock, with the
// suite and its generation, and says what to change. update returns when
// clients see that, and a power cut cannot undo it.
//
// A change is first recorded in the database, and then drafted as the next
// generation, both under the lock. The draft is signed without it, and installed
// under it again. A suite has at most one generation per second: what comes
// sooner is recorded only, and everything that was recorded until the second is
// over becomes one generation, made by whoever comes first. What is recorded by
// a process which then dies, or whose keys do not sign, is not lost: it is part
// of the next generation, whoever makes that.
func (r *Repo) update(ctx context.Context, ifNew Suite, fn func(*writer, Suite, generation) (change, error)) (g generation, err error) {
	if err := r.checkKeys(); err != nil {
		return g, err
	}
	var ticket int64
	var s *staged
	err = r.write(ctx, func(w *writer) error {
		suite, cur, err := w.openSuite(ctx, ifNew)
		if err != nil {
			return err
		}
		ch, err := fn(w, suite, cur)
		if err != nil {
			return err
		}
		if ch.empty() && !ch.anew && !ch.stale(w.now()) {
			g = cur
			ticket, err = w.lastTicket(ctx, suite.Name)
			return errors.Join(err, w.disk.sync())
		}
		s, ticket, err = w.record(ctx, ch)
		return err
	})
	if err != nil || ticket == 0 {
		return g, err
	}
	return r.settle(ctx, ifNew.Name, ticket, s)
}

// record brings a change into the database and, if the second for it has come,
// drafts the generation that has it. The ticket is what settle waits for.
func (w *writer) record(ctx context.Context, ch change) (s *staged, ticket int64, err error) {
	err = w.inTx(ctx, func(tx *sql.Tx, commit func() error) error {
		if err := apply(ctx, tx, ch, w.now()); err != nil {
			return err
		}
		p, err := readPending(ctx, tx, ch.suite.Name)
		if err != nil {
			return err
		}
		ticket = p.tickets[len(p.tickets)-1]
		if date, wait := w.nextDate(ch.suite.Name, ch.from); wait == 0 {
			if s, err = w.stage(ctx, tx, draft{ch.suite, ch.from, p}, date); err != nil {
				return err
			}
		}
		return w.commitRecord(ctx, s, commit)
	})
	return s, ticket, err
}

// settle returns when clients see what was recorded up to a ticket. It drafts,
// signs and installs the generation that has it, unless somebody else does; s is
// a draft that has it already, or nil.
//
// No more than two drafts are made: the first may be overtaken by one that was
// made before the change was recorded, the second only by one that has it.
func (r *Repo) settle(ctx context.Context, suite string, ticket int64, s *staged) (g generation, err error) {
	for {
		if s == nil {
			var shown bool
			if g, s, shown, err = r.draftNext(ctx, suite, ticket); err != nil || shown {
				return g, err
			}
		}
		g, installed, err := r.finish(ctx, s)
		if err != nil || installed {
			return g, err
		}
		s = nil
	}
}

// draftNext waits, without the lock, until a generation may have the change of a
// ticket, and drafts it; or until clients see it.
func (r *Repo) draftNext(ctx context.Context, suite string, ticket int64) (g generation, s *staged, shown bool, err error) {
	for patient := true; ; {
		var wait time.Duration
		var other string
		err = r.write(ctx, func(w *writer) error {
			if !w.isSuite(suite) {
				return fault.New(fault.Usage, "suite %q was dropped meanwhile", suite)
			}
			target, cur, err := w.openSuite(ctx, DefaultSuite(suite))
			if err != nil {
				return err
			}
			p, err := readPending(ctx, w.db, suite)
			if err != nil {
				return err
			}
			if shown, err = w.isShown(ctx, suite, p, ticket); err != nil || shown {
				g = cur
				return err
			}
			if patient {
				if other, err = w.liveDraft(ctx, suite, ticket); err != nil || other != "" {
					return err
				}
			}
			var date time.Time
			if date, wait = w.nextDate(suite, cur); wait > 0 {
				return nil
			}
			return w.inTx(ctx, func(tx *sql.Tx, commit func() error) (err error) {
				if s, err = w.stage(ctx, tx, draft{target, cur, p}, date); err != nil {
					return err
				}
				return w.commitRecord(ctx, s, commit)
			})
		})
		switch {
		case err != nil || shown || s != nil:
			return g, s, shown, err
		case other != "":
			patient = r.awaitDraft(ctx, other)
		default:
			err = r.sleep(ctx, wait)
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return g, nil, false, err
		}
	}
}

// isShown tells whether clients see the change of a ticket. p is what is pending.
func (w *writer) isShown(ctx context.Context, suite string, p pending, ticket int64) (bool, error) {
	last, err := shownTicket(ctx, w.db, suite)
	if err != nil || ticket <= last {
		return err == nil, err
	}
	if len(p.tickets) == 0 || p.tickets[len(p.tickets)-1] < ticket {
		err = fault.New(fault.Locked, "suite %q: its rows were read again while this change waited, and do not have it", suite)
		return false, fault.WithHint(err, "do the same again")
	}
	return false, nil
}

// lastTicket is that of the newest record of a suite, 0 when there is none.
func (w *writer) lastTicket(ctx context.Context, suite string) (int64, error) {
	p, err := readPending(ctx, w.db, suite)
	if err != nil || len(p.tickets) == 0 {
		return 0, err
	}
	return p.tickets[len(p.tickets)-1], nil
}
