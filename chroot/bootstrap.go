package chroot

import (
	"archive/tar"
	"context"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sync/errgroup"

	"dbuild/engine"
	"dbuild/internal/fault"
)

// bootstrap is one run of [Create] after the packages are chosen.
type bootstrap struct {
	Options
	container engine.Container
	set       *packageSet
	links     []tar.Header // of a merged /usr
	clock     *stopwatch
}

// run fills the container: while the late group is still being unpacked, the
// early one is configured, which keeps only one processor busy.
func (b *bootstrap) run(ctx context.Context) error {
	u := newUnpacker(b)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return u.run(gctx) })
	g.Go(func() error {
		if !u.queue.waitEarly() {
			return nil // the unpacker says why
		}
		b.clock.lap("unpack early group")
		err := b.install(gctx, true)
		b.clock.lap("configure early group")
		u.queue.unhold()
		return err
	})
	if err := g.Wait(); err != nil {
		return err
	}
	b.clock.lap("unpack rest")
	if len(b.set.group(false)) > 0 {
		if err := b.install(ctx, false); err != nil {
			return err
		}
	}
	b.clock.lap("configure rest")
	err := b.finish(ctx)
	b.clock.lap("finish")
	return err
}

// install brings one group of unpacked packages to the state "installed".
func (b *bootstrap) install(ctx context.Context, early bool) error {
	if err := b.writeDatabase(ctx, early); err != nil {
		return err
	}
	if err := b.runPreinst(ctx, early); err != nil {
		return err
	}
	return b.configure(ctx, early)
}

// writeDatabase writes the entries of one group in dpkg's database, what its
// preinst scripts need, and the directories that must not depend on the order
// of unpacking, all in one tar; with the early group also the files that
// belong to no package.
func (b *bootstrap) writeDatabase(ctx context.Context, early bool) error {
	members := b.set.group(early)
	sums, err := b.sums(ctx, members)
	if err != nil {
		return err
	}
	t := newTarball(b.Epoch)
	if err := b.addDirectories(t, early); err != nil {
		return err
	}
	if early {
		sources, err := b.sourcesList()
		if err != nil {
			return err
		}
		addSettings(t, sources)
		addApt(t, b.set, b.Arch)
		addAdminDir(t, b.Arch)
	}
	if err := addDatabase(t, members, sums, statusName(early)); err != nil {
		return err
	}
	if err := addTriggers(t, b.set.members, early); err != nil {
		return err
	}
	addPreinst(t, b.preinstOrder(early))
	buf, err := t.finish()
	if err != nil {
		return err
	}
	if _, err := b.container.PutFiles(ctx, buf, engine.PutOptions{}); err != nil {
		return engineFault(fmt.Errorf("write dpkg database: %w", err))
	}
	return nil
}

// sums returns the MD5 of the files that the database must know, by absolute
// path. The container computes them: the files are there, decompressed.
func (b *bootstrap) sums(ctx context.Context, members []*member) (map[string]string, error) {
	var paths []string
	for _, m := range members {
		need, err := m.needSums()
		if err != nil {
			return nil, err
		}
		paths = append(paths, need...)
	}
	sums := make(map[string]string, len(paths))
	if len(paths) == 0 {
		return sums, nil
	}
	out, err := b.script(ctx, "hash conffiles", "exec xargs -0 -r md5sum --", strings.NewReader(strings.Join(paths, "\x00")))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(out) {
		sum, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if !ok || len(sum) != 32 {
			return nil, fault.New(fault.Engine, "hash conffiles: md5sum printed %q", line)
		}
		sums[name] = sum
	}
	return sums, nil
}

// aptPartial are apt's download directories.
var aptPartial = [...]string{"var/lib/apt/lists/partial", "var/cache/apt/archives/partial"}

// addApt writes what apt keeps between runs.
func addApt(t *tarball, set *packageSet, arch string) {
	for _, d := range []string{"var/lib/apt", "var/lib/apt/lists", "var/cache/apt", "var/cache/apt/archives"} {
		t.dir(d, 0o755)
	}
	// They belong to the user _apt, whom a maintainer script has yet to make.
	for _, d := range aptPartial {
		t.dir(d, 0o700)
		t.file(path.Join(path.Dir(d), "lock"), 0o640, "")
	}
	var states strings.Builder
	for _, m := range set.members {
		if m.Auto {
			fmt.Fprintf(&states, "Package: %s\nArchitecture: %s\nAuto-Installed: 1\n\n", m.Name, arch)
		}
	}
	t.file("var/lib/apt/extended_states", 0o644, states.String())
}

// commit makes the image.
func (b *bootstrap) commit(ctx context.Context) (engine.Image, error) {
	if err := b.container.Quiesce(ctx); err != nil {
		return engine.Image{}, engineFault(fmt.Errorf("end scratch container: %w", err))
	}
	img, err := b.container.Commit(ctx, engine.Config{
		Tag:    "base:" + b.Suite.Name + "-" + b.Arch,
		Labels: b.Labels,
	})
	if err != nil {
		return engine.Image{}, engineFault(fmt.Errorf("store base image: %w", err))
	}
	return img, nil
}
