package docker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moby/moby/client"

	"dbuild/engine"
)

// Reap removes containers and volumes, and images that never got a record, of this state
// whose owner is dead, and records whose image docker has lost.
func (e *Engine) Reap(ctx context.Context) (n int, err error) {
	dead := map[string]bool{}
	isDead := func(owner string) (bool, error) {
		if d, ok := dead[owner]; ok {
			return d, nil
		}
		d, err := e.dead(owner)
		dead[owner] = d
		return d, err
	}
	n, err = e.reapContainers(ctx, isDead)
	if err != nil {
		return n, fmt.Errorf("reap containers: %w", err)
	}
	m, err := e.reapImages(ctx, isDead)
	if err != nil {
		return n + m, fmt.Errorf("reap images: %w", err)
	}
	v, err := e.reapVolumes(ctx, isDead)
	m += v
	if err != nil {
		return n + m, fmt.Errorf("reap volumes: %w", err)
	}
	if err := e.reapPrograms(isDead); err != nil {
		return n + m, fmt.Errorf("reap programs: %w", err)
	}
	entries, err := os.ReadDir(filepath.Join(e.dir, "owners"))
	for _, entry := range entries {
		_, e := isDead(entry.Name())
		err = errors.Join(err, e)
	}
	return n + m, err
}

// reapPrograms forgets the names of the agent's program that dead processes
// used.
func (e *Engine) reapPrograms(dead func(string) (bool, error)) error {
	entries, err := os.ReadDir(filepath.Join(e.dir, "programs"))
	for _, entry := range entries {
		gone, e2 := dead(entry.Name())
		if e2 == nil && gone {
			e2 = os.Remove(filepath.Join(e.dir, "programs", entry.Name()))
		}
		if !errors.Is(e2, fs.ErrNotExist) {
			err = errors.Join(err, e2)
		}
	}
	return err
}

func (e *Engine) reapContainers(ctx context.Context, dead func(string) (bool, error)) (n int, err error) {
	list, err := e.api.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: e.ours()})
	if err != nil {
		return 0, classify(err)
	}
	for _, c := range list.Items {
		gone, err := dead(c.Labels[labelOwner])
		if err != nil {
			return n, err
		}
		if !gone {
			continue
		}
		if err := e.removeContainer(ctx, c.ID); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func (e *Engine) reapImages(ctx context.Context, dead func(string) (bool, error)) (n int, err error) {
	present, err := e.present(ctx)
	if err != nil {
		return 0, err
	}
	// Read after the list: what is in neither then was made in between.
	all, err := e.records()
	if err != nil {
		return 0, err
	}
	recorded := map[string]bool{}
	for _, r := range all {
		recorded[r.Docker] = true
		if _, ok := present[r.Docker]; ok {
			continue
		}
		if _, err := e.Image(ctx, r.ID); errors.Is(err, engine.ErrNotFound) {
			if err := e.removeRecord(r.ID); err != nil {
				return n, err
			}
		}
	}
	for image, owner := range present {
		if recorded[image] || e.hasRecord(image) {
			continue
		}
		gone, err := dead(owner)
		if err != nil {
			return n, err
		}
		if !gone {
			continue
		}
		if err := e.discard(ctx, image); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
