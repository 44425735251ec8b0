package session

import (
	"slices"
	"sync"

	"dbuild/engine"
	"dbuild/internal/fault"
)

// Order holds the calls on one container to the rules of [engine.Container]:
// what may come when. The zero value is a container in which nothing ran. Its
// methods are safe for concurrent use.
type Order struct {
	mu    sync.Mutex
	phase phase
}

type phase int

const (
	fresh   phase = iota // nothing ran
	running              // something ran or may run
	quiet                // Quiesce was the last thing
	ended                // Commit, Keep or Close
)

// Put says that files are put. Behind a step only a scratch container takes
// them.
func (o *Order) Put(scratch bool) error {
	if scratch {
		return o.enter(running, fresh, running, quiet)
	}
	return o.enter(fresh, fresh)
}

// Run says that a step begins.
func (o *Order) Run() error { return o.enter(running, fresh, running, quiet) }

// Quiet says that everything but the agent is about to be killed.
func (o *Order) Quiet() error { return o.enter(quiet, fresh, running, quiet) }

// NotQuiet takes [Order.Quiet] back.
func (o *Order) NotQuiet() { _ = o.enter(running, quiet) }

// Get says that files are taken; [engine.ErrNotQuiet].
func (o *Order) Get() error { return o.enter(quiet, quiet) }

// Commit says that the container becomes an image; [engine.ErrNotQuiet].
func (o *Order) Commit() error { return o.enter(ended, quiet) }

// Keep says that the container becomes a kept one.
func (o *Order) Keep() error { return o.enter(ended, fresh, running, quiet) }

// End says that nothing may follow.
func (o *Order) End() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.phase = ended
}

func (o *Order) enter(to phase, allowed ...phase) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if slices.Contains(allowed, o.phase) {
		o.phase = to
		return nil
	}
	switch {
	case o.phase == ended:
		return fault.New(fault.Internal, "the container has ended")
	case to == fresh:
		return fault.New(fault.Internal, "the container has run steps already")
	}
	return fault.Wrap(fault.Internal, engine.ErrNotQuiet)
}
