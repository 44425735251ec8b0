package cmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"dbuild/archive"
	"dbuild/buildenv"
	"dbuild/cache"
	"dbuild/doctor"
	"dbuild/engine"
	"dbuild/engine/docker"
	"dbuild/engine/native"
	"dbuild/internal/fault"
	"dbuild/internal/lock"
	"dbuild/internal/report"
	"dbuild/internal/state"
	"dbuild/internal/userns"
	"dbuild/repo"
	"dbuild/sign"
)

// developerKeyrings are the keyrings that the signature of a .dsc or .changes is
// looked up in.
var developerKeyrings = []string{
	"/usr/share/keyrings/debian-keyring.gpg", "/usr/share/keyrings/debian-keyring.pgp",
	"/usr/share/keyrings/debian-maintainers.gpg", "/usr/share/keyrings/debian-maintainers.pgp",
	"/usr/share/keyrings/debian-nonupload.gpg", "/usr/share/keyrings/debian-nonupload.pgp",
}

// world is everything that a verb works with.
type world struct {
	buildenv.Tools
	options *common
	reaped  int // leftovers of killed processes, removed on opening
}

// open opens state, keys, engine, archive copy, cache and repository, and
// removes what an earlier, killed dbuild left.
func (a *app) open(ctx context.Context, o *common, obs buildenv.Observer) (_ *world, err error) {
	dir := o.state
	if dir == "" {
		if dir, err = state.DefaultDir(userns.CallerUID(), a.getenv); err != nil {
			return nil, err
		}
	}
	if err := a.enter(ctx, o, dir); err != nil {
		return nil, err
	}
	w := &world{options: o}
	w.Now, w.Version, w.Observer = time.Now, Version, obs
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	w.State, err = state.Open(ctx, dir, func(holder string) { obs.Warn("the state is locked by %s; waiting", holder) })
	if err != nil {
		return nil, err
	}
	if err := finishRotation(ctx, w.State); err != nil {
		return nil, err
	}
	if w.ImageKey, err = ensureKey(ctx, w.State, "image", imageKeyOwner); err != nil {
		return nil, err
	}
	keys, err := openRepoKeys(ctx, w.State, a.userGPG(), false)
	if err != nil {
		return nil, err
	}
	w.LocalKey, w.LocalKeyring = keys.local, publicKeyPath(w.State.Dir, keys.local.Fingerprint())
	chosen, err := a.chooseEngine(ctx, o.engine, w.State, obs)
	if err != nil {
		return nil, err
	}
	if w.Engine, err = openEngine(ctx, chosen, w.State, obs); err != nil {
		return nil, engine.Unusable(fault.Wrap(fault.Engine, err))
	}
	if w.reaped, err = w.Engine.Reap(ctx); err != nil {
		return nil, fault.Wrap(fault.Engine, err)
	}
	if w.reaped > 0 {
		obs.Note("removed %d leftovers of a run that was killed", w.reaped)
	}
	return w, a.openStores(ctx, w, o, obs, keys)
}

// copyEnded says that a copy of this process has done all the work: nothing is
// left but to end with its exit code.
type copyEnded struct{ code int }

func (e *copyEnded) Error() string {
	return fmt.Sprintf("ended with code %d in a user namespace", e.code)
}

// enter makes an ordinary user root of a user namespace when the native engine
// needs that, by running the same command line in one. The only thing that
// comes back is an error.
func (a *app) enter(ctx context.Context, o *common, dir string) error {
	if os.Geteuid() == 0 {
		return nil
	}
	name, _, err := a.engineOf(ctx, o, dir)
	if err != nil || name != doctor.Native {
		return err
	}
	code, err := userns.Enter()
	if err != nil {
		return engine.Unusable(err)
	}
	return &copyEnded{code}
}

// openEngine opens the engine of that name. Each keeps its images apart, so a
// state may be used with several.
func openEngine(ctx context.Context, name string, s *state.State, r report.Reporter) (engine.Engine, error) {
	if name != doctor.Native {
		e, err := docker.Open(ctx, docker.Options{Kind: name, Dir: s.Path("images"), State: s.ID, Report: r})
		if err != nil {
			return nil, err // and not an interface that holds a nil pointer
		}
		return e, nil
	}
	e, err := native.Open(ctx, native.Options{Dir: s.Path("images"), State: s.ID, Report: r})
	if err != nil {
		return nil, err
	}
	return e, nil
}

