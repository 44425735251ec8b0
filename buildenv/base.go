package buildenv

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"dbuild/archive"
	"dbuild/cache"
	"dbuild/chroot"
	"dbuild/sign"
)

// baseMaxAge is how long a base whose own packages have updates is used before
// it is refreshed by itself.
const baseMaxAge = 24 * time.Hour

// baseComponents are those that a base is made from, whatever the build needs:
// the package set of a base is in main.
var baseComponents = []string{"main"}

// BaseRequest asks for the base image of a suite.
type BaseRequest struct {
	Suite    archive.Suite
	States   []*archive.State // of the suite, all of one Update
	Arch     string
	Refresh  bool     // look for updates even if the base is young
	Force    bool     // make it anew in any case
	Switches []string // checks that this run switches off
}

// BaseImage is a base image with a verified statement. Nothing may run in it
// before Check, which compares the stored files with what was signed, returned
// nil. The caller closes the entry.
type BaseImage struct {
	Entry *cache.Entry
	Made  bool // by this call
	Check func() (cache.Means, error)
}

// Base returns the signed base image of a suite and architecture. It is made
// when there is none, and made again when the archive has newer versions of its
// packages and it is older than a day. Of several processes one makes it and
// the others wait.
func Base(ctx context.Context, t Tools, req BaseRequest) (BaseImage, error) {
	if !req.Force {
		e, err := t.current(ctx, req)
		if err == nil || !errors.Is(err, cache.ErrNotFound) {
			return found(ctx, e), err
		}
	}
	l, err := t.Cache.MakeLock(ctx, cache.KindBase, req.Suite.Name+"-"+req.Arch, func(holder string) {
		t.Observer.Warn("waiting for %s, which makes the base image of %s", holder, req.Suite.Name)
	})
	if err != nil {
		return BaseImage{}, err
	}
	defer func() { _ = l.Unlock() }()
	if !req.Force { // somebody else may have made it meanwhile
		e, err := t.current(ctx, req)
		if err == nil || !errors.Is(err, cache.ErrNotFound) {
			return found(ctx, e), err
		}
	}
	e, err := t.makeBase(ctx, req)
	return BaseImage{Entry: e, Made: true, Check: justMade}, err
}

// found is a base image whose files are checked when somebody needs to know.
func found(ctx context.Context, e *cache.Entry) BaseImage {
	if e == nil {
		return BaseImage{}
	}
	return BaseImage{Entry: e, Check: lazyCheck(ctx, e)}
}

// lazyCheck compares an image's stored files with its seal at the first call;
// later calls return the same verdict.
func lazyCheck(ctx context.Context, e *cache.Entry) func() (cache.Means, error) {
	return sync.OnceValues(func() (cache.Means, error) { return e.Check(ctx) })
}

// justMade is the check of an image that was hashed as it was made.
func justMade() (cache.Means, error) { return "", nil }

// current returns the newest base that this run's policy would have made and
// that need not be refreshed; cache.ErrNotFound otherwise.
func (t Tools) current(ctx context.Context, req BaseRequest) (*cache.Entry, error) {
	p, err := policy(req)
	if err != nil {
		return nil, err
	}
	e, err := t.Cache.Base(ctx, p)
	if err != nil {
		return nil, err
	}
	if sameArchive(e.Statement.Archive, req.States) {
		return e, nil
	}
	if e.RolledBack && !req.Refresh {
		t.Observer.Note("the base image of %s was rolled back to that of %s; dbuild update ends that", req.Suite.Name, e.Statement.Created.Format("2006-01-02 15:04"))
		return e, nil
	}
	age := t.Now().Sub(e.Statement.Created)
	if age < baseMaxAge && !req.Refresh {
		return e, nil
	}
	changed, err := t.outdated(ctx, req, e)
	if err != nil {
		return nil, err
	}
	if changed == 0 {
		return e, nil
	}
	t.Observer.Note("the archive has updates for %d packages of the base image; refreshing it", changed)
	return nil, errors.Join(cache.ErrNotFound, e.Close())
}

