package cmd

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"dbuild/deb"
	"dbuild/internal/fault"
	"dbuild/internal/state"
	"dbuild/internal/userns"
	"dbuild/repo"
)

// repoOptions are the flags that all verbs of repo honour.
type repoOptions struct {
	common
	refresh bool // ask gpg for the public parts of its keys
}

func (o *repoOptions) addFlags(f *pflag.FlagSet, suite string) {
	f.StringVar(&o.config, "config", "", "settings `FILE` instead of the user's own")
	f.StringVar(&o.state, "state", "", "`DIR` that holds the repository and its key (default /var/lib/dbuild for root, ~/.local/share/dbuild for a user)")
	f.BoolVar(&o.json, "json", false, "print JSON events on stdout and nothing else")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print errors only")
	addSignTimeout(f, &o.signWithin)
	if suite != "" {
		f.StringVarP(&o.dist, "dist", "d", "", suite)
	}
	o.engine, o.arch = "auto", deb.HostArch()
}

// addSignTimeout adds the flag of what publishes.
func addSignTimeout(f *pflag.FlagSet, within *time.Duration) {
	f.DurationVar(within, "sign-timeout", repo.DefaultSignWithin, "give up when the repository's keys have not signed within this `TIME`")
}

func newRepoCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "repo VERB",
		Short: "Look at and change the local apt repository",
		Long: `Look at and change the local apt repository, into which builds publish. Every
change is one step for its readers, signed by the repository's own key; whatever
enters passes the same checks as a build.`,
		Example: "  dbuild repo list\n  dbuild repo add -d bookworm hello_2.10-3_amd64.changes",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Help()
			}
			return fault.WithHint(fault.New(fault.Usage, "repo has no verb %q", args[0]), "%s --help lists them", c.CommandPath())
		},
	}
	c.AddCommand(
		newRepoInitCommand(a), newRepoListCommand(a), newRepoShowCommand(a), newRepoAddCommand(a), newRepoRemoveCommand(a),
		newRepoCopyCommand(a), newRepoSnapshotCommand(a), newRepoRollbackCommand(a), newRepoDropCommand(a), newRepoPublishCommand(a),
		newRepoVerifyCommand(a), newRepoRebuildCommand(a), newRepoGCCommand(a), newRepoKeyCommand(a), newRepoServeCommand(a),
	)
	return c
}

// openRepo is what the verbs of repo work with; it needs neither engine nor
// archive.
type openRepo struct {
	*repo.Repo
	state *state.State
	keys  repoKeys
}

// withRepo opens the repository for fn, and closes it.
func (a *app) withRepo(ctx context.Context, o *repoOptions, fn func(openRepo) error) (err error) {
	obs := a.observer(&o.common)
	defer obs.Close()
	dir := o.state
	if dir == "" {
		if dir, err = state.DefaultDir(userns.CallerUID(), a.getenv); err != nil {
			return err
		}
	}
	r := openRepo{}
	if r.state, err = state.Open(ctx, dir, func(holder string) { obs.Warn("the state is locked by %s; waiting", holder) }); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.state.Close()) }()
	if r.keys, err = openRepoKeys(ctx, r.state, a.userGPG(), o.refresh); err != nil {
		return err
	}
	if err := repo.Migrate(ctx, r.state.DB); err != nil {
		return err
	}
	if r.Repo, err = repo.Open(ctx, r.state.Path("repo"), r.state.DB, r.keys.own, r.keys.options(&o.common, obs)); err != nil {
		return err
	}
	return fn(r)
}

// printResult prints the result event of a verb that has done its work.
func (a *app) printResult(fields map[string]any) error {
	event := map[string]any{"v": 1, "event": "result", "time": time.Now().UTC(), "status": "successful", "class": fault.OK, "exit": 0}
	maps.Copy(event, fields)
	return a.printJSON(event)
}
