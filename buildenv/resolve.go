package buildenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"

	"dbuild/archive"
	"dbuild/cache"
	"dbuild/deb"
	"dbuild/internal/fault"
	"dbuild/internal/lock"
)

// dependencies are what the build needs and what it must not have, reduced to
// this build's architecture and profiles, in the syntax of a .dsc.
type dependencies struct {
	Depends, Conflicts string
}

// resolve finds the exact set of packages that the build environment will
// hold: from the memo when the same question was answered before, else by
// asking apt in a container of the base image (D1, D6).
func (b *build) resolve(ctx context.Context) error {
	err := b.src.ReadPackaging(ctx) // for Rules-Requires-Root, which no .dsc carries
	if err != nil {
		b.Observer.Note("%v; fakeroot is taken to be needed", err)
	}
	if b.wanted, err = b.dependencies(); err != nil {
		return err
	}
	if done, err := b.known(ctx); done || err != nil {
		return err
	}
	if err := b.claimQuestion(ctx); err != nil {
		return err
	}
	if done, err := b.known(ctx); done || err != nil {
		return err
	}
	if b.resolver, err = b.openResolver(ctx); err != nil {
		return err
	}
	b.atEnd(b.resolver.close)
	if b.set, err = b.resolver.plan(ctx, b.wanted); err != nil {
		return err
	}
	b.extra.take(b.resolver.origin, b.set)
	b.res.Deps.Key = cache.DepsKey(b.set, b.recipe())
	b.say("%d packages beyond the base", len(added(b.baseSet, b.set)))
	if err := b.Cache.PutMemo(ctx, b.memoInput(), b.set); err != nil {
		return err
	}
	if err := b.reuse(ctx); err != nil || b.res.Reused == "" {
		return err
	}
	b.say("the result of build %s is reused", b.res.Reused)
	return nil
}

// known answers the question from the memo, if that leads to an image or to a
// result.
func (b *build) known(ctx context.Context) (done bool, err error) {
	set, ok := b.Cache.Memo(ctx, b.memoInput())
	if !ok {
		return false, nil
	}
	b.res.Deps.Key = cache.DepsKey(set, b.recipe())
	if err := b.reuse(ctx); err != nil {
		return false, err
	}
	if b.res.Reused != "" {
		b.set, b.res.Deps.Memo = set, true
		b.say("the result of build %s is reused", b.res.Reused)
		return true, nil
	}
	if done, err = b.lookup(ctx, set); done {
		b.res.Deps.Memo = true
		b.say("known")
	}
	return done, err
}

// claimQuestion makes one process ask apt and make the image, while others with
// the same question wait for both; [build.findDeps] lets go. That two questions
// may share a lock only delays.
func (b *build) claimQuestion(ctx context.Context) error {
	key, err := b.memoInput().Key()
	if err != nil {
		return err
	}
	b.question, err = lock.Acquire(ctx, b.State.Path("locks", "question-"+key[:3]), lock.Exclusive, func(holder string) {
		b.Observer.Warn("waiting for %s, which makes the image with these build dependencies", holder)
	})
	if err != nil {
		return err
	}
	b.atEnd(func(context.Context) error { return b.question.Unlock() })
	return nil
}