// outdated counts the packages of the base that would be another version, or
// no longer or newly there, if it were made now.
func (t Tools) outdated(ctx context.Context, req BaseRequest, e *cache.Entry) (int, error) {
	now, err := t.planned(ctx, req, e)
	if err != nil {
		return 0, err
	}
	have := map[cache.Package]bool{}
	for _, p := range e.Statement.Packages {
		have[p] = true
	}
	changed := max(0, len(e.Statement.Packages)-len(now))
	for _, p := range now {
		if !have[p] {
			changed++
		}
	}
	return changed, nil
}

// planned is the package set that a base made now would have. It is asked for at
// each build with an old base, so the answer is kept with the archive's state.
func (t Tools) planned(ctx context.Context, req BaseRequest, e *cache.Entry) (set []cache.Package, err error) {
	in := cache.MemoInput{Base: e.Hash, Arch: req.Arch, HostArch: req.Arch, Resolver: "base " + chroot.Recipe}
	for _, s := range req.States {
		in.Archives = append(in.Archives, s.SHA256)
	}
	if set, ok := t.Cache.Memo(ctx, in); ok {
		return set, nil
	}
	now, err := chroot.Plan(ctx, t.chrootOptions(req))
	if err != nil {
		return nil, err
	}
	for _, p := range now {
		set = append(set, cache.Package{Name: p.Name, Version: p.Version, Arch: p.Arch, SHA256: p.SHA256})
	}
	return set, t.Cache.PutMemo(ctx, in, set)
}

func (t Tools) makeBase(ctx context.Context, req BaseRequest) (*cache.Entry, error) {
	made, err := chroot.Create(ctx, t.chrootOptions(req))
	if err != nil {
		return nil, fmt.Errorf("make base image of %s: %w", req.Suite.Name, err)
	}
	for _, lap := range made.Timings {
		t.Observer.Note("%s: %.2f s", lap.Step, lap.Seconds)
	}
	s := newStatement(req.Suite, baseComponents, req.Arch, req.States, req.Switches, t.Version)
	s.Variant, s.Recipe = chroot.Variant, chroot.Recipe
	for _, p := range made.Packages {
		s.Packages = append(s.Packages, cache.Package{Name: p.Name, Version: p.Version, Arch: p.Arch, SHA256: p.SHA256})
	}
	e, err := t.Cache.AddBase(ctx, made.Image, s)
	if err != nil {
		return nil, errors.Join(err, t.Engine.Remove(context.WithoutCancel(ctx), made.Image.ID))
	}
	return e, nil
}

func (t Tools) chrootOptions(req BaseRequest) chroot.Options {
	return chroot.Options{
		Suite: req.Suite, States: limited(req.States, baseComponents), Copy: t.Archive, Engine: t.Engine, Arch: req.Arch, Report: t.Observer,
		Labels: map[string]string{"dbuild.state": t.State.ID},
	}
}

// limited returns the states as if only these components had been asked for.
func limited(states []*archive.State, components []string) []*archive.State {
	out := make([]*archive.State, len(states))
	for i, s := range states {
		c := *s
		c.Source.Components = components
		out[i] = &c
	}
	return out
}

// policy is what this run would accept as a base: what it would make itself.
func policy(req BaseRequest) (cache.Policy, error) {
	sources := make([]archive.Source, len(req.States))
	for i, s := range req.States {
		sources[i] = s.Source
	}
	return Policy(req.Suite, sources, req.Arch, req.Switches)
}

// Policy is what a run with these sources of a suite and these switches would
// accept as a base: what it would make itself.
func Policy(suite archive.Suite, sources []archive.Source, arch string, switches []string) (cache.Policy, error) {
	p := cache.Policy{
		Suite: suite.Name, Arch: arch, HostArch: arch, Components: baseComponents,
		Variant: chroot.Variant, Recipe: chroot.Recipe, Switches: switches,
	}
	rings := map[string]bool{}
	for _, s := range sources {
		p.Suites = append(p.Suites, s.Suite)
		name := strings.Join(s.Keyrings, "\x00")
		if rings[name] {
			continue
		}
		rings[name] = true
		keys, err := signers(s)
		if err != nil {
			return p, err
		}
		p.Keys = append(p.Keys, keys...)
	}
	return p, nil
}

