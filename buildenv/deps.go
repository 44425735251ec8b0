package buildenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"dbuild/archive"
	"dbuild/cache"
	"dbuild/engine"
	"dbuild/internal/fault"
)

// findDeps finds the image that holds the resolved set, or makes it: one
// process makes it, others wait for it.
func (b *build) findDeps(ctx context.Context) error {
	b.log.Section("Install package build dependencies", b.Now())
	b.res.Deps.Packages = len(added(b.baseSet, b.set))
	if b.deps == nil {
		if err := b.makeDeps(ctx); err != nil {
			return err
		}
	} else {
		b.res.Deps.Hit, b.res.Deps.Match = true, MatchHit
	}
	b.atEnd(func(ctx context.Context) error {
		b.used(ctx, b.base)
		b.used(ctx, b.deps)
		return b.deps.Close()
	})
	if b.depsCheck == nil {
		b.depsCheck = lazyCheck(ctx, b.deps)
	}
	if b.resolver != nil {
		if err := b.resolver.close(ctx); err != nil {
			return err
		}
	}
	if err := b.question.Unlock(); err != nil {
		return err
	}
	b.res.Deps.Digest = string(b.deps.Statement.Tree)
	b.extra.takenIn(&b.deps.Statement)
	b.tellExtras()
	b.tellDeps()
	return nil
}

// tellDeps writes what came of the stage to log and screen.
func (b *build) tellDeps() {
	d := &b.res.Deps
	b.log.Printf("Image with build dependencies: %s (%d packages beyond the base, %s)", d.Key, d.Packages, d.Match)
	switch d.Match {
	case MatchNear:
		b.say("%d packages, %d of them added to a cached image", d.Packages, d.Installed)
		b.log.Printf("Made on %s:", d.Ancestor)
		for _, c := range d.Changes {
			b.log.Printf("  %s %s: %s", c.Name, c.Version, c.Why)
		}
	case MatchMiss:
		b.say("%d packages, made", d.Packages)
		b.log.Printf("Made on the base: %s", d.Why)
	default:
		b.say("%d packages, reused", d.Packages)
	}
}

// used notes the time for the expiry of images.
func (b *build) used(ctx context.Context, e *cache.Entry) {
	if err := e.Touch(context.WithoutCancel(ctx)); err != nil {
		b.Observer.Note("time of last use is not kept: %v", err)
	}
}

func (b *build) makeDeps(ctx context.Context) (err error) {
	l, err := b.Cache.MakeLock(ctx, cache.KindDeps, b.res.Deps.Key, func(holder string) {
		b.Observer.Warn("waiting for %s, which makes the same image with build dependencies", holder)
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Unlock()) }()
	e, err := b.image(ctx, b.res.Deps.Key)
	if err == nil {
		b.deps, b.res.Deps.Hit, b.res.Deps.Match = e, true, MatchHit
		return nil
	}
	if !errors.Is(err, cache.ErrNotFound) {
		return err
	}
	return b.installDeps(ctx)
}

// installDeps makes the image on the best cached ancestor, else on the base. A
// step that does not end with exactly the wanted set is thrown away, and the
// image is made on the base.
func (b *build) installDeps(ctx context.Context) error {
	cfg := engine.Config{
		Tag:    fmt.Sprintf("deps:%s-%s-%s", b.suite.Name, b.req.Arch, b.src.Name),
		Labels: map[string]string{"dbuild.state": b.State.ID, "dbuild.deps": b.res.Deps.Key},
	}
	near, parent, why, err := b.ancestor(ctx)
	if err != nil {
		return err
	}
	if parent != nil {
		b.atEnd(func(context.Context) error { return parent.Close() })
		image, err := b.stepOn(ctx, near, parent, cfg)
		if err == nil {
			d := &b.res.Deps
			d.Match, d.Ancestor, d.Installed, d.Changes = MatchNear, string(near.Statement.Tree), len(near.Missing), changesOn(near)
			return b.addDeps(ctx, parent, image)
		}
		if class := fault.ClassOf(err); class != fault.DepWait && class != fault.Internal {
			return err
		}
		b.Observer.Warn("the image with build dependencies is made afresh: %v", err)
		why = err.Error()
		if err := b.resolver.enter(ctx, b.spec(b.base.Image.ID, engine.PurposeDeps)); err != nil {
			return err
		}
		if err := b.resolver.start(ctx, b.wanted); err != nil {
			return err
		}
	}
	if err := b.fetch(ctx, b.resolver.files); err != nil {
		return err
	}
	b.res.Deps.Match, b.res.Deps.Why, b.res.Deps.Installed = MatchMiss, why, len(b.resolver.files)
	image, err := b.resolver.install(ctx, b.resolver.files, []string{"build-dep", depsFile}, b.set, cfg)
	if err != nil {
		return err
	}
	return b.addDeps(ctx, b.base, image)
}

