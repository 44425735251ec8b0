package native

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"slices"

	"dbuild/agent/wire"
	"dbuild/engine"
	"dbuild/internal/tree"
)

// Import stores a canonical tar as an image. It is unpacked inside a user
// namespace like everything else, into a container with nothing mounted.
func (e *Engine) Import(ctx context.Context, tar io.Reader, cfg engine.Config) (_ engine.Image, err error) {
	spec := engine.Spec{Purpose: engine.PurposeDeps, Network: engine.NetworkNone}
	c, err := e.create(ctx, spec, wire.RootBare)
	if err != nil {
		return engine.Image{}, fmt.Errorf("import image: %w", err)
	}
	defer func() { err = errors.Join(err, c.Close(ctx)) }()
	if _, err := c.PutFiles(ctx, tar, engine.PutOptions{}); err != nil {
		return engine.Image{}, fmt.Errorf("import image: %w", err)
	}
	if err := c.Quiesce(ctx); err != nil {
		return engine.Image{}, fmt.Errorf("import image: %w", err)
	}
	return c.Commit(ctx, cfg)
}

// layers describes the directories of a chain to package tree, lowest first.
func (e *Engine) layers(chain []imageRecord) tree.Layers {
	l := tree.Layers{Map: e.store.idMap()}
	for _, r := range slices.Backward(chain) {
		l.Dirs = append(l.Dirs, e.layerRoot(r.ID))
	}
	return l
}

func (e *Engine) layerRoot(id engine.ImageID) string { return filepath.Join(e.layerDir(id), "root") }

// withImage calls fn with the image's chain while the image is held.
func (e *Engine) withImage(id engine.ImageID, fn func(chain []imageRecord) error) error {
	used, err := e.use(id)
	if err != nil {
		return err
	}
	chain, err := e.chain(id)
	if err == nil {
		err = fn(chain)
	}
	return errors.Join(err, used.Close())
}

// Export writes the image's merged tree as canonical tar.
func (e *Engine) Export(ctx context.Context, id engine.ImageID, w io.Writer) error {
	err := e.withImage(id, func(chain []imageRecord) error {
		layers := e.layers(chain)
		var merged tree.Manifest
		for _, dir := range layers.Dirs {
			m, err := tree.List(ctx, dir, layers.Map, workers())
			if err != nil {
				return err
			}
			merged = tree.Merge(merged, m)
		}
		_, err := tree.WriteTar(ctx, w, merged, layers, tree.TarOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("export image %q: %w", id, err)
	}
	return nil
}

// Digest reads every byte of the image's merged tree.
func (e *Engine) Digest(ctx context.Context, id engine.ImageID) (tree.Digest, error) {
	var digest tree.Digest
	err := e.withImage(id, func(chain []imageRecord) error {
		layers := e.layers(chain)
		var merged tree.Manifest
		for _, dir := range layers.Dirs {
			m, _, err := tree.Read(ctx, dir, layers.Map, workers())
			if err != nil {
				return err
			}
			merged = tree.Merge(merged, m)
		}
		digest = merged.Digest()
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("digest image %q: %w", id, err)
	}
	return digest, nil
}

func workers() int { return runtime.GOMAXPROCS(0) }