// signers are the fingerprints of the keys that may sign a source.
func signers(s archive.Source) ([]string, error) {
	if len(s.AllowedKeys) > 0 {
		return s.AllowedKeys, nil
	}
	ring, err := sign.OpenKeyring(s.Keyrings...)
	if err != nil {
		return nil, err
	}
	return ring.Fingerprints(), nil
}

func sameArchive(have []cache.Archive, now []*archive.State) bool {
	if len(have) != len(now) {
		return false
	}
	for i, s := range now {
		if have[i].InRelease != s.SHA256 {
			return false
		}
	}
	return true
}

// findBase is stage 2.
func (b *build) findBase(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		b.states, err = b.update(gctx, b.suite, b.components())
		return err
	})
	g.Go(func() error { return b.findExtras(gctx) })
	err := g.Wait()
	if err != nil {
		return err
	}
	req := BaseRequest{Suite: b.suite, States: b.states, Arch: b.req.Arch, Refresh: b.req.Refresh, Switches: b.req.Switches}
	if b.policy, err = policy(req); err != nil {
		return err
	}
	if err := b.extra.allow(&b.policy); err != nil {
		return err
	}
	image, err := Base(ctx, b.Tools, req)
	if err != nil {
		return err
	}
	b.atEnd(func(context.Context) error { return image.Entry.Close() })
	b.base, b.baseSet, b.baseCheck = image.Entry, image.Entry.Statement.Packages, image.Check
	s := b.base.Statement
	b.res.Base = BaseResult{Digest: string(s.Tree), Created: s.Created, ArchiveDate: archiveDate(s.Archive), Hit: !image.Made}
	b.say("%s-%s of %s, %s", s.Suite, s.Arch, s.Created.Format("2006-01-02"), reused(!image.Made))
	b.log.Printf("Base image: %s of %s, made %s, archive of %s", s.Tree, s.Suite, s.Created.Format(time.RFC3339), b.res.Base.ArchiveDate.Format(time.RFC3339))
	return nil
}

// checkImage runs the check of an image's stored files and records how it was
// done. No code of an image counts before. What this build made itself (hit is
// false) was hashed as it was made.
func (b *build) checkImage(hit bool, check func() (cache.Means, error)) error {
	if !hit {
		return nil
	}
	means, err := check()
	if err != nil {
		return err
	}
	if means != "" && !slices.Contains(b.res.Checked, string(means)) {
		b.res.Checked = append(b.res.Checked, string(means))
	}
	return nil
}

// archiveDate is the newest date of the archives that an image was made from.
func archiveDate(all []cache.Archive) time.Time {
	var newest time.Time
	for _, a := range all {
		if a.Date.After(newest) {
			newest = a.Date
		}
	}
	return newest
}

// update brings the partial copy of a suite's archives up to date, once for
// each build: the source may come from the same suite.
func (b *build) update(ctx context.Context, suite archive.Suite, components []string) ([]*archive.State, error) {
	key := suite.Name + fmt.Sprint(components)
	if states, ok := b.updated[key]; ok {
		return states, nil
	}
	o := b.Sources
	o.Components, o.Arch = components, b.req.Arch
	sources, err := suite.Sources(o)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	states, err := b.Archive.Update(ctx, sources)
	if err != nil {
		return nil, err
	}
	b.timed(TimingArchive, start)
	b.updated[key] = states
	return states, nil
}

// components are those of the suite, those asked for, and the one that the
// source package itself is in.
func (b *build) components() []string {
	own := []string{b.component}
	if b.component == "non-free" {
		own = append(own, "contrib") // which non-free packages may build-depend on
	}
	return merged(b.suite.Components, b.req.Components, own)
}

// merged joins lists, each word once.
func merged(lists ...[]string) []string {
	var out []string
	for _, list := range lists {
		for _, word := range list {
			if word != "" && !slices.Contains(out, word) {
				out = append(out, word)
			}
		}
	}
	return out
}

func reused(hit bool) string {
	if hit {
		return "reused"
	}
	return "made"
}
