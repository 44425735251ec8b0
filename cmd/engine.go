package cmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"dbuild/doctor"
	"dbuild/engine/docker"
	"dbuild/internal/atomicfile"
	"dbuild/internal/fault"
	"dbuild/internal/lock"
	"dbuild/internal/report"
	"dbuild/internal/state"
	"dbuild/internal/userns"
)

// auto is the engine that a state decides on once.
const auto = "auto"

// choiceFile is where a state keeps what auto means for it.
const choiceFile = "engine"

// chooseEngine returns the engine of a run. What auto means is decided by the
// first run of a state that asks for it, said and written down; afterwards only
// a person changes it.
func (a *app) chooseEngine(ctx context.Context, name string, s *state.State, r report.Reporter) (string, error) {
	if name != auto {
		return name, nil
	}
	l, err := lock.Acquire(ctx, s.Path("locks", "engine"), lock.Exclusive, nil)
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Unlock() }()
	name, err = recordedChoice(s.Dir)
	if err != nil || name != "" {
		return name, err
	}
	name, why := a.decideEngine(ctx, s.Dir)
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if err := atomicfile.Write(s.Path(choiceFile), []byte(name+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("record the engine: %w", err)
	}
	r.Warn("engine auto: %s from now on for %s, since %s", name, s.Dir, why)
	return name, nil
}

// recordedChoice reads what auto means for a state; "" if that is open.
func recordedChoice(dir string) (string, error) {
	path := filepath.Join(dir, choiceFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	switch name := strings.TrimSpace(string(b)); name {
	case doctor.Native, doctor.Docker:
		return name, nil
	}
	return "", fault.WithHint(fault.New(fault.Engine, "read what --engine auto means: %q names no engine", path), "rm %s", path)
}

// decideEngine finds out what auto should mean: Docker if a daemon answers and
// lacks nothing, else native.
func (a *app) decideEngine(ctx context.Context, dir string) (name, why string) {
	if images, err := filepath.Glob(filepath.Join(dir, "images", "records", "*.json")); err == nil && len(images) > 0 {
		return doctor.Native, "its images are there"
	}
	if _, inside := userns.Inside(); inside { // decided so before it was entered
		return doctor.Native, "no docker daemon can be used"
	}
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	d, err := docker.Look(ctx, docker.Host(a.getenv))
	switch {
	case err != nil:
		return doctor.Native, "no docker daemon can be used"
	case d.Lacks != "":
		return doctor.Native, fmt.Sprintf("the docker daemon at %s %s", d.Host, d.Lacks)
	}
	return doctor.Docker, fmt.Sprintf("version %s answers at %s", d.Version, d.Host)
}
