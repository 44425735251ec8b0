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
// A suite has at most one generation per second. A change that comes sooner is
// recorded in the database, and everything that was recorded until the second
// is over becomes one generation, made by whoever comes first. One that is
// recorded by a process which then dies is not lost: it is part of the next
// generation, whoever makes that.
func (r *Repo) update(ctx context.Context, ifNew Suite, fn func(*writer, Suite, generation) (change, error)) (g generation, err error) {
	var ticket int64
	err = r.write(ctx, func(w *writer) error {
		s, cur, err := w.openSuite(ctx, ifNew)
		if err != nil {
			return err
		}
		ch, err := fn(w, s, cur)
		if err != nil {
			return err
		}
		if ch.empty() && !ch.anew && !ch.stale(w.now()) {
			g = cur
			ticket, err = w.lastTicket(ctx, s.Name)
			return errors.Join(err, w.disk.sync())
		}
		g, ticket, err = w.record(ctx, ch)
		return err
	})
	if err != nil || ticket == 0 {
		return g, err
	}
	return r.settle(ctx, ifNew.Name, ticket)
}

// record brings a change into the database and, if the second for it has come,
// commits it; otherwise it returns a ticket to settle.
func (w *writer) record(ctx context.Context, ch change) (g generation, ticket int64, err error) {
	err = w.inTx(ctx, func(tx *sql.Tx, commit func() error) error {
		if err := apply(ctx, tx, ch, w.now()); err != nil {
			return err
		}
		date, wait := w.nextDate(ch.suite.Name, ch.from)
		if wait == 0 {
			g, err = w.commit(ctx, tx, commit, ch.suite, ch.from, date)
			return err
		}
		// Whoever makes the generation does not know this change's files.
		if err := w.disk.sync(); err != nil {
			return err
		}
		p, err := readPending(ctx, tx, ch.suite.Name)
		if err != nil {
			return err
		}
		ticket = p.tickets[len(p.tickets)-1]
		return commit()
	})
	return g, ticket, err
}

// settle returns when clients see what was recorded up to a ticket: it waits
// for the second, without the lock, and commits unless somebody else did.
func (r *Repo) settle(ctx context.Context, suite string, ticket int64) (g generation, err error) {
	for wait := time.Duration(1); wait > 0; {
		cur, err := r.current(suite)
		if err != nil {
			return g, err
		}
		if _, wait = r.nextDate(suite, cur); wait > 0 {
			if err := r.sleep(ctx, wait); err != nil {
				return g, err
			}
		}
		err = r.write(ctx, func(w *writer) error {
			g, wait, err = w.settleNow(ctx, suite, ticket)
			return err
		})
		if err != nil {
			return g, err
		}
	}
	return g, nil
}

// settleNow is settle under the lock; wait is not zero when a generation came
// in between and this change is not in it.
func (w *writer) settleNow(ctx context.Context, suite string, ticket int64) (g generation, wait time.Duration, err error) {
	if !w.isSuite(suite) {
		return g, 0, fault.New(fault.Usage, "suite %q was dropped meanwhile", suite)
	}
	s, cur, err := w.openSuite(ctx, DefaultSuite(suite))
	if err != nil {
		return g, 0, err
	}
	p, err := readPending(ctx, w.db, suite)
	if err != nil || len(p.tickets) == 0 || p.tickets[0] > ticket {
		return cur, 0, err
	}
	date, wait := w.nextDate(suite, cur)
	if wait > 0 {
		return cur, wait, nil
	}
	err = w.inTx(ctx, func(tx *sql.Tx, commit func() error) error {
		g, err = w.commit(ctx, tx, commit, s, cur, date)
		return err
	})
	return g, 0, err
}

// lastTicket is that of the newest record of a suite, 0 when there is none.
func (w *writer) lastTicket(ctx context.Context, suite string) (int64, error) {
	p, err := readPending(ctx, w.db, suite)
	if err != nil || len(p.tickets) == 0 {
		return 0, err
	}
	return p.tickets[len(p.tickets)-1], nil
}
