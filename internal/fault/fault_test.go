package fault_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"testing"

	"dbuild/internal/fault"
)

func TestClassAndHint(t *testing.T) {
	cause := fault.New(fault.Trust, "verify %q: %w", "InRelease", io.ErrUnexpectedEOF)
	for _, tc := range []struct {
		name  string
		err   error
		class fault.Class
		hint  string
	}{
		{"nil", nil, fault.OK, ""},
		{"plain", io.EOF, fault.Internal, ""},
		{"direct", cause, fault.Trust, ""},
		{"wrapped by fmt", fmt.Errorf("update: %w", cause), fault.Trust, ""},
		{"the nearest class stays", fault.Wrap(fault.Network, fmt.Errorf("update: %w", cause)), fault.Trust, ""},
		{"a class for a plain error", fault.Wrap(fault.Network, io.EOF), fault.Network, ""},
		{"hint", fault.WithHint(cause, "run %s", "this"), fault.Trust, "run this"},
		{"outermost hint wins", fault.WithHint(fmt.Errorf("x: %w", fault.WithHint(cause, "inner")), "outer"), fault.Trust, "outer"},
		{"inner hint is found", fault.New(fault.Input, "x: %w", fault.WithHint(cause, "inner")), fault.Input, "inner"},
		{"cancelled", fmt.Errorf("x: %w", context.Canceled), fault.Interrupted, ""},
		{"deadline", context.DeadlineExceeded, fault.Timeout, ""},
		{"no space", fmt.Errorf("x: %w", syscall.ENOSPC), fault.Resource, ""},
		{"joined", errors.Join(io.EOF, cause), fault.Trust, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := fault.ClassOf(tc.err); got != tc.class {
				t.Errorf("class %q, want %q", got, tc.class)
			}
			if got := fault.HintOf(tc.err); got != tc.hint {
				t.Errorf("hint %q, want %q", got, tc.hint)
			}
		})
	}
	if fault.Wrap(fault.Input, nil) != nil || fault.WithHint(nil, "x") != nil {
		t.Error("nil does not stay nil")
	}
	if !errors.Is(fault.WithHint(cause, "h"), io.ErrUnexpectedEOF) {
		t.Error("the cause is lost")
	}
}