// lookup takes set as the answer if an image with it exists.
func (b *build) lookup(ctx context.Context, set []cache.Package) (bool, error) {
	key := cache.DepsKey(set, b.recipe())
	e, err := b.image(ctx, key)
	if errors.Is(err, cache.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	b.set, b.deps, b.res.Deps.Key = set, e, key
	return true, nil
}

// image returns the image that holds exactly the set of key: the base itself
// when nothing is to be added, else a deps image with that key.
func (b *build) image(ctx context.Context, key string) (*cache.Entry, error) {
	return b.Cache.Deps(ctx, b.policy, key)
}

// recipe is the version of the way in which bases are made; a deps image never
// outlives it.
func (b *build) recipe() string { return b.base.Statement.Recipe }

// resolverVersion rises when the same question gets another answer.
const resolverVersion = "apt 1"

// memoInput is everything that the answer of the resolver depends on. The
// relations are taken as they were reduced: architecture, profiles, build type
// and what was added have done their part.
func (b *build) memoInput() cache.MemoInput {
	in := cache.MemoInput{
		Base: b.base.Hash, Depends: []string{b.wanted.Depends}, Conflicts: []string{b.wanted.Conflicts},
		Arch: b.req.Arch, HostArch: b.req.Arch, Resolver: resolverVersion,
		ExtraHashes: b.extra.files, ExtraSources: append(b.components(), b.extra.named()...),
	}
	for _, s := range b.states {
		in.Archives = append(in.Archives, s.SHA256)
	}
	return in
}

// dependencies reduces the source's build relations for this build. The first
// alternative is taken, as sbuild does, unless the suite or the user wants apt
// to choose. build-essential always belongs, fakeroot where root is required.
func (b *build) dependencies() (dependencies, error) {
	fields := b.src.BuildDepends()
	depends := map[string]string{"Build-Depends": fields.Depends}
	conflicts := map[string]string{"Build-Conflicts": fields.Conflicts}
	if b.req.ArchAny {
		depends["Build-Depends-Arch"], conflicts["Build-Conflicts-Arch"] = fields.Arch, fields.ConflictsArch
	}
	if b.req.ArchAll {
		depends["Build-Depends-Indep"], conflicts["Build-Conflicts-Indep"] = fields.Indep, fields.ConflictsIndep
	}
	need := deb.Dependency{{{Name: "build-essential"}}}
	if b.needsFakeroot() {
		need = append(need, deb.Alternatives{{Name: "fakeroot"}})
	}
	for i, text := range b.req.AddDepends {
		depends["--add-depends "+strconv.Itoa(i)] = text
	}
	for i, text := range b.req.AddConflicts {
		conflicts["--add-conflicts "+strconv.Itoa(i)] = text
	}
	more, err := b.reduce(depends)
	if err != nil {
		return dependencies{}, err
	}
	need = append(need, more...)
	clash, err := b.reduce(conflicts)
	if err != nil {
		return dependencies{}, err
	}
	if !b.req.ResolveAlternatives && !b.suite.ResolveAlternatives {
		need = need.First()
	}
	return dependencies{need.String(), clash.String()}, nil
}

// reduce parses relations and evaluates them for this build, in the order of
// their names.
func (b *build) reduce(fields map[string]string) (deb.Dependency, error) {
	var all deb.Dependency
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		d, err := deb.ParseDependency(fields[name])
		if err != nil {
			class := fault.Input
			if strings.HasPrefix(name, "--") {
				class = fault.Usage
			}
			return nil, fault.New(class, "%s: read %s: %w", b.src.Name, name, err)
		}
		all = append(all, d.Reduce(b.req.Arch, b.profiles())...)
	}
	return all, nil
}

// needsFakeroot reports whether debian/rules may ask for root: when
// Rules-Requires-Root is given and is not "no", or is absent where dpkg's
// default is still to require it (dpkg before 1.22.13).
func (b *build) needsFakeroot() bool {
	rrr := strings.TrimSpace(b.src.RulesRequiresRoot())
	if rrr != "" {
		return rrr != "no"
	}
	for _, p := range b.baseSet {
		if p.Name == "dpkg" {
			return deb.CompareVersions(p.Version, "1.22.13") < 0
		}
	}
	return true
}

// change is one package of apt's plan.
type change struct {
	Name, Version, Arch string
	Remove              bool
}

// plan asks apt what it would fetch, which is the plan unless packages of the
// base have to go, and looks each package up in the verified indexes. It
// returns the complete set that would be installed.
func (r *resolver) plan(ctx context.Context, want dependencies) ([]cache.Package, error) {
	if err := r.start(ctx, want); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := r.apt(ctx, &out, "--print-uris", "build-dep", depsFile); err != nil {
		return nil, r.explain(out.String(), err)
	}
	files, err := archive.FilesFromURIs(r.states, out.Bytes())
	if err != nil {
		return nil, err
	}
	changes, err := r.find(ctx, files)
	if err != nil {
		return nil, err
	}
	if bytes.Contains(out.Bytes(), []byte("REMOVED:")) {
		gone, err := r.removals(ctx)
		if err != nil {
			return nil, err
		}
		changes = append(gone, changes...)
	}
	r.lists.take(ctx, r.container)
	return r.apply(changes), nil
}

// removals asks apt what it would remove.
func (r *resolver) removals(ctx context.Context) ([]change, error) {
	var out bytes.Buffer
	if err := r.apt(ctx, &out, "-s", "build-dep", depsFile); err != nil {
		return nil, r.explain(out.String(), err)
	}
	return parseRemovals(out.String())
}

// explain turns apt's refusal into a dep-wait.
func (r *resolver) explain(text string, err error) error {
	if fault.ClassOf(err) != fault.Build { // not apt's own exit code
		return err
	}
	return fault.New(fault.DepWait, "build dependencies cannot be satisfied: %s", unmet(text))
}

