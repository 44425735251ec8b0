package cmd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"dbuild/buildenv"
	"dbuild/internal/fault"
)

// buildOptions are the flags of the build verb, named as sbuild names them.
type buildOptions struct {
	common
	cacheBudget
	archAll, noArchAll, archAny, noArchAny bool
	source, forceOrig                      bool
	sourceOnlyChanges                      bool
	jobs                                   int
	key                                    string
	noLog                                  bool
	profiles                               []string
	addDepends, addConflicts               []string
	extraPackages, extraRepos, extraKeys   []string
	withRepo                               bool
	resolveAlternatives, cleanSource       bool
	debbuildopts                           []string
	output                                 string
	noRepo                                 bool
	requireSignature, network, refresh     bool
	reuse, noReuse                         bool
	timeout, idle                          time.Duration
	memory, disk                           string
	strict                                 bool
}

func newBuildCommand(a *app) *cobra.Command {
	o := &buildOptions{}
	c := &cobra.Command{
		Use:   "build [flags] [SOURCE]",
		Short: "Build a source package into signed .debs in the local repository",
		Long: `Build a source package in a throwaway container that was made from a base image
which this machine bootstrapped, verified and signed itself.

SOURCE is a .dsc file or URL, a source tree (default: the current directory) or
the name of a source package in the archive: hello, hello=2.10-3, hello_2.10-3,
hello/bookworm. A verb wins over a name: "dbuild build config" builds a package
called config.

Exit status: 0 done, or nothing to do for this architecture · 1 the package
failed to build · 10 usage · 11 malformed or unsafe input · 12 trust ·
13 build dependencies cannot be satisfied · 14 timeout · 15 resource ·
16 network · 17 engine · 18 locked · 19 a requested check failed ·
70 bug · 129/130/143 interrupted.`,
		Example: `  # build a source package of the archive for bookworm
  dbuild -d bookworm hello
  # build the package in the current directory for the suite of its changelog
  dbuild
  # build a .dsc and sign the result
  dbuild -k 0123456789ABCDEF hello_2.10-3.dsc`,
		Args: a.atMost(1, "one SOURCE"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			source := "."
			if len(args) > 0 {
				source = args[0]
			}
			return a.runBuild(c.Context(), o, source)
		},
	}
	o.addFlags(c.Flags())
	return c
}

func (o *buildOptions) addFlags(f *pflag.FlagSet) {
	o.common.addFlags(f)
	o.cacheBudget.addFlags(f)
	f.BoolVarP(&o.archAll, "arch-all", "A", true, "build architecture-independent packages too")
	f.BoolVar(&o.noArchAll, "no-arch-all", false, "do not build architecture-independent packages")
	f.BoolVar(&o.archAny, "arch-any", true, "build architecture-dependent packages")
	f.BoolVar(&o.noArchAny, "no-arch-any", false, "do not build architecture-dependent packages")
	f.BoolVarP(&o.source, "source", "s", false, "include the source package in the .changes")
	f.BoolVar(&o.forceOrig, "force-orig-source", false, "include the orig tarball whatever the revision")
	f.BoolVar(&o.sourceOnlyChanges, "source-only-changes", false, "write a _source.changes as well")
	f.IntVarP(&o.jobs, "jobs", "j", 0, "`N` parallel jobs (default: one for each processor)")
	f.StringVarP(&o.key, "keyid", "k", "", "sign .changes, .buildinfo and a .dsc made from a tree with `KEYID` of your gpg")
	f.BoolVarP(&o.noLog, "nolog", "n", false, "write no log file beside the results")
	f.StringSliceVar(&o.profiles, "profiles", nil, "active build `PROFILES`")
	f.StringArrayVar(&o.addDepends, "add-depends", nil, "add `RELATION` to Build-Depends")
	f.StringArrayVar(&o.addConflicts, "add-conflicts", nil, "add `RELATION` to Build-Conflicts")
	f.StringArrayVar(&o.extraPackages, "extra-package", nil, "let `FILE` (.deb, or a directory with some) satisfy build dependencies")
	f.StringArrayVar(&o.extraRepos, "extra-repository", nil, "the same of a `REPOSITORY`, written as in sources.list(5)")
	f.StringArrayVar(&o.extraKeys, "extra-repository-key", nil, "`FILE` with a key that may sign extra repositories")
	f.BoolVar(&o.withRepo, "with-repo", false, "the same of the local repository")
	f.BoolVar(&o.resolveAlternatives, "resolve-alternatives", false, "let apt take any alternative of a build dependency, not the first only")
	f.BoolVar(&o.cleanSource, "clean-source", false, "run the clean target before a tree is packed")
	f.StringArrayVar(&o.debbuildopts, "debbuildopts", nil, "`OPTIONS` for dpkg-buildpackage, split at spaces")
	f.StringVarP(&o.output, "output", "o", "", "`DIR` for the results (default: the current directory, the parent of a tree)")
	addSignTimeout(f, &o.signWithin)
	f.BoolVar(&o.noRepo, "no-repo", false, "do not publish into the local repository")
	addSignDebs(f, &o.signDebs)
	f.BoolVar(&o.requireSignature, "require-signature", false, "refuse a .dsc without a good signature by a known key")
	f.BoolVar(&o.network, "network", false, "let the build use the host's network; recorded")
	f.BoolVar(&o.reuse, "reuse", false, "take the result of an earlier, equal build (default: where $CI is set and nobody looks on)")
	f.BoolVar(&o.noReuse, "no-reuse", false, "build in any case")
	f.BoolVar(&o.refresh, "refresh", false, "look for updates of the base image now")
	f.DurationVar(&o.timeout, "timeout", 0, "end a build that runs longer than this `TIME` (0: never)")
	f.DurationVar(&o.idle, "idle-timeout", 150*time.Minute, "end a build that prints nothing for this `TIME` (0: never)")
	f.StringVar(&o.memory, "memory", "", "bound the build's memory to `SIZE`, such as 4G")
	f.StringVar(&o.disk, "disk", "", "bound what the build's files take on the disk to `SIZE`, such as 20G")
	f.BoolVar(&o.strict, "strict-limits", false, "refuse to build when a limit cannot be enforced")
}

