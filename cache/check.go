package cache

import (
	"context"
	"errors"
	"fmt"

	"dbuild/engine"
	"dbuild/internal/fault"
	"dbuild/internal/tree"
)

// Means says how the stored files of an image were compared with what was
// signed; it is the word in the result of a build.
type Means string

// The means, the weakest first.
const (
	MeansID     Means = "id"     // by the engine's image id; the files were hashed before
	MeansSeal   Means = "seal"   // by inode, size, mode, owner and change time of each file
	MeansRehash Means = "rehash" // every byte was hashed
)

// Check looks whether the stored files are those that were signed: by the seal
// if the engine has one, and by hashing everything on the first use after a
// boot, or after a process that used the image ended without closing it. It may
// run while a container starts from the image, but nothing that counts may run
// before it has returned nil. It returns the strongest means that it used. A
// difference is an error of class trust that also is [engine.ErrDamaged].
func (e *Entry) Check(ctx context.Context) (Means, error) {
	s := e.store
	means, err := e.checkSeal(ctx)
	if err != nil {
		return means, err
	}
	if s.memo.verified(ctx, e.Hash, s.o.BootID) {
		return means, nil
	}
	s.report.Note("%s image %.12s is hashed: it is its first use since the machine started, or a dbuild that used it was killed", e.Statement.Kind, e.Hash)
	return MeansRehash, e.rehash(ctx)
}

// Verify looks at the stored files by every means that there is.
func (e *Entry) Verify(ctx context.Context) error {
	if _, err := e.checkSeal(ctx); err != nil {
		return err
	}
	return e.rehash(ctx)
}

// checkSeal compares the stored files with the seal, if the engine has one.
func (e *Entry) checkSeal(ctx context.Context) (Means, error) {
	sealer, ok := e.store.eng.(engine.Sealer)
	if !ok {
		return MeansID, nil
	}
	seal, err := e.store.readSeal(e)
	if err == nil {
		err = sealer.CheckSeal(ctx, e.Image.ID, seal)
		if err != nil {
			err = e.damaged(err)
		}
	}
	return MeansSeal, err
}

// rehash reads every byte of the image again and compares the digest with the
// statement.
func (e *Entry) rehash(ctx context.Context) error {
	s := e.store
	if err := s.memo.forgetVerified(ctx, e.Hash); err != nil { // until it is known, whatever happens
		return err
	}
	digest, err := s.eng.Digest(ctx, e.Image.ID)
	if err != nil {
		return e.damaged(err)
	}
	if digest != e.Statement.Tree {
		return e.damaged(fmt.Errorf("%w: its tree is %s, signed was %s", engine.ErrDamaged, digest, e.Statement.Tree))
	}
	s.memo.setVerified(ctx, e.Hash, s.o.BootID)
	return nil
}

// damaged gives err the class trust if it is about damage.
func (e *Entry) damaged(err error) error {
	var d *tree.DamagedError
	err = fmt.Errorf("check %s image %.12s: %w", e.Statement.Kind, e.Hash, err)
	if !errors.Is(err, engine.ErrDamaged) && !errors.As(err, &d) && !errors.Is(err, tree.ErrOutside) {
		return err
	}
	if !errors.Is(err, engine.ErrDamaged) {
		err = fmt.Errorf("%w: %w", engine.ErrDamaged, err)
	}
	return fault.WithHint(fault.New(fault.Trust, "%w", err),
		"dbuild images remove -r %.12s drops it, and the next build makes it again", e.Hash)
}