// unmet picks the lines in which apt names what is missing.
func unmet(text string) string {
	var lines []string
	for _, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if strings.Contains(line, " : Depends: ") || strings.Contains(line, "Depends: ") || strings.Contains(line, "Conflicts: ") || strings.HasPrefix(line, "E: ") {
			line = strings.TrimPrefix(strings.TrimPrefix(line, "E: "), depsSource+" : ")
			line = strings.TrimPrefix(line, "builddeps:"+depsFile+" : ")
			lines = append(lines, Printable(line))
		}
	}
	if len(lines) == 0 {
		return "apt names no reason"
	}
	return strings.Join(lines[:min(len(lines), 4)], "; ")
}

// parseRemovals reads the Remv lines of apt-get -s:
//
//	Remv foo [1.0]
//	Remv bar:i386 [1.0] []
func parseRemovals(text string) ([]change, error) {
	var all []change
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "Remv ")
		if !ok {
			continue
		}
		name, _, ok := strings.Cut(rest, " ")
		name, arch, _ := strings.Cut(name, ":")
		if !ok || name == "" {
			return nil, fmt.Errorf("read apt's plan: unexpected line %q", line)
		}
		all = append(all, change{Name: name, Arch: arch, Remove: true})
	}
	return all, nil
}

// find looks the files of the plan up in the verified indexes of the archives
// that apt wants them from: what apt says of them is not enough. Those of the
// suite are asked first, since an extra source may have the same root.
func (r *resolver) find(ctx context.Context, files []archive.File) ([]change, error) {
	changes := make([]change, len(files))
	for _, st := range slices.Backward(r.states) {
		want, at := map[archive.PackageKey]bool{}, map[archive.PackageKey]int{}
		for i, f := range files {
			if changes[i].Name != "" || !st.Source.Offers(f) {
				continue
			}
			key, err := keyOf(f.Name)
			if err != nil {
				return nil, err
			}
			want[key], at[key] = true, i
		}
		if len(want) == 0 {
			continue
		}
		paths, err := r.archive.PackageIndexes(ctx, st, r.arch)
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			found, err := archive.FindPackages(path, want)
			if err != nil {
				return nil, err
			}
			for key, p := range found {
				if i := at[key]; p.SHA256 == files[i].SHA256 {
					r.packages[key], r.origin[p.SHA256] = p, st
					r.files = append(r.files, st.Source.File(p))
					changes[i] = change{Name: key.Name, Version: key.Version, Arch: key.Arch}
				}
			}
		}
	}
	for i, c := range changes {
		if c.Name == "" {
			return nil, fault.New(fault.Trust, "apt wants %s, which no verified index lists", files[i].Name)
		}
	}
	return changes, nil
}

// keyOf reads apt's name of a package file, in which it encodes what could be
// taken for something else: foo_1%3a1.0_amd64.deb.
func keyOf(name string) (key archive.PackageKey, err error) {
	parts := strings.Split(strings.TrimSuffix(name, ".deb"), "_")
	if len(parts) != 3 {
		return key, fault.New(fault.Internal, "read apt's plan: unexpected file %q", name)
	}
	for i, to := range []*string{&key.Name, &key.Version, &key.Arch} {
		if *to, err = url.PathUnescape(parts[i]); err != nil {
			return key, fault.New(fault.Internal, "read apt's plan: file %q: %w", name, err)
		}
	}
	return key, nil
}

// apply returns the set after the changes, sorted by name and architecture.
func (r *resolver) apply(changes []change) []cache.Package {
	set := map[string]cache.Package{}
	for _, p := range r.baseSet {
		set[p.Name+":"+p.Arch] = p
	}
	for _, c := range changes {
		for _, arch := range []string{c.Arch, r.arch, "all"} {
			delete(set, c.Name+":"+arch) // an upgrade may go from any to all
			if c.Arch != "" && c.Arch != r.arch && c.Arch != "all" {
				break // another architecture beside ours
			}
		}
		if c.Remove {
			continue
		}
		p := r.packages[archive.PackageKey{Name: c.Name, Version: c.Version, Arch: c.Arch}]
		set[c.Name+":"+c.Arch] = cache.Package{Name: c.Name, Version: c.Version, Arch: c.Arch, SHA256: p.SHA256}
	}
	out := make([]cache.Package, 0, len(set))
	for _, p := range set {
		out = append(out, p)
	}
	sort.Slice(out, func(i, j int) bool {
		return out[i].Name < out[j].Name || out[i].Name == out[j].Name && out[i].Arch < out[j].Arch
	})
	return out
}
