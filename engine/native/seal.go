package native

import (
	"context"
	"errors"
	"fmt"

	"dbuild/engine"
	"dbuild/internal/fault"
	"dbuild/internal/tree"
)

// Seal returns digest and seal of an image: the seals of all its layers, of
// which only the own one is made anew when parentSeal is given.
func (e *Engine) Seal(ctx context.Context, id engine.ImageID, parentSeal []byte) (digest tree.Digest, seal []byte, err error) {
	err = e.withImage(id, func(chain []imageRecord) error {
		var stack tree.Stack
		if parentSeal != nil {
			if stack, err = parseSeal(parentSeal, len(chain)-1); err != nil {
				return err
			}
		}
		layers := e.layers(chain)
		for _, dir := range layers.Dirs[len(stack):] {
			_, s, err := tree.Read(ctx, dir, layers.Map, workers())
			if err != nil {
				return err
			}
			stack = append(stack, s)
		}
		digest, seal = stack.Manifest().Digest(), stack.Marshal()
		return nil
	})
	if err != nil {
		return "", nil, fmt.Errorf("seal image %q: %w", id, err)
	}
	return digest, seal, nil
}

// CheckSeal compares the stored files of all layers with the seal.
func (e *Engine) CheckSeal(ctx context.Context, id engine.ImageID, seal []byte) error {
	err := e.withImage(id, func(chain []imageRecord) error {
		stack, err := parseSeal(seal, len(chain))
		if err != nil {
			return err
		}
		layers := e.layers(chain)
		for i, dir := range layers.Dirs {
			if _, err := stack[i].Check(ctx, dir, layers.Map, workers()); err != nil {
				return damaged(err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("check image %q: %w", id, err)
	}
	return nil
}

func parseSeal(b []byte, layers int) (tree.Stack, error) {
	stack, err := tree.UnmarshalStack(b)
	if err != nil {
		return nil, fault.Wrap(fault.Trust, fmt.Errorf("%w: %w", engine.ErrDamaged, err))
	}
	if len(stack) != layers {
		return nil, fault.New(fault.Trust, "%w: seal of %d layers for %d", engine.ErrDamaged, len(stack), layers)
	}
	return stack, nil
}

// damaged makes an error of package tree one of the contract.
func damaged(err error) error {
	var d *tree.DamagedError
	if errors.As(err, &d) {
		return fault.Wrap(fault.Trust, fmt.Errorf("%w: %w", engine.ErrDamaged, err))
	}
	return err
}
