// Package cleanup runs the work that must happen even after the context of a
// build was cancelled, in one way everywhere.
package cleanup

import (
	"context"
	"errors"
	"time"
)

// Timeout bounds one piece of clean-up: a second Ctrl-C should not be needed
// because a daemon does not answer.
const Timeout = 8 * time.Second

// Do calls fn with a context that outlives ctx by at most [Timeout], and joins
// its error to *errp, which is the named result of the caller:
//
//	defer cleanup.Do(ctx, &err, container.Close)
func Do(ctx context.Context, errp *error, fn func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), Timeout)
	defer cancel()
	*errp = errors.Join(*errp, fn(ctx))
}

// Close joins the error of closing c to *errp. An earlier error is kept.
func Close(errp *error, c interface{ Close() error }) {
	*errp = errors.Join(*errp, c.Close())
}
