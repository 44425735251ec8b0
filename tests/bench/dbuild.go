package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

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
	out, err := l.fresh("dbuild-out")
	if err != nil {
		return job{}, err
	}
	events := &bytes.Buffer{}
	argv := l.dbuildArgv("build", state, "--json", "-o", out, l.dsc[pkg])
	return job{
		commands: []command{{argv: argv, dir: out, stdout: events}},
		done: func(_ context.Context, s *sample) error {
			if err := wantFile(out, "*.changes"); err != nil {
				return err
			}
			var err error
			if s.stages, err = stagesOf(events.Bytes()); err != nil {
				return err
			}
			return done()
		},
	}, nil
}

// stagesOf reads the seconds of the stages from the last event.
func stagesOf(events []byte) (map[string]float64, error) {
	lines := bytes.Split(bytes.TrimSpace(events), []byte("\n"))
	var result struct {
		Event  string             `json:"event"`
		Stages map[string]float64 `json:"stages"`
	}
	if err := json.Unmarshal(lines[len(lines)-1], &result); err != nil {
		return nil, fmt.Errorf("read result event: %w", err)
	}
	if result.Event != "result" || len(result.Stages) == 0 {
		return nil, fmt.Errorf("last event is %q with %d stages", result.Event, len(result.Stages))
	}
	return result.Stages, nil
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
