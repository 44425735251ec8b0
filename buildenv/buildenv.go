// Package buildenv turns one source package into binary packages. A build is
// nine stages in a fixed order, one file each:
//
//	source    read and verify the source package        source.go
//	base      find or make the signed base image        base.go
//	resolve   which packages the build needs            resolve.go
//	deps      find or make the image that holds them    deps.go
//	build     dpkg-buildpackage, as a user, no network  build.go, pack.go
//	collect   take exactly what the .changes lists      collect.go
//	check     requested checks on the result            check.go
//	sign      the maintainer's signature, if asked      sign.go
//	publish   outputs, local repository, build record   publish.go
//
// Start with [Run]; [Request] is what a user can ask for, [Tools] what the
// build works with, [Result] what it says in the end. The Go API is not
// stable yet.
package buildenv

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"dbuild/archive"
	"dbuild/cache"
	"dbuild/dsc"
	"dbuild/engine"
	"dbuild/internal/atomicfile"
	"dbuild/internal/cleanup"
	"dbuild/internal/fault"
	"dbuild/internal/lock"
	"dbuild/internal/report"
	"dbuild/internal/state"
	"dbuild/repo"
	"dbuild/sign"
)

// Stage is the name of a stage, the same in code, log, events and messages.
type Stage string

// The stages, in their order.
const (
	StageSource  Stage = "source"
	StageBase    Stage = "base"
	StageResolve Stage = "resolve"
	StageDeps    Stage = "deps"
	StageBuild   Stage = "build"
	StageCollect Stage = "collect"
	StageCheck   Stage = "check"
	StageSign    Stage = "sign"
	StagePublish Stage = "publish"
)

// Observer is told what a build does, beside the progress of its parts.
type Observer interface {
	report.Reporter
	StageStart(build string, s Stage)
	StageEnd(build string, s Stage, took time.Duration, said string, err error) // said: what came of it, in a few words
}

// Request is what a user asks for. The zero value of a field is its default
// unless said otherwise.
type Request struct {
	Source string // path or URL of a .dsc, a source tree, or the name of a package in the archive

	Suite      string   // "": from the changelog
	Components []string // beyond those of the suite
	Arch       string   // Debian architecture to build on and for
	ArchAny    bool     // build architecture-dependent packages
	ArchAll    bool     // build architecture-independent packages
	WithSource bool     // a .changes that includes the source

	SourceOnlyChanges bool // beside it a _source.changes
	ForceOrig         bool // include the orig tarball whatever the revision
	CleanSource       bool // run the clean target before a tree is packed

	Profiles            []string
	BuildOptions        string // the caller's DEB_BUILD_OPTIONS
	BuildProfilesEnv    string // the caller's DEB_BUILD_PROFILES, used without Profiles
	BuildpackageOptions []string
	Jobs                int // 0: one for each processor
	AddDepends          []string
	AddConflicts        []string
	ResolveAlternatives bool

	ExtraPackages     []string // .deb files, and directories with some, that may satisfy build dependencies
	ExtraRepositories []string // the same of repositories, as in sources.list(5)
	ExtraKeys         []string // files with keys that may sign ExtraRepositories, beside those of the suite
	WithRepo          bool     // the same of the local repository's suite

	RequireSignature bool
	Offline          bool // do not fetch a .dsc by URL
	Network          bool // the build may use the host's network
	Reuse            bool // take the result of an earlier, equal build
	Refresh          bool // look for a newer base even within its day
	SignKey          string
	Output           string // directory; "": current, or the parent of a tree
	NoRepo, NoLog    bool
	Switches         []string // checks that were switched off, recorded in statements

	Timeout, Idle time.Duration
	LogLimit      int64
	Limits        engine.Limits
	Expiry        Expiry // looked after at the end, at most once an hour

	LogCopy io.Writer // receives the raw log as it grows; nil: none
}

