package native

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"dbuild/engine"
	"dbuild/engine/session"
	"dbuild/internal/fault"
)

// container implements [engine.Container].
type container struct {
	engine  *Engine
	id      string
	spec    engine.Spec
	scratch bool
	dir     string   // containers/ID; "" once it has become a layer
	lock    *os.File // holds dir
	image   *os.File // holds the image
	chain   []imageRecord
	cgroup  cgroup
	process *process
	session *session.Session
	created []string // mount points that the engine made, absolute

	order session.Order

	ending  sync.Mutex // held while the directory is removed or becomes a layer
	stopped bool
	closed  bool
}

var _ engine.Container = (*container)(nil)

// ID is the name of the container's directory.
func (c *container) ID() string { return c.id }

// PutFiles unpacks a tar inside the container.
func (c *container) PutFiles(ctx context.Context, tar io.Reader, opts engine.PutOptions) ([]engine.PutEntry, error) {
	if err := c.order.Put(c.scratch); err != nil {
		return nil, fmt.Errorf("put files: %w", err)
	}
	if len(opts.Decoder) > 0 && c.spec.Purpose != engine.PurposeDeps {
		return nil, fault.New(fault.Internal, "put files: a decoder is for purpose %q only", engine.PurposeDeps)
	}
	entries, err := c.session.PutFiles(ctx, tar, opts)
	if err != nil {
		return nil, fmt.Errorf("put files: %w", c.diagnose(err))
	}
	return entries, nil
}

// Run runs a step to its end.
func (c *container) Run(ctx context.Context, step engine.Step) (engine.Exit, error) {
	if err := c.order.Run(); err != nil {
		return engine.Exit{Code: -1}, fmt.Errorf("run step: %w", err)
	}
	before := c.cgroup.events()
	watched, stop := newDiskWatch(c.dir, c.spec.Limits.Disk.Value).watch(ctx)
	exit, err := c.session.Run(watched, step)
	if stop() && ctx.Err() == nil && (err == nil || errors.Is(context.Cause(watched), errDiskLimit)) {
		return diskExit, nil
	}
	if err != nil {
		if ctx.Err() != nil {
			return exit, ctx.Err()
		}
		if errors.Is(err, engine.ErrLost) && c.reason(before) == engine.ReasonOOM {
			return engine.Exit{Code: -1, Signal: int(unix.SIGKILL), Reason: engine.ReasonOOM}, nil
		}
		return exit, fmt.Errorf("run step: %w", c.diagnose(err))
	}
	if exit.Reason == engine.ReasonNone && !exit.OK() {
		exit.Reason = c.reason(before)
	}
	return exit, nil
}

// reason tells which limit, if any, was hit while a failed step ran.
func (c *container) reason(before events) engine.Reason {
	after := c.cgroup.events()
	switch {
	case after.oom > before.oom:
		return engine.ReasonOOM
	case after.pids > before.pids:
		return engine.ReasonPIDs
	case diskFull(c.dir):
		return engine.ReasonDisk
	}
	return engine.ReasonNone
}

// Quiesce kills and reaps every process but the agent.
func (c *container) Quiesce(ctx context.Context) error {
	if err := c.order.Quiet(); err != nil {
		return fmt.Errorf("quiesce: %w", err)
	}
	if err := c.session.Quiesce(ctx); err != nil {
		c.order.NotQuiet()
		return fmt.Errorf("quiesce: %w", c.diagnose(err))
	}
	return nil
}

// GetFiles hands out regular files.
func (c *container) GetFiles(ctx context.Context, dir string, names []string, lim engine.GetLimits, fn func(engine.GotFile, io.Reader) error) error {
	if err := c.order.Get(); err != nil {
		return fmt.Errorf("get files: %w", err)
	}
	if err := c.session.GetFiles(ctx, dir, names, lim, fn); err != nil {
		return fmt.Errorf("get files: %w", c.diagnose(err))
	}
	return nil
}

// diagnose adds what is known when the agent is gone.
func (c *container) diagnose(err error) error {
	if errors.Is(err, engine.ErrLost) {
		return c.withLastWords(err)
	}
	return err
}

// Close kills what runs and removes the container.
func (c *container) Close(context.Context) error {
	c.order.End()
	c.kill() // also ends a Commit that hangs
	c.ending.Lock()
	defer c.ending.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	err := c.stop()
	if c.dir != "" {
		err = errors.Join(err, removeTree(c.dir))
	}
	err = errors.Join(err, closeAll([]*os.File{c.lock, c.image}))
	c.engine.mu.Lock()
	delete(c.engine.open, c)
	c.engine.mu.Unlock()
	if err != nil {
		return fmt.Errorf("close container %q: %w", c.id, err)
	}
	return nil
}

func (c *container) kill() {
	if c.process != nil {
		c.process.kill()
	}
}

// stop ends all processes, once. When it returns, no mount of the container
// exists. The caller holds ending.
func (c *container) stop() error {
	if c.stopped {
		return nil
	}
	c.stopped = true
	c.kill()
	var err error
	if c.session != nil {
		err = ignoreClosed(c.session.Close()) // closes the process's connection, too
	}
	if c.process != nil {
		err = errors.Join(err, c.process.close())
	}
	return errors.Join(err, c.cgroup.remove())
}

func ignoreClosed(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}
