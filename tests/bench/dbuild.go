package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"dbuild/deb"
)

// dbuildArgv is a dbuild command line; the engine is always given.
func (l *lab) dbuildArgv(verb, state string, args ...string) []string {
	argv := []string{l.dbuild, verb, "--engine", "native", "--state", state, "-d", l.suite}
	if l.expired {
		argv = append(argv, "--allow-expired")
	}
	return append(argv, args...)
}

// buildJob builds a package and takes the stages from the result event.
func (l *lab) buildJob(state, pkg string, done func() error) (job, error) {
	j, events, err := l.eventsJob(state, pkg)
	if err != nil {
		return j, err
	}
	check := j.done
	j.done = func(ctx context.Context, s *sample) error {
		if err := check(ctx, s); err != nil {
			return err
		}
		o, err := outcomeOf(events.Bytes())
		if err != nil {
			return err
		}
		s.stages = o.Stages
		return done()
	}
	return j, nil
}

// outcome is what the events of a build tell.
type outcome struct {
	Event   string
	Stages  map[string]float64
	Timings map[string]float64
	Reused  string
	Base    struct{ Hit bool }
	Deps    struct {
		Match                 string
		Installed, Downloaded int
	}
	building time.Time // start of the stage build
}

// outcomeOf reads the last event, and when the stage build began.
func outcomeOf(events []byte) (*outcome, error) {
	o := &outcome{}
	lines := bytes.Split(bytes.TrimSpace(events), []byte("\n"))
	if err := json.Unmarshal(lines[len(lines)-1], o); err != nil {
		return nil, fmt.Errorf("read result event: %w", err)
	}
	if o.Event != "result" || len(o.Stages) == 0 {
		return nil, fmt.Errorf("last event is %q with %d stages", o.Event, len(o.Stages))
	}
	for _, line := range lines[:len(lines)-1] {
		var e struct {
			Event, Stage string
			Time         time.Time
		}
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("read event: %w", err)
		}
		if e.Event == "stage-start" && e.Stage == "build" {
			o.building = e.Time
		}
	}
	return o, nil
}

// partJob builds a package and measures a part of that, in seconds, with what
// the events tell.
func (l *lab) partJob(state, pkg string, part func(*outcome) (float64, error), args ...string) (job, error) {
	j, events, err := l.eventsJob(state, pkg, args...)
	if err != nil {
		return j, err
	}
	j.done = func(_ context.Context, s *sample) error {
		o, err := outcomeOf(events.Bytes())
		if err != nil {
			return err
		}
		if o.Base.Hit && !o.building.IsZero() {
			o.Timings["start"] = o.building.Sub(s.start).Seconds()
		}
		wall, err := part(o)
		s.wall, s.cpu, s.peak, s.own = time.Duration(wall*float64(time.Second)), 0, 0, 0
		s.stages = o.Stages
		return err
	}
	return j, nil
}

// eventsJob builds a package; events keeps what it prints.
func (l *lab) eventsJob(state, pkg string, args ...string) (j job, events *bytes.Buffer, err error) {
	out, err := l.fresh("dbuild-out")
	if err != nil {
		return j, nil, err
	}
	events = &bytes.Buffer{}
	argv := l.dbuildArgv("build", state, append(args, "--json", "-o", out, l.dsc[pkg])...)
	j.commands = []command{{argv: argv, dir: out, stdout: events}}
	j.done = func(context.Context, *sample) error { return wantFile(out, "*.changes") }
	return j, events, nil
}

// buildOnce builds a package, which fills the state.
func (l *lab) buildOnce(ctx context.Context, state, pkg string) error {
	out, err := l.fresh("dbuild-out")
	if err != nil {
		return err
	}
	return l.tool(ctx, out, l.dbuildArgv("build", state, "-o", out, l.dsc[pkg])...)
}

// dbuildWarm builds with base and build dependencies cached.
func (l *lab) dbuildWarm(pkg string) contender { return l.dbuildEngine(pkg, "native") }

// dbuildEngine is dbuildWarm with an engine. What the daemon keeps of Docker's
// lies where it keeps it, usually on a disk.
func (l *lab) dbuildEngine(pkg, engine string) contender {
	state, name := l.path("dbuild-state"), "dbuild"
	if engine != "native" {
		name += " " + engine
	}
	withEngine := func(argv []string) []string {
		argv[slices.Index(argv, "native")] = engine
		return argv
	}
	return contender{
		name: name,
		prepare: func(ctx context.Context) error {
			out, err := l.fresh("dbuild-out")
			if err != nil {
				return err
			}
			if engine != "native" { // its images are not in the state
				l.undo = append(l.undo, func() error {
					ctx := context.WithoutCancel(ctx)
					return l.tool(ctx, l.dir, l.dbuild, "images", "remove", "--engine", engine, "--state", state, "--recursive", "base:"+l.suite+"-"+deb.HostArch())
				})
			}
			return l.tool(ctx, out, withEngine(l.dbuildArgv("build", state, "-o", out, l.dsc[pkg]))...)
		},
		job: func(context.Context) (job, error) {
			j, err := l.buildJob(state, pkg, func() error { return nil })
			if err == nil {
				j.commands[0].argv = withEngine(j.commands[0].argv)
			}
			return j, err
		},
	}
}

// dbuildCreate makes a base image from nothing: stored, digested, signed, and
// written as canonical tar as well.
func (l *lab) dbuildCreate() contender {
	return contender{
		name: "dbuild",
		job: func(context.Context) (job, error) {
			dir, err := l.fresh("dbuild-create")
			if err != nil {
				return job{}, err
			}
			argv := l.dbuildArgv("create", filepath.Join(dir, "state"), "--output-tar", filepath.Join(dir, "base.tar"))
			return job{
				commands: []command{{argv: argv}},
				done:     func(context.Context, *sample) error { return removeResult(dir, "base.tar") },
			}, nil
		},
	}
}

// dbuildNothing builds the tiny package with nothing there.
func (l *lab) dbuildNothing() contender {
	return contender{
		name: "dbuild",
		job: func(context.Context) (job, error) {
			dir, err := l.fresh("dbuild-nothing")
			if err != nil {
				return job{}, err
			}
			return l.buildJob(filepath.Join(dir, "state"), packages[0], func() error { return os.RemoveAll(dir) })
		},
	}
}
