package buildenv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dbuild/archive"
	"dbuild/cache"
	"dbuild/internal/fault"
	"dbuild/sign"
)

// The switches under which a statement records that packages came from beside
// the suite. They have the names of their flags.
const (
	switchPackage    = "extra-package"
	switchRepository = "extra-repository"
	switchRepo       = "with-repo"
)

// extras are the sources of build dependencies beside the suite. apt takes the
// highest version wherever it is, and of equal ones that of an extra source.
type extras struct {
	from  []extraSource
	files []string // SHA-256 of the extra packages, sorted
	taken []string // what the set has of them, one step of the statement each
	kinds []string // their switches
}

type extraSource struct {
	kind  string // its switch
	state *archive.State
}

// findExtras verifies what --extra-package, --extra-repository and --with-repo
// name. Everything has a Release that somebody signed: a repository its owner,
// single packages and the local repository this machine.
func (b *build) findExtras(ctx context.Context) error {
	if err := b.extraPackages(ctx); err != nil {
		return err
	}
	if err := b.extraRepositories(ctx); err != nil {
		return err
	}
	return b.localRepository(ctx)
}

func (b *build) extraPackages(ctx context.Context) error {
	var paths []string
	for _, p := range b.req.ExtraPackages {
		found, err := debsAt(p)
		if err != nil {
			return err
		}
		paths = append(paths, found...)
	}
	if len(paths) == 0 {
		return nil
	}
	st, files, err := b.Archive.OneShot(ctx, paths, b.LocalKey, b.LocalKeyring)
	if err != nil {
		return err
	}
	for _, f := range files {
		b.extra.files = append(b.extra.files, f.SHA256)
	}
	slices.Sort(b.extra.files)
	b.extra.files = slices.Compact(b.extra.files)
	b.extra.from = append(b.extra.from, extraSource{switchPackage, st})
	return nil
}

// debsAt is the file itself, or the .deb files in a directory, as sbuild has it.
func debsAt(path string) ([]string, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, fault.New(fault.Usage, "extra package: %w", err)
	}
	if !fi.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fault.New(fault.Usage, "extra packages: %w", err)
	}
	var found []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".deb") && !e.IsDir() {
			found = append(found, filepath.Join(path, e.Name()))
		}
	}
	if len(found) == 0 {
		return nil, fault.New(fault.Usage, "extra packages: directory %q has no .deb", path)
	}
	return found, nil
}

func (b *build) extraRepositories(ctx context.Context) error {
	if len(b.req.ExtraRepositories) == 0 {
		return nil
	}
	own, err := b.suite.Sources(b.Sources)
	if err != nil {
		return err
	}
	keyrings := slices.Concat(b.req.ExtraKeys, own[0].Keyrings)
	var all []archive.Source
	for _, text := range b.req.ExtraRepositories {
		sources, err := archive.ParseRepository(text, keyrings)
		if err != nil {
			return err
		}
		all = append(all, sources...)
	}
	states, err := b.Archive.Update(ctx, all)
	if err != nil {
		if errors.Is(err, sign.ErrUnknownKey) {
			err = fault.WithHint(err, "give the repository's key with --extra-repository-key FILE")
		}
		return err
	}
	for _, st := range states {
		b.extra.from = append(b.extra.from, extraSource{switchRepository, st})
	}
	return nil
}

// localRepository offers what was built for this suite before.
func (b *build) localRepository(ctx context.Context) error {
	if !b.req.WithRepo {
		return nil
	}
	dir := b.Repo.Dir()
	if _, err := os.Stat(filepath.Join(dir, "dists", b.suite.Name)); errors.Is(err, fs.ErrNotExist) {
		b.Observer.Note("the local repository has no suite %s yet", b.suite.Name)
		return nil
	}
	states, err := b.Archive.Update(ctx, []archive.Source{{
		URL: (&url.URL{Scheme: "file", Path: dir}).String(), Suite: b.suite.Name, Components: []string{"main"}, Extra: true,
		Keyrings: []string{b.repoKeyring()}, AllowedKeys: []string{b.Repo.Fingerprint()},
	}})
	if err != nil {
		return fmt.Errorf("local repository: %w", err)
	}
	states[0].Source.Components = states[0].Release.Components
	b.extra.from = append(b.extra.from, extraSource{switchRepo, states[0]})
	return nil
}

// repoKeyring has the public parts of the keys that sign the repository.
func (b *build) repoKeyring() string { return filepath.Join(b.Repo.Dir(), "key.asc") }

// allow lets images hold what comes from these sources.
func (x *extras) allow(p *cache.Policy) error {
	for _, s := range x.from {
		keys, err := signers(s.state.Source)
		if err != nil {
			return err
		}
		p.StepKeys = append(p.StepKeys, keys...)
		p.StepSwitches = append(p.StepSwitches, s.kind)
	}
	return nil
}

// sources are all that apt sees, those beside the suite first.
func (b *build) sources() []*archive.State {
	all := make([]*archive.State, 0, len(b.extra.from)+len(b.states))
	for _, s := range b.extra.from {
		all = append(all, s.state)
	}
	return append(all, b.states...)
}

// named are the sources for the memo. That of single packages is made anew for
// each run; their hashes stand for it.
func (x *extras) named() []string {
	var names []string
	for _, s := range x.from {
		if s.kind != switchPackage {
			names = append(names, s.kind+" "+archive.RedactURL(s.state.Source.URL)+" "+s.state.Source.Suite+" "+s.state.SHA256)
		}
	}
	return names
}

// takenStep begins the step of a statement that names a package from beside the
// suite.
const takenStep = "take "

// take notes which packages of the plan are not of the suite. origin says where
// each comes from, by SHA-256.
func (x *extras) take(origin map[string]*archive.State, set []cache.Package) {
	for _, s := range x.from {
		for _, p := range set {
			if origin[p.SHA256] == s.state {
				x.note(s.kind, takenStep+p.Name+" "+p.Version+" "+p.Arch+" sha256:"+p.SHA256+" from "+s.kind)
			}
		}
	}
}

// takenIn is [extras.take] for an image that was made before.
func (x *extras) takenIn(st *cache.Statement) {
	for _, step := range st.Steps {
		if kind := step[strings.LastIndexByte(step, ' ')+1:]; strings.HasPrefix(step, takenStep) {
			x.note(kind, step)
		}
	}
}

func (x *extras) note(kind, step string) {
	if !slices.Contains(x.taken, step) {
		x.taken = append(x.taken, step)
	}
	if !slices.Contains(x.kinds, kind) {
		x.kinds = append(x.kinds, kind)
	}
}

// origins completes what a statement says of where packages came from: an image
// in which nothing is from beside the suite is one of the suite alone.
func (b *build) origins(s *cache.Statement) {
	for _, x := range b.extra.from {
		if slices.Contains(b.extra.kinds, x.kind) {
			s.Archive = append(s.Archive, archiveOf(x.state))
		}
	}
	s.Switches = append(slices.Clone(s.Switches), b.extra.kinds...)
	for _, step := range b.extra.taken {
		if !slices.Contains(s.Steps, step) {
			s.Steps = append(s.Steps, step)
		}
	}
}

// tellExtras writes to log and result what is not of the suite.
func (b *build) tellExtras() {
	for _, step := range b.extra.taken {
		b.log.Printf("Beside the suite: %s", step)
		f := strings.Fields(step)
		b.res.Deps.Extra = append(b.res.Deps.Extra, fmt.Sprintf("%s %s (%s)", f[1], f[2], f[len(f)-1]))
	}
}
