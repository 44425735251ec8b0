package native

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"dbuild/engine"
	"dbuild/internal/fault"
)

// Tree records a host directory; containers get it bound read-only. Files keep
// their host owners, which containers see as nobody, so they must be readable
// by everyone.
func (e *Engine) Tree(_ context.Context, name, dir string) (engine.TreeID, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("register tree %q: %w", name, err)
	}
	st, err := os.Stat(abs)
	if err != nil {
		return "", fmt.Errorf("register tree %q: %w", name, err)
	}
	if !st.IsDir() {
		return "", fault.New(fault.Internal, "register tree %q: %q is not a directory", name, abs)
	}
	id := engine.TreeID(name + ":" + abs)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.trees[id] = abs
	return id, nil
}

func (e *Engine) treeDir(id engine.TreeID) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	dir, ok := e.trees[id]
	if !ok {
		return "", fmt.Errorf("tree %q: %w", id, engine.ErrNotFound)
	}
	return dir, nil
}