// Tools are the things a build works with. The caller opens and closes them.
type Tools struct {
	State    *state.State
	Engine   engine.Engine
	Archive  *archive.Copy
	Sources  archive.SourceOptions
	Cache    *cache.Store
	Repo     *repo.Repo
	ImageKey *sign.Key
	LocalKey *sign.Key // signs what only builds on this machine read
	// LocalKeyring is a file with its public part.
	LocalKeyring string
	Keyrings     []string // for the signatures of .dsc files
	Observer     Observer
	Now          func() time.Time
	Version      string // of dbuild
}

// build is one build under way. Each stage reads what earlier stages left here.
type build struct {
	Tools
	req Request
	id  string
	dir string // builds/ID
	log *Log
	res Result
	end []func(context.Context) error // undone in reverse order, whatever happens

	output    *os.File // directory of the results
	uid, gid  int      // its owner
	src       *dsc.Source
	suite     archive.Suite
	states    []*archive.State
	extra     extras
	updated   map[string][]*archive.State
	component string
	base      *cache.Entry
	baseSet   []cache.Package
	policy    cache.Policy
	baseCheck func() (cache.Means, error) // compares the stored files with what was signed
	depsCheck func() (cache.Means, error) // the same for the image that the build runs in
	container engine.Container
	packed    bool   // the .dsc was made from a tree
	said      string // what came of the stage under way
	set       []cache.Package
	wanted    dependencies
	resolver  *resolver
	deps      *cache.Entry
	changes   *dsc.Changes
	results   []result

	question   *lock.Lock // while apt is asked and its answer carried out
	origsFound func() ([]dsc.File, error)
	treeHash   string    // of the source tree as it was sent, to find the result again
	reused     [2][]byte // statement of the earlier build whose result this is, and its signature
}

// result is one collected file below builds/ID/results.
type result struct {
	Name, Path, SHA256 string
	Size               int64
}

type stage struct {
	name     Stage
	run      func(*build, context.Context) error
	onReused bool // it is for a result that an earlier build made, too
}

func stages() []stage {
	return []stage{
		{StageSource, (*build).source, true},
		{StageBase, (*build).findBase, true},
		{StageResolve, (*build).resolve, true},
		{StageDeps, (*build).findDeps, false},
		{StageBuild, (*build).build, false},
		{StageCollect, (*build).collect, false},
		{StageCheck, (*build).check, true},
		{StageSign, (*build).sign, false},
		{StagePublish, (*build).publish, true},
	}
}

// errSkipped ends a build for which this architecture has nothing to do.
var errSkipped = errors.New("nothing to build for this architecture")

// Run builds one source package. The result is filled whatever happens; the
// error is the one it describes. Nothing of the build is left running or
// mounted when Run returns.
func Run(ctx context.Context, t Tools, req Request) (res Result, err error) {
	b := &build{Tools: t, req: req, updated: map[string][]*archive.State{}}
	if err := b.begin(ctx); err != nil {
		return b.finish(ctx, "", err)
	}
	var failed Stage
	for _, s := range stages() {
		if b.res.Reused != "" && !s.onReused {
			continue
		}
		if err = b.runStage(ctx, s); err != nil {
			failed = s.name
			break
		}
	}
	res, err = b.finish(ctx, failed, err)
	expireSometimes(ctx, t, req.Expiry)
	return res, err
}

// timed adds the time since start to a timing of the result.
func (b *build) timed(name string, start time.Time) {
	b.res.Timings[name] += time.Since(start).Seconds()
}

func (b *build) runStage(ctx context.Context, s stage) error {
	start := time.Now()
	b.said = ""
	b.Observer.StageStart(b.id, s.name)
	err := s.run(b, ctx)
	if err == nil {
		err = ctx.Err()
	}
	took := time.Since(start)
	b.res.Stages[string(s.name)] = seconds(took)
	shown := err
	if errors.Is(err, errSkipped) {
		shown = nil
	}
	b.Observer.StageEnd(b.id, s.name, took, b.said, shown)
	return err
}

