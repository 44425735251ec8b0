package archive

import (
	"context"
	"errors"
	"time"

	"dbuild/internal/fault"
)

// staleError says that a mirror does not have an index that its Release names.
type staleError struct {
	st      *State
	err     error
	certain bool // it cannot be mere damage: a file named by its hash is missing
}

func (e *staleError) Error() string { return e.err.Error() }
func (e *staleError) Unwrap() error { return e.err }

// settle fetches the indexes that names lists for each state. Where a mirror
// serves an index that does not go with its Release, both are asked for again
// after a pause, at most as often as there are pauses.
func (c *Copy) settle(ctx context.Context, sts []*State, names func(*State) ([]string, error)) error {
	moved := false
	for try := 0; ; try++ {
		err := c.fetchIndexes(ctx, sts, names)
		var stale *staleError
		if !errors.As(err, &stale) {
			return err
		}
		moved = moved || stale.certain
		if try >= len(c.client.limits.update) {
			if moved {
				err := fault.New(fault.Network, "fetch indexes of %s: the mirror is being updated: %w", stale.st.Source.label(), stale.err)
				return fault.WithHint(err, "try again in some minutes, or another mirror with --mirror")
			}
			return stale.err
		}
		c.opt.Report.Note("%s does not match its Release now; asking again", stale.st.Source.label())
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(c.client.limits.update[try]):
		}
		before := stale.st.SHA256
		if err := c.refresh(ctx, stale.st); err != nil {
			return err
		}
		moved = moved || stale.st.SHA256 != before
	}
}

// refresh replaces *st by the state of now.
func (c *Copy) refresh(ctx context.Context, st *State) error {
	rings, err := openKeyrings([]Source{st.Source})
	if err != nil {
		return err
	}
	now, err := c.update(ctx, st.Source, rings[0], true)
	if err != nil {
		return err
	}
	*st = *now
	return nil
}
