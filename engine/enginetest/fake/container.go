package fake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"dbuild/engine"
	"dbuild/internal/fault"
)

// container implements [engine.Container].
type container struct {
	engine  *Engine
	id      string
	spec    engine.Spec
	files   *Files
	trees   map[string]string
	created []string

	mu     sync.Mutex
	state  state
	closed bool
}

type state int

const (
	fresh state = iota
	running
	quiet
	ended
)

func (c *container) ID() string { return c.id }

func (c *container) enter(to state, allowed ...state) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case slices.Contains(allowed, c.state):
		c.state = to
		return nil
	case c.state == ended:
		return fault.New(fault.Internal, "container %q has ended", c.id)
	case to == fresh:
		return fault.New(fault.Internal, "container %q has run steps already", c.id)
	}
	return fault.Wrap(fault.Internal, fmt.Errorf("container %q: %w", c.id, engine.ErrNotQuiet))
}

// PutFiles unpacks a plain tar. A decoder must be one of the programs.
func (c *container) PutFiles(ctx context.Context, tar io.Reader, opts engine.PutOptions) ([]engine.PutEntry, error) {
	to, allowed := fresh, []state{fresh}
	if c.spec.Image == "" {
		to, allowed = running, []state{fresh, running, quiet}
	}
	if err := c.enter(to, allowed...); err != nil {
		return nil, fmt.Errorf("put files: %w", err)
	}
	if len(opts.Decoder) > 0 {
		plain, err := c.decode(ctx, tar, opts.Decoder)
		if err != nil {
			return nil, fmt.Errorf("put files: %w", err)
		}
		tar = plain
	}
	entries, err := c.files.unpack(ctx, tar, opts.Dir, opts)
	if err != nil {
		return nil, fmt.Errorf("put files: %w", err)
	}
	return entries, nil
}

func (c *container) decode(ctx context.Context, r io.Reader, argv []string) (io.Reader, error) {
	var plain strings.Builder
	program, err := c.engine.program(argv[0])
	if err != nil {
		return nil, err
	}
	p := c.process(engine.Step{Argv: argv, Stdin: r, Stdout: &plain})
	if code := program(ctx, p); code != 0 {
		return nil, fault.New(fault.Input, "decoder %q ended with status %d", argv[0], code)
	}
	return strings.NewReader(plain.String()), nil
}

func (c *container) process(step engine.Step) *Process {
	if step.Stdin == nil {
		step.Stdin = strings.NewReader("")
	}
	p := &Process{Step: step, Spec: c.spec, Files: c.files, Trees: maps.Clone(c.trees)}
	p.Out = discard(step.Stdout, io.Discard)
	p.Err = discard(step.Stderr, p.Out)
	return p
}

// Run calls the step's program.
func (c *container) Run(ctx context.Context, step engine.Step) (engine.Exit, error) {
	if err := c.enter(running, fresh, running, quiet); err != nil {
		return engine.Exit{Code: -1}, fmt.Errorf("run step: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return engine.Exit{Code: -1}, err
	}
	if len(step.Argv) == 0 {
		return engine.Exit{Code: -1}, fault.New(fault.Internal, "run step: no command")
	}
	program, err := c.engine.program(step.Argv[0])
	if err != nil {
		return engine.Exit{Code: -1}, fmt.Errorf("run step: %w", err)
	}
	inner, cancel := ctx, context.CancelFunc(func() {})
	if step.Timeout > 0 {
		inner, cancel = context.WithTimeout(ctx, step.Timeout)
	}
	defer cancel()
	code := program(inner, c.process(step))
	switch {
	case ctx.Err() != nil:
		return engine.Exit{Code: -1}, ctx.Err()
	case errors.Is(inner.Err(), context.DeadlineExceeded):
		return engine.Exit{Code: -1, Signal: 9, Reason: engine.ReasonTimeout}, nil
	}
	return engine.Exit{Code: code}, nil
}

// Quiesce has nothing to kill.
func (c *container) Quiesce(context.Context) error {
	return c.enter(quiet, fresh, running, quiet)
}

// GetFiles hands out regular files.
func (c *container) GetFiles(_ context.Context, dir string, names []string, lim engine.GetLimits, fn func(engine.GotFile, io.Reader) error) error {
	if err := c.enter(quiet, quiet); err != nil {
		return fmt.Errorf("get files: %w", err)
	}
	if err := c.files.get(dir, names, lim, fn); err != nil {
		return fmt.Errorf("get files: %w", err)
	}
	return nil
}

// Commit makes an image of the files.
func (c *container) Commit(_ context.Context, cfg engine.Config) (engine.Image, error) {
	if err := c.enter(ended, quiet); err != nil {
		return engine.Image{}, fmt.Errorf("commit container: %w", err)
	}
	c.files.dropReplaced(c.unwanted())
	return c.engine.add("", &image{Image: engine.Image{Parent: c.spec.Image, Config: cfg}, files: c.files}), nil
}

// Keep makes an image that is not listed.
func (c *container) Keep(context.Context) (engine.ImageID, error) {
	if err := c.enter(ended, fresh, running, quiet); err != nil {
		return "", fmt.Errorf("keep container: %w", err)
	}
	c.files.dropReplaced(c.unwanted())
	im := &image{Image: engine.Image{Parent: c.spec.Image}, files: c.files, kept: true}
	return c.engine.add(engine.ImageID(c.id), im).ID, nil
}

// Close lets go of the image.
func (c *container) Close(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed, c.state = true, ended
	c.engine.mu.Lock()
	defer c.engine.mu.Unlock()
	if c.spec.Image != "" {
		c.engine.using[c.spec.Image]--
	}
	return nil
}

// unwanted are the mount points that no image keeps: in a scratch container
// they belong to the root file system.
func (c *container) unwanted() []string {
	if c.spec.Image == "" {
		return nil
	}
	return c.created
}
