package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"

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
	extra   []mount.Mount // beside those that spec asks for
	docker  string        // docker's id; "" until it exists
	image   imageRecord
	empty   string // docker's id of a scratch container's own image
	stream  *stream
	session *session.Session
	order   session.Order

	mu     sync.Mutex
	points map[string]point // of a scratch container: directories that mounts cover

	closing sync.Mutex
	closed  bool
}

var _ engine.Container = (*container)(nil)

// ID is part of the container's name.
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
	if c.scratch && (opts.Dir == "" || opts.Dir == "/") {
		c.notePoints(entries)
	}
	return entries, nil
}

// notePoints remembers what the directories below the mounts should be like.
func (c *container) notePoints(entries []engine.PutEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range entries {
		if _, ok := mountPoints[e.Name]; ok {
			if c.points == nil {
				c.points = map[string]point{}
			}
			c.points[e.Name] = point{e.Mode, e.UID, e.GID}
		}
	}
}

// Run runs a step to its end.
func (c *container) Run(ctx context.Context, step engine.Step) (engine.Exit, error) {
	if err := c.order.Run(); err != nil {
		return engine.Exit{Code: -1}, fmt.Errorf("run step: %w", err)
	}
	exit, err := c.session.Run(ctx, step)
	if err != nil {
		if ctx.Err() != nil {
			return exit, ctx.Err()
		}
		return exit, fmt.Errorf("run step: %w", c.diagnose(err))
	}
	return exit, nil
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

// diagnose adds what the agent said when it is gone.
func (c *container) diagnose(err error) error {
	if !errors.Is(err, engine.ErrLost) {
		return err
	}
	if words := c.stream.lastWords(); words != "" {
		return fmt.Errorf("%w: %s", err, words)
	}
	return err
}

// goneWithin bounds how long Close waits for the daemon.
const goneWithin = 2 * time.Minute

// Close kills what runs and removes the container.
func (c *container) Close(ctx context.Context) error {
	c.order.End()
	c.closing.Lock()
	defer c.closing.Unlock()
	if c.closed {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goneWithin)
	defer cancel()
	var err error
	if c.docker != "" {
		err = c.engine.removeContainer(ctx, c.docker)
	}
	if c.session != nil {
		err = errors.Join(err, ignoreClosed(c.session.Close()))
	}
	if c.empty != "" && err == nil {
		err = c.engine.discard(ctx, c.empty)
	}
	if err != nil {
		return fmt.Errorf("close container %q: %w", c.id, err)
	}
	c.closed = true
	c.engine.mu.Lock()
	defer c.engine.mu.Unlock()
	delete(c.engine.open, c)
	return nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// removeContainer removes a container and waits until it is gone, whoever
// removes it: the daemon does too when the agent has ended.
func (e *Engine) removeContainer(ctx context.Context, docker string) error {
	_, err := e.api.ContainerRemove(ctx, docker, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	for wait := 5 * time.Millisecond; errdefs.IsConflict(err); wait = min(2*wait, time.Second) {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
		if _, err = e.api.ContainerInspect(ctx, docker, client.ContainerInspectOptions{}); err == nil {
			_, err = e.api.ContainerRemove(ctx, docker, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
		}
	}
	if err == nil || errdefs.IsNotFound(err) {
		return nil
	}
	return classify(err)
}

// discard removes an image of docker's that has no record.
func (e *Engine) discard(ctx context.Context, docker string) error {
	err := e.deleteImage(ctx, docker)
	if err == nil || errdefs.IsNotFound(err) {
		return nil
	}
	return classify(err)
}

// deleteImage deletes an image, whatever names people have given it besides.
func (e *Engine) deleteImage(ctx context.Context, docker string) error {
	_, err := e.api.ImageRemove(ctx, docker, client.ImageRemoveOptions{})
	if !errdefs.IsConflict(err) {
		return err
	}
	im, inspected := e.api.ImageInspect(ctx, docker)
	if inspected != nil || len(im.RepoTags) < 2 {
		return err
	}
	for _, name := range im.RepoTags[1:] {
		if _, err := e.api.ImageRemove(ctx, name, client.ImageRemoveOptions{}); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	_, err = e.api.ImageRemove(ctx, docker, client.ImageRemoveOptions{})
	return err
}
