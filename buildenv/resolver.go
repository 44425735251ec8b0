package buildenv

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"dbuild/archive"
	"dbuild/cache"
	"dbuild/deb"
	"dbuild/engine"
	"dbuild/internal/fault"
)

// Where the resolver keeps its things in the container: /run is a tmpfs that
// no image holds.
const (
	aptConf    = "/run/dbuild/apt.conf"
	aptLists   = "/run/dbuild/" + listsName
	aptCache   = "/run/dbuild/" + cacheName
	depsFile   = "/run/dbuild/" + depsSource + ".dsc"
	depsSource = "build-depends"
	policyFile = "/usr/sbin/policy-rc.d"
	answerFile = "/run/dbuild/debconf.dat"
)

// debconfAnswers go before debconf's own database. A package's build asks no
// manual page index (apropos), and making one takes a fifth of the time of an
// installation; it is also what differs between two equal ones.
const debconfAnswers = `Name: man-db/auto-update
Template: man-db/auto-update
Value: false
Owners: man-db
Flags: seen
`

// resolver is apt in a container of the base image, with the verified partial
// copy of the archives as its only source. It plans the change and, if an
// image has to be made, carries it out.
type resolver struct {
	archive *archive.Copy
	states  []*archive.State
	arch    string
	baseSet []cache.Package
	log     io.Writer

	timeout, idle time.Duration // of each step; 0: none

	engine    engine.Engine
	container engine.Container
	view      *archive.View
	name      string
	tree      engine.TreeID // the view, for containers
	packages  map[archive.PackageKey]*deb.Package
	origin    map[string]*archive.State // of the files, by SHA-256
	files     []archive.File
	lists     *keptLists // nil: none are kept
}

func (b *build) openResolver(ctx context.Context) (_ *resolver, err error) {
	r := &resolver{
		archive: b.Archive, states: b.sources(), arch: b.req.Arch, baseSet: b.baseSet, log: b.log,
		timeout: b.req.Timeout, idle: b.req.Idle,
		packages: map[archive.PackageKey]*deb.Package{}, origin: map[string]*archive.State{},
	}
	defer func() {
		if err != nil {
			_ = r.close(context.WithoutCancel(ctx))
		}
	}()
	if err := b.checkImage(b.res.Base.Hit, b.baseCheck); err != nil {
		return nil, err
	}
	if err := b.Archive.Prefetch(ctx, r.states, []string{b.req.Arch}); err != nil {
		return nil, err
	}
	if r.view, err = b.Archive.View(ctx, r.states, b.req.Arch, nil); err != nil {
		return nil, err
	}
	if err := b.findLists(ctx, r); err != nil {
		return nil, err
	}
	r.engine, r.name = b.Engine, "archive-"+b.id
	if err := r.show(ctx); err != nil {
		return nil, err
	}
	return r, r.enter(ctx, b.spec(b.base.Image.ID, engine.PurposeDeps))
}

// show lets containers see the view as it is now.
func (r *resolver) show(ctx context.Context) (err error) {
	r.tree, err = r.engine.Tree(ctx, r.name, r.view.Dir)
	return err
}

// enter goes on in a new container, in which the archive is visible; the one
// before it is closed.
func (r *resolver) enter(ctx context.Context, spec engine.Spec) (err error) {
	if r.container != nil {
		r.lists.wait()
		if err := r.container.Close(ctx); err != nil {
			return err
		}
		r.container = nil
	}
	spec.Trees = []engine.Mount{{Tree: r.tree, Target: archive.ViewMount}}
	c, err := r.engine.Create(ctx, spec)
	if err != nil {
		return err
	}
	r.container = c
	return nil
}

// file returns the file of a package of the plan.
func (r *resolver) file(p cache.Package) (archive.File, bool) {
	i := slices.IndexFunc(r.files, func(f archive.File) bool { return f.SHA256 == p.SHA256 })
	if i < 0 {
		return archive.File{}, false
	}
	return r.files[i], true
}

