package cleanup_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"dbuild/internal/cleanup"
)

func TestDoRunsAfterCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := io.EOF
	cleanup.Do(ctx, &err, func(ctx context.Context) error {
		if _, ok := ctx.Deadline(); ctx.Err() != nil || !ok {
			t.Errorf("context of the clean-up: %v, deadline %v", ctx.Err(), ok)
		}
		return io.ErrClosedPipe
	})
	if !errors.Is(err, io.EOF) || !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("errors are not joined: %v", err)
	}
}