// addDeps puts a new image in force.
func (b *build) addDeps(ctx context.Context, parent *cache.Entry, image engine.Image) (err error) {
	b.depsCheck = justMade
	b.deps, err = b.Cache.AddDeps(ctx, parent, image, b.statement(parent))
	if err != nil {
		return errors.Join(err, b.Engine.Remove(context.WithoutCancel(ctx), image.ID))
	}
	return nil
}

// fetch downloads what the copy does not have and counts it.
func (b *build) fetch(ctx context.Context, files []archive.File) error {
	n, bytes, err := b.Archive.Fetch(ctx, files)
	b.res.Deps.Downloaded += n
	b.res.Deps.DownloadedBytes += bytes
	return err
}

// statement is what an image of this build on parent says of itself.
func (b *build) statement(parent *cache.Entry) cache.Statement {
	s := newStatement(b.suite, b.components(), b.req.Arch, b.states, b.req.Switches, b.Version)
	s.Packages, s.Steps = b.set, slices.Clone(parent.Statement.Steps)
	b.origins(&s)
	s.Steps = append(s.Steps, "install "+b.wanted.Depends)
	return s
}

// install runs apt-get with a command that carries the plan out, and commits the
// container as an image, after checking that exactly the planned set is there.
func (r *resolver) install(ctx context.Context, files []archive.File, command []string, set []cache.Package, cfg engine.Config) (engine.Image, error) {
	if err := r.archive.Extend(r.view, r.states, files); err != nil {
		return engine.Image{}, err
	}
	if err := r.show(ctx); err != nil {
		return engine.Image{}, err
	}
	r.lists.wait()
	if err := r.apt(ctx, io.Discard, command...); err != nil {
		if fault.ClassOf(err) == fault.Build {
			err = fault.New(fault.DepWait, "install build dependencies: %w", err)
		}
		return engine.Image{}, err
	}
	if err := r.compare(ctx, set); err != nil {
		return engine.Image{}, err
	}
	if err := r.tidy(ctx); err != nil {
		return engine.Image{}, err
	}
	if err := r.container.Quiesce(ctx); err != nil {
		return engine.Image{}, err
	}
	return r.container.Commit(ctx, cfg)
}

// compare asks dpkg what is installed: it must be the planned set, no more and
// no less, since the image is known by that set.
func (r *resolver) compare(ctx context.Context, set []cache.Package) error {
	var out bytes.Buffer
	err := runStep(ctx, r.container, engine.Step{
		Argv: []string{"dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package} ${Version} ${Architecture}\n"},
		Env:  rootEnv(), Stdout: &out, Stderr: r.log,
	})
	if err != nil {
		return err
	}
	want := map[string]bool{}
	for _, p := range set {
		want[p.Name+" "+p.Version+" "+p.Arch] = true
	}
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		status, name, _ := strings.Cut(line, " ")
		name = strings.TrimSpace(name)
		switch {
		case strings.HasPrefix(status, "rc"), strings.HasPrefix(status, "un"):
			// only its configuration is left
		case !strings.HasPrefix(status, "ii"):
			return fault.New(fault.DepWait, "install build dependencies: dpkg leaves %q as %q", name, status)
		case !want[name]:
			return fault.New(fault.Internal, "apt installed %q, which was not planned", name)
		default:
			delete(want, name)
		}
	}
	for name := range want {
		return fault.New(fault.Internal, "apt did not install %q, which was planned", name)
	}
	return nil
}

// tidy removes what belongs to the installation and not to the image.
func (r *resolver) tidy(ctx context.Context) error {
	return runStep(ctx, r.container, engine.Step{
		Argv: []string{"/bin/sh", "-c", `rm -f ` + policyFile + ` /var/log/dpkg.log /var/log/apt/* /var/log/alternatives.log \
/var/cache/ldconfig/aux-cache /var/lib/dpkg/*-old /var/cache/debconf/*-old`},
		Env: rootEnv(), Stdout: r.log,
	})
}

// added returns the packages of set that base does not have.
func added(base, set []cache.Package) []cache.Package {
	have := map[cache.Package]bool{}
	for _, p := range base {
		have[p] = true
	}
	var out []cache.Package
	for _, p := range set {
		if !have[p] {
			out = append(out, p)
		}
	}
	return out
}

// newStatement fills what every statement about an image says.
func newStatement(suite archive.Suite, components []string, arch string, states []*archive.State, switches []string, version string) cache.Statement {
	s := cache.Statement{
		Suite: suite.Name, Components: components, Arch: arch, HostArch: arch, Switches: switches, Tool: "dbuild " + version,
	}
	for _, st := range states {
		s.Archive = append(s.Archive, archiveOf(st))
	}
	return s
}

// archiveOf is a source as statements name it.
func archiveOf(st *archive.State) cache.Archive {
	return cache.Archive{
		URL: archive.RedactURL(st.Source.URL), Suite: st.Source.Suite, Date: st.Date, InRelease: st.SHA256, SignedBy: st.SignedBy,
	}
}