// close removes container and view. It may be called twice.
func (r *resolver) close(ctx context.Context) error {
	var err error
	if r.container != nil {
		r.lists.wait()
		err = r.container.Close(ctx)
		r.container = nil
	}
	if r.view != nil {
		if e := r.view.Close(); err == nil {
			err = e
		}
		r.view = nil
	}
	return err
}

// start gives apt its settings and the question, and lets it read the archive,
// if that was not done before: it verifies the same InRelease again.
func (r *resolver) start(ctx context.Context, want dependencies) error {
	if err := r.prepare(ctx, want); err != nil {
		return err
	}
	if r.lists != nil && r.lists.known {
		return nil
	}
	if err := r.apt(ctx, r.log, "update"); err != nil {
		return fault.New(fault.Trust, "apt refuses the archive copy: %w", err)
	}
	return nil
}

// move goes on in a new container with what apt has read and verified in the
// one before, which saves a second for each image. Apt takes its lists for what
// they are only while they agree with the archive, which is the same.
func (r *resolver) move(ctx context.Context, spec engine.Spec, want dependencies) error {
	if r.lists != nil && r.lists.known { // nothing has to be moved
		if err := r.enter(ctx, spec); err != nil {
			return err
		}
		return r.prepare(ctx, want)
	}
	var lists bytes.Buffer
	err := runStep(ctx, r.container, engine.Step{
		// pkgcache.bin depends on what is installed; apt makes it from the other.
		Argv: []string{"tar", "-C", "/", "--exclude=pkgcache.bin", "-cf", "-", strings.TrimPrefix(aptLists, "/"), strings.TrimPrefix(aptCache, "/")},
		Env:  rootEnv(), Stdout: &lists, Stderr: r.log,
	})
	if err != nil {
		return err
	}
	if err := r.enter(ctx, spec); err != nil {
		return err
	}
	if err := r.prepare(ctx, want); err != nil {
		return err
	}
	if _, err := r.container.PutFiles(ctx, &lists, engine.PutOptions{KeepDirs: true}); err != nil {
		return fmt.Errorf("prepare apt: %w", err)
	}
	return nil
}

// prepare writes what apt needs into the container.
func (r *resolver) prepare(ctx context.Context, want dependencies) error {
	var buf bytes.Buffer
	if err := writeFiles(&buf, append([]putFile{
		{Name: strings.TrimPrefix(aptConf, "/"), Text: r.settings(), Mode: 0o644},
		{Name: strings.TrimPrefix(depsFile, "/"), Text: dscText(want), Mode: 0o644},
		{Name: strings.TrimPrefix(answerFile, "/"), Text: debconfAnswers, Mode: 0o644},
		{Name: strings.TrimPrefix(aptLists, "/") + "/partial", Dir: true, Mode: 0o755},
		{Name: strings.TrimPrefix(aptCache, "/") + "/archives/partial", Dir: true, Mode: 0o755},
		// Nothing may be started in a container that installs packages.
		{Name: strings.TrimPrefix(policyFile, "/"), Text: "#!/bin/sh\nexit 101\n", Mode: 0o755},
	}, r.lists.put()...)); err != nil {
		return err
	}
	if _, err := r.container.PutFiles(ctx, &buf, engine.PutOptions{KeepDirs: true}); err != nil {
		return fmt.Errorf("prepare apt: %w", err)
	}
	return nil
}

// settings is apt's configuration in the container, beside the part that
// belongs to the view: where it keeps its state, and that it asks nothing. What
// packages leave in apt.conf.d is not read: of the base that is a hook which
// asks questions beforehand, in vain.
func (r *resolver) settings() string {
	return `#include "` + archive.ViewMount + `/apt.conf";
Dir::Etc::parts "/dev/null";
Dir::Etc::main "/dev/null";
Dir::State::lists "` + aptLists + `";
Dir::Cache "` + aptCache + `";
` + r.lists.settings() + `APT::Architecture "` + r.arch + `";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
APT::Get::Assume-Yes "true";
APT::Update::Error-Mode "any";
DPkg::Use-Pty "false";
DPkg::Options { "--force-unsafe-io"; "--force-confnew"; };
quiet "1";
`
}

