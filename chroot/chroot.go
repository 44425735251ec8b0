package chroot

import (
	"context"
	"fmt"
	"time"

	"dbuild/archive"
	"dbuild/engine"
	"dbuild/internal/cleanup"
	"dbuild/internal/report"
)

// Options say what to bootstrap. Suite, States, Copy, Engine and Arch are
// required.
type Options struct {
	Suite  archive.Suite
	States []*archive.State // as [archive.Copy.Update] returned them
	Copy   *archive.Copy
	Engine engine.Engine
	Arch   string // Debian architecture; it must be one that the engine can run

	// Epoch becomes SOURCE_DATE_EPOCH for maintainer scripts, and no file of
	// the result is younger. Zero: the newest Date of the states.
	Epoch time.Time

	Builder User              // zero: what [DefaultBuilder] returns
	Labels  map[string]string // kept with the image
	Report  report.Reporter   // nil: [report.Discard]
	Workers int               // packages unpacked at a time; 0: one per processor, at most 4
}

// Package is one package of a base.
type Package struct {
	Name, Version, Arch string
	SHA256              string // of the .deb
	Auto                bool   // marked as automatically installed for apt
}

// Result is a new base image.
type Result struct {
	Image    engine.Image
	Packages []Package // sorted by name
	Timings  []Timing  // where the time went, in order
}

// Timing is the wall time of one step of [Create].
type Timing struct {
	Step    string
	Seconds float64
}

// Create bootstraps a base image. It uses the network only through
// o.Copy, and leaves nothing in the engine when it fails.
//
// Missing or conflicting packages are [dbuild/internal/fault.DepWait]; a package
// that is not what its index says is Trust, one that cannot be read Input;
// a maintainer script that fails is a [ScriptError] of class Engine.
func Create(ctx context.Context, o Options) (res Result, err error) {
	o = o.withDefaults()
	clock := newStopwatch()
	set, err := resolve(ctx, o)
	if err != nil {
		return Result{}, err
	}
	clock.lap("resolve")

	c, err := o.Engine.Create(ctx, engine.Spec{
		Purpose:  engine.PurposeDeps,
		Network:  engine.NetworkNone,
		Hostname: "dbuild",
		Arch:     o.Arch,
		Labels:   o.Labels,
	})
	if err != nil {
		return Result{}, engineFault(fmt.Errorf("create scratch container: %w", err))
	}
	defer cleanup.Do(ctx, &err, c.Close)
	clock.lap("container")

	b := &bootstrap{Options: o, container: c, set: set, clock: clock}
	if err := b.run(ctx); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err() // and not what its end did to one of the workers
		}
		return Result{}, fmt.Errorf("bootstrap %s %s: %w", o.Suite.Name, o.Arch, err)
	}
	img, err := b.commit(ctx)
	if err != nil {
		return Result{}, err
	}
	clock.lap("commit")
	return Result{Image: img, Packages: set.list(), Timings: clock.laps}, nil
}

func (o Options) withDefaults() Options {
	if o.Report == nil {
		o.Report = report.Discard
	}
	if o.Epoch.IsZero() {
		for _, st := range o.States {
			if st.Date.After(o.Epoch) {
				o.Epoch = st.Date
			}
		}
	}
	if o.Builder == (User{}) {
		o.Builder = DefaultBuilder()
	}
	if o.Workers <= 0 {
		o.Workers = defaultWorkers()
	}
	return o
}

// stopwatch records how long consecutive steps took.
type stopwatch struct {
	last time.Time
	laps []Timing
}

func newStopwatch() *stopwatch { return &stopwatch{last: time.Now()} }

func (s *stopwatch) lap(step string) {
	now := time.Now()
	s.laps = append(s.laps, Timing{step, now.Sub(s.last).Seconds()})
	s.last = now
}