// limitReport says of each limit that was asked for whether the engine enforces
// it here.
func limitReport(want engine.Limits, info engine.Info) map[string]string {
	report := map[string]string{}
	for name, l := range map[string]engine.Limit{"pids": want.PIDs, "memory": want.Memory, "disk": want.Disk} {
		switch {
		case l.Value == 0:
		case slices.Contains(info.Limits, name):
			report[name] = "enforced"
		case info.Partly[name] != "":
			report[name] = "enforced in part: " + info.Partly[name]
		default:
			report[name] = "not enforced: the engine cannot do it on this machine"
		}
	}
	return report
}

// say sets the few words that stand beside the stage's time.
func (b *build) say(format string, args ...any) { b.said = fmt.Sprintf(format, args...) }

// begin makes the build's directory and log.
func (b *build) begin(ctx context.Context) error {
	now := b.Now()
	var r [4]byte
	_, _ = rand.Read(r[:])
	b.id = now.UTC().Format("20060102T150405Z") + "-" + hex.EncodeToString(r[:])
	b.res = Result{
		V: 1, Event: "result", Build: b.id, Time: now.UTC(), Arch: b.req.Arch,
		Stages: map[string]float64{}, Timings: map[string]float64{}, Limits: map[string]string{}, Checked: []string{}, Artifacts: []Artifact{},
	}
	info, err := b.Engine.Info(ctx)
	if err != nil {
		return EngineError(ctx, err)
	}
	b.res.Engine, b.res.Limits = info.Kind, limitReport(b.req.Limits, info)
	b.dir = b.State.Path("builds", b.id)
	if err := os.Mkdir(b.dir, 0o700); err != nil {
		return fmt.Errorf("make build directory: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(b.dir, "log"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("start log: %w", err)
	}
	b.log = newLog(file, b.req.LogCopy, b.req.LogLimit)
	b.res.Log = file.Name()
	b.atEnd(func(context.Context) error { return b.log.Close() })
	return nil
}

// atEnd registers clean-up that runs however the build ends.
func (b *build) atEnd(fn func(context.Context) error) { b.end = append(b.end, fn) }

// finish cleans up, writes the summary and the record, and returns the result.
func (b *build) finish(ctx context.Context, failed Stage, err error) (Result, error) {
	b.res.Time = b.Now().UTC()
	if errors.Is(err, errSkipped) {
		b.res.Status, err = Skipped, nil
	} else if err != nil {
		b.res.Status = Failed
		b.res.FailStage = string(failed)
	} else {
		b.res.Status = Successful
	}
	b.res.Class = fault.ClassOf(err)
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		b.res.Class = fault.Interrupted
	}
	b.res.Exit = ExitCode(b.res.Class)
	if b.log != nil {
		if err != nil {
			b.res.Error = &ErrorResult{Message: Printable(err.Error()), Hint: fault.HintOf(err), Excerpt: b.log.Excerpt()}
		}
		b.writeSummary(err)
	}
	for i := len(b.end) - 1; i >= 0; i-- {
		cleanup.Do(ctx, &err, b.end[i])
	}
	if b.dir != "" {
		err = errors.Join(err, b.writeRecord())
	}
	return b.res, err
}

// writeRecord stores the result beside the log.
func (b *build) writeRecord() error {
	data, err := json.MarshalIndent(b.res, "", " ")
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(b.dir, "result.json"), append(data, '\n'), 0o600)
}

// ExitCode returns dbuild's exit code for a class (design §4). The codes of a
// signal (129, 130, 143) are the command line's business; Interrupted is 130.
func ExitCode(c fault.Class) int {
	switch c {
	case fault.OK:
		return 0
	case fault.Build:
		return 1
	case fault.Usage:
		return 10
	case fault.Input:
		return 11
	case fault.Trust:
		return 12
	case fault.DepWait:
		return 13
	case fault.Timeout:
		return 14
	case fault.Resource:
		return 15
	case fault.Network:
		return 16
	case fault.Engine:
		return 17
	case fault.Locked:
		return 18
	case fault.Check:
		return 19
	case fault.Interrupted:
		return 130
	case fault.Internal:
	}
	return 70
}

func seconds(d time.Duration) float64 {
	return float64(d.Round(time.Millisecond)) / float64(time.Second)
}