// apt runs apt-get in the container. An exit code other than 0 is a build
// error here; callers give it its meaning.
func (r *resolver) apt(ctx context.Context, out io.Writer, args ...string) error {
	return runStep(ctx, r.container, engine.Step{
		Argv: append([]string{"apt-get"}, args...), Env: rootEnv("APT_CONFIG="+aptConf, "DEBCONF_DB_OVERRIDE=File{"+answerFile+"}"),
		Stdout: io.MultiWriter(out, r.log), Timeout: r.timeout, Idle: r.idle, // a maintainer script may hang
	})
}

// dscText is a source package that only has build dependencies.
func dscText(want dependencies) string {
	text := "Format: 3.0 (native)\nSource: " + depsSource + "\nArchitecture: any\nVersion: 1\nMaintainer: dbuild <root@localhost>\n"
	if want.Depends != "" {
		text += "Build-Depends: " + want.Depends + "\n"
	}
	if want.Conflicts != "" {
		text += "Build-Conflicts: " + want.Conflicts + "\n"
	}
	return text
}

// runStep runs a step and turns any end but exit code 0 into an error with its
// class.
func runStep(ctx context.Context, c engine.Container, s engine.Step) error {
	exit, err := c.Run(ctx, s)
	if err != nil {
		return EngineError(ctx, fmt.Errorf("run %s: %w", s.Argv[0], err))
	}
	return exitError(s, exit)
}

// EngineError gives what an engine returned its class: we were told to stop,
// its disk is full, it cannot be used here, or it failed.
func EngineError(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return fault.Wrap(fault.Interrupted, err)
	case errors.Is(err, engine.ErrNoSpace), fault.ClassOf(err) == fault.Resource:
		return fault.Wrap(fault.Resource, err)
	case errors.Is(err, engine.ErrUnsupported):
		return engine.Unusable(fault.Wrap(fault.Engine, err))
	}
	return fault.Wrap(fault.Engine, err)
}

// exitError is nil for a step that ended well.
func exitError(s engine.Step, e engine.Exit) error {
	name := s.Argv[0]
	switch e.Reason {
	case engine.ReasonTimeout:
		return fault.New(fault.Timeout, "%s ran longer than %s", name, s.Timeout)
	case engine.ReasonIdle:
		return fault.New(fault.Timeout, "%s printed nothing for %s", name, s.Idle)
	case engine.ReasonOOM:
		return fault.New(fault.Resource, "%s ran out of memory", name)
	case engine.ReasonPIDs:
		return fault.New(fault.Resource, "%s ran out of processes", name)
	case engine.ReasonDisk:
		return fault.New(fault.Resource, "%s ran out of disk space", name)
	case engine.ReasonLost:
		return fault.New(fault.Engine, "the container ended while %s was running", name)
	case engine.ReasonNone:
	}
	switch {
	case e.Signal != 0:
		return fault.New(fault.Build, "%s was killed by signal %d", name, e.Signal)
	case e.Code != 0:
		return fault.New(fault.Build, "%s ended with exit code %d", name, e.Code)
	}
	return nil
}

// putFile is a small file or directory that dbuild writes into a container.
type putFile struct {
	Name     string // relative to /
	Text     string
	Mode     int64
	Dir      bool
	Link     string // target of a symbolic link
	UID, GID int
	Time     time.Time // zero: 1970
}

// writeFiles writes a tar of files. Parents must exist or be listed.
func writeFiles(w io.Writer, files []putFile) error {
	tw := tar.NewWriter(w)
	for _, f := range files {
		h := &tar.Header{Name: f.Name, Mode: f.Mode, Uid: f.UID, Gid: f.GID, Size: int64(len(f.Text)), Typeflag: tar.TypeReg, ModTime: time.Unix(0, 0)}
		if !f.Time.IsZero() {
			h.ModTime = f.Time
		}
		if f.Link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.Link
		}
		if f.Dir {
			h.Typeflag, h.Name, h.Size = tar.TypeDir, f.Name+"/", 0
		}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.WriteString(tw, f.Text); err != nil {
			return err
		}
	}
	return tw.Close()
}
