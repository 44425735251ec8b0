package buildenv

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sync/errgroup"

	"dbuild/archive"
	"dbuild/cache"
	"dbuild/deb"
	"dbuild/engine"
	"dbuild/internal/fault"
)

// ancestor returns the cached image that leaves least to install, opened, or
// nil if that is the base itself. Why says what kept a nearer one from being
// used. A package is upgraded in place only if its old and its new version have
// neither conffiles nor maintainer scripts: then the result cannot differ from a
// fresh installation. The caller closes the entry.
func (b *build) ancestor(ctx context.Context) (found *cache.Ancestor, e *cache.Entry, why string, err error) {
	archives := newStatement(b.suite, nil, b.req.Arch, b.sources(), nil, "").Archive
	why = "no image with build dependencies holds a part of the wanted set and nothing else"
	fromBase := len(added(b.baseSet, b.set))
	for a, err := range b.Cache.Ancestors(ctx, b.policy, b.set, archives) {
		if err != nil {
			return nil, nil, "", err
		}
		if len(a.Missing) >= fromBase {
			break // the base is as near, and has no history
		}
		reason, err := b.hindrance(ctx, &a)
		if err != nil {
			return nil, nil, "", err
		}
		if reason == "" {
			if e, err = b.openAncestor(ctx, a.Hash); e != nil || err != nil {
				return &a, e, "", err
			}
			reason = fmt.Sprintf("image %.12s cannot be used", a.Hash)
		}
		why = reason
	}
	return nil, nil, why, nil
}

// openAncestor opens and checks an image; nil if the engine lost it or its
// files are not what was signed, which is said aloud.
func (b *build) openAncestor(ctx context.Context, hash string) (*cache.Entry, error) {
	e, err := b.Cache.Entry(ctx, hash)
	if err == nil {
		if err = b.checkImage(true, lazyCheck(ctx, e)); err == nil {
			return e, nil
		}
		err = errors.Join(err, e.Close())
	}
	if errors.Is(err, cache.ErrNotFound) || errors.Is(err, engine.ErrNotFound) || fault.ClassOf(err) == fault.Trust {
		b.Observer.Warn("%v", err)
		return nil, nil
	}
	return nil, err
}

// hindrance says why the wanted image must not be made on a; "" if it may.
func (b *build) hindrance(ctx context.Context, a *cache.Ancestor) (string, error) {
	for _, p := range a.Missing {
		if _, ok := b.resolver.file(p); !ok {
			return fmt.Sprintf("%s %s is no longer in the archive", p.Name, p.Version), nil
		}
	}
	for _, r := range a.Replaced {
		if f, _ := b.resolver.file(r.New); f.SHA256 != "" {
			if err := b.fetch(ctx, []archive.File{f}); err != nil {
				return "", err
			}
		}
		for _, p := range []cache.Package{r.Old, r.New} {
			member, err := controlMember(b.Archive.Path(p.SHA256), p.SHA256)
			if errors.Is(err, os.ErrNotExist) {
				return fmt.Sprintf("%s %s is no longer in the download cache, so its maintainer scripts are not known", p.Name, p.Version), nil
			}
			if err != nil {
				return "", fmt.Errorf("look for maintainer scripts of %s %s: %w", p.Name, p.Version, err)
			}
			if member != "" {
				return fmt.Sprintf("%s %s cannot be upgraded in place to %s: %s has a %s", r.Old.Name, r.Old.Version, r.New.Version, p.Version, member), nil
			}
		}
	}
	return "", nil
}

// controlMember returns which conffiles or maintainer script a .deb has; "" if
// none. The file must have the given SHA-256.
func controlMember(path, sum string) (member string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := sha256.New()
	size, err := io.Copy(h, f)
	if err != nil {
		return "", err
	}
	if hex.EncodeToString(h.Sum(nil)) != sum {
		return "", fault.New(fault.Trust, "%q does not have the SHA-256 %s", path, sum)
	}
	bin, err := deb.OpenDeb(f, size)
	if err != nil {
		return "", fault.Wrap(fault.Input, err)
	}
	for _, name := range []string{"conffiles", "preinst", "postinst", "prerm", "postrm", "config"} {
		if _, ok := bin.ControlFiles[name]; ok {
			return name, nil
		}
	}
	return "", nil
}

// stepOn makes the wanted image on a: packages are added, some replaced by
// newer ones, nothing is removed.
func (b *build) stepOn(ctx context.Context, a *cache.Ancestor, e *cache.Entry, cfg engine.Config) (engine.Image, error) {
	files := make([]archive.File, 0, len(a.Missing))
	for _, p := range a.Missing {
		f, _ := b.resolver.file(p)
		files = append(files, f)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return b.fetch(gctx, files) })
	g.Go(func() error { return b.resolver.move(gctx, b.spec(e.Image.ID, engine.PurposeDeps), b.wanted) })
	if err := g.Wait(); err != nil {
		return engine.Image{}, err
	}
	command := []string{"--no-remove", "install"}
	for _, p := range a.Missing {
		name := p.Name
		if p.Arch != "all" {
			name += ":" + p.Arch
		}
		command = append(command, name+"="+p.Version)
	}
	return b.resolver.install(ctx, files, command, b.set, cfg)
}

// changesOn describes for the result what a step on a changes.
func changesOn(a *cache.Ancestor) []DepsChange {
	changes := make([]DepsChange, 0, len(a.Missing))
	for _, p := range a.Missing {
		c := DepsChange{Name: p.Name, Arch: p.Arch, Version: p.Version, Why: "the nearest image does not have it"}
		if i := slices.IndexFunc(a.Replaced, func(r cache.Replacement) bool { return r.New == p }); i >= 0 {
			c.Replaces, c.Why = a.Replaced[i].Old.Version, "the archive has a newer version"
		}
		changes = append(changes, c)
	}
	return changes
}