func (a *app) openStores(ctx context.Context, w *world, o *common, obs report.Reporter, keys repoKeys) (err error) {
	cached := ""
	if o.state == "" { // a state that was named holds everything
		if cached = state.CacheDir(userns.CallerUID(), a.getenv); cached != "" {
			cached = filepath.Join(cached, "archive")
		}
	}
	w.Archive, err = archive.Open(w.State.Path("archive"), archive.Options{
		Report: obs, Now: w.Now, Offline: o.offline, AllowExpired: o.expired, MaxAge: o.maxAge, Cache: cached,
	})
	if err != nil {
		return err
	}
	w.Sources = archive.SourceOptions{Mirror: o.mirror, Keyrings: o.keyrings, Arch: o.arch}
	w.Cache, err = cache.Open(ctx, w.State.Path("images"), w.Engine, w.ImageKey, cache.Options{
		Report: obs, Now: w.Now, DB: w.State.DB, State: w.State.ID, Tool: "dbuild " + w.Version,
		Keys: cache.Keys(w.State.Path("keys")),
	})
	if err != nil {
		return err
	}
	if err := repo.Migrate(ctx, w.State.DB); err != nil {
		return err
	}
	if w.Repo, err = repo.Open(ctx, w.State.Path("repo"), w.State.DB, keys.own, keys.options(o, obs)); err != nil {
		return err
	}
	w.Keyrings = installedDeveloperKeyrings()
	return nil
}

// installedDeveloperKeyrings are the developers' keyrings that are there.
func installedDeveloperKeyrings() (paths []string) {
	for _, k := range developerKeyrings {
		if _, err := os.Stat(k); err == nil {
			paths = append(paths, k)
		}
	}
	return paths
}

// close closes what is open; nil fields are skipped.
func (w *world) close() error {
	var errs []error
	if w.Engine != nil {
		errs = append(errs, w.Engine.Close())
	}
	if w.State != nil {
		errs = append(errs, w.State.Close())
	}
	return errors.Join(errs...)
}

// ensureKey loads a local key, making it on first use: only one of several
// processes does.
func ensureKey(ctx context.Context, s *state.State, name, owner string) (*sign.Key, error) {
	path := s.Path("keys", name+".asc")
	if k, err := sign.Load(path); !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	l, err := lock.Acquire(ctx, s.Path("locks", "keys"), lock.Exclusive, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = l.Unlock() }()
	if k, err := sign.Load(path); !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if left, err := filepath.Glob(s.Path("keys", ".*.tmp")); err == nil {
		for _, name := range left { // of a process that was killed
			_ = os.Remove(name)
		}
	}
	k, err := sign.Generate(owner, time.Now().Add(-time.Minute))
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), name+".pub.asc"), k.PublicArmored(), 0o600); err != nil {
		return nil, err
	}
	return k, k.Save(path)
}

// suite looks up the suite that a verb without a source is about.
func (o *common) suite() (archive.Suite, error) {
	name := o.dist
	if name == "" {
		name = buildenv.HostSuite()
	}
	if name == "" {
		return archive.Suite{}, fault.WithHint(fault.New(fault.Usage, "no suite given"), "name one with -d SUITE")
	}
	return archive.FindSuite(name)
}

// base brings the suite's archives up to date and returns its base image,
// checked.
func (w *world) base(ctx context.Context, suite archive.Suite, refresh, force bool) (buildenv.BaseImage, error) {
	o := w.Sources
	sources, err := suite.Sources(o)
	if err != nil {
		return buildenv.BaseImage{}, err
	}
	states, err := w.Archive.Update(ctx, sources)
	if err != nil {
		return buildenv.BaseImage{}, err
	}
	image, err := buildenv.Base(ctx, w.Tools, buildenv.BaseRequest{
		Suite: suite, States: states, Arch: w.options.arch, Refresh: refresh, Force: force, Switches: w.options.switches(),
	})
	if err != nil {
		return image, err
	}
	if err := image.Entry.Touch(ctx); err != nil {
		w.Observer.Note("time of last use is not kept: %v", err)
	}
	_, err = image.Check()
	return image, err
}

// accepts is what a run with these flags would take in place of a base that
// another machine made.
func (w *world) accepts(base *cache.Statement) (cache.Policy, error) {
	suite, err := archive.FindSuite(base.Suite)
	if err != nil {
		return cache.Policy{}, fault.New(fault.Trust, "the image is of a suite that is not known: %w", err)
	}
	o := w.Sources
	o.Arch = base.Arch
	sources, err := suite.Sources(o)
	if err != nil {
		return cache.Policy{}, err
	}
	return buildenv.Policy(suite, sources, base.Arch, w.options.switches())
}