func (o *buildOptions) request(a *app, source string) (buildenv.Request, error) {
	lim, err := limits(o.memory, o.disk, o.strict)
	if err != nil {
		return buildenv.Request{}, err
	}
	expiry, err := o.expiry()
	if err != nil {
		return buildenv.Request{}, err
	}
	if o.jobs < 0 || o.timeout < 0 || o.idle < 0 {
		return buildenv.Request{}, fault.New(fault.Usage, "--jobs, --timeout and --idle-timeout take no negative values")
	}
	var opts []string
	for _, s := range o.debbuildopts {
		opts = append(opts, strings.Fields(s)...)
	}
	switches := o.switches()
	if o.network {
		switches = append(switches, "network")
	}
	req := buildenv.Request{
		Source: source, Suite: o.dist, Components: o.parts, Arch: o.arch,
		ArchAny: o.archAny && !o.noArchAny, ArchAll: o.archAll && !o.noArchAll, WithSource: o.source,
		SourceOnlyChanges: o.sourceOnlyChanges, ForceOrig: o.forceOrig, CleanSource: o.cleanSource,
		Profiles: o.profiles, BuildOptions: a.getenv("DEB_BUILD_OPTIONS"), BuildProfilesEnv: a.getenv("DEB_BUILD_PROFILES"),
		BuildpackageOptions: opts, Jobs: o.jobs, AddDepends: o.addDepends, AddConflicts: o.addConflicts,
		ExtraPackages: o.extraPackages, ExtraRepositories: o.extraRepos, ExtraKeys: o.extraKeys, WithRepo: o.withRepo,
		ResolveAlternatives: o.resolveAlternatives, RequireSignature: o.requireSignature, Offline: o.offline, Network: o.network,
		Reuse: o.wantsReuse(a), Refresh: o.refresh, SignKey: o.key, Output: o.output, NoRepo: o.noRepo, NoLog: o.noLog, Switches: switches,
		Timeout: o.timeout, Idle: o.idle, LogLimit: 1 << 30, Limits: lim, Expiry: expiry,
	}
	if !req.ArchAny && !req.ArchAll && !req.WithSource {
		return req, fault.WithHint(fault.New(fault.Usage, "nothing to build is left"), "drop one of --no-arch-any, --no-arch-all or add --source")
	}
	return req, nil
}

// wantsReuse is what the flags or settings say, else whether nobody attends: a
// CI service says in the environment that it runs this, and stderr is no
// terminal.
func (o *buildOptions) wantsReuse(a *app) bool {
	switch {
	case o.noReuse:
		return false
	case o.origins["reuse"] != "built-in":
		return o.reuse
	}
	ci := strings.ToLower(a.getenv("CI"))
	return ci != "" && ci != "false" && ci != "0" && !isTerminal(a.stderr)
}

func (a *app) runBuild(ctx context.Context, o *buildOptions, source string) error {
	req, err := o.request(a, source)
	if err != nil {
		return err
	}
	obs := a.observer(&o.common)
	defer obs.Close()
	if o.verbose && !o.json {
		req.LogCopy = obs.LogWriter()
	}
	w, err := a.open(ctx, &o.common, obs)
	if err != nil {
		return err
	}
	defer w.close()
	res, err := buildenv.Run(ctx, w.Tools, req)
	if res.Class == fault.Interrupted {
		res.Exit = exitCode(ctx, res.Class)
	}
	obs.Close()
	a.exit = res.Exit
	if o.json {
		a.json = false // the result event has the error
		return errors.Join(a.printJSON(res), err)
	}
	if err != nil {
		a.printFailure(o, res)
		return err
	}
	a.printSuccess(o, res)
	return nil
}

// printSuccess names the results, one path a line, on stdout.
func (a *app) printSuccess(o *buildOptions, res buildenv.Result) {
	for _, f := range res.Artifacts {
		_, _ = fmt.Fprintln(a.stdout, f.Path)
	}
	if o.quiet {
		return
	}
	if res.Status == buildenv.Skipped {
		_, _ = fmt.Fprintf(a.stderr, "%s %s: nothing to build for %s\n", res.Source, res.Version, res.Arch)
		return
	}
	if res.Reused != "" {
		_, _ = fmt.Fprintf(a.stderr, "reused the result of build %s: same source, build dependencies and options\n", res.Reused)
	}
	if res.Repo != nil {
		_, _ = fmt.Fprintf(a.stderr, "published in %s, suite %s\n", res.Repo.Path, res.Repo.Suite)
	}
}

// printFailure shows the end of the log of a failed build.
func (a *app) printFailure(o *buildOptions, res buildenv.Result) {
	switch res.Class {
	case fault.Build, fault.Timeout, fault.Resource, fault.DepWait:
	default:
		return // the error line says it all
	}
	if res.Error != nil && !o.verbose {
		for _, line := range res.Error.Excerpt {
			_, _ = fmt.Fprintf(a.stderr, "  | %s\n", line)
		}
	}
	if res.Log != "" && !o.quiet {
		_, _ = fmt.Fprintf(a.stderr, "log: %s\n", res.Log)
	}
}
