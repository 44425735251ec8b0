package cmd

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/spf13/cobra"

	"dbuild/internal/fault"
	"dbuild/repo"
)

func newRepoAddCommand(a *app) *cobra.Command {
	o := &repoOptions{}
	component := ""
	c := &cobra.Command{
		Use:   "add [flags] -d SUITE FILE…",
		Short: "Add .changes, .dsc, .deb and .udeb files to a suite",
		Long: `Add packages to a suite. FILE is a .changes or .dsc, whose files are beside it, or
a .deb or .udeb; packages of one source are added together.

All checks of a build's results are made, and every reason to refuse is told at
once; an upload that is refused leaves no trace. A suite that does not exist is
made, and keeps the bytes of each name for ever: other bytes under the same name
are refused.

Exit status: 0 all is in the suite (it may have been before) · 10 usage ·
11 refused · 15 the disk is full · 18 locked.`,
		Example: "  dbuild repo add -d bookworm hello_2.10-3_amd64.changes",
		Args:    a.atLeastOne("at least one FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			if o.dist == "" {
				return errNoSuite(c)
			}
			return a.withRepo(c.Context(), o, func(r openRepo) error {
				return a.repoAdd(c.Context(), o, r, component, args)
			})
		},
	}
	o.addFlags(c.Flags(), "`SUITE` to add to")
	addSignDebs(c.Flags(), &o.signDebs)
	c.Flags().StringVar(&component, "component", "", "`COMPONENT` for all files (default: as their sections say)")
	return c
}

func errNoSuite(c *cobra.Command) error {
	return fault.WithHint(fault.New(fault.Usage, "no suite given"), "%s -d SUITE …", c.CommandPath())
}

// repoAdd publishes all uploads side by side, so that they share a generation.
func (a *app) repoAdd(ctx context.Context, o *repoOptions, r openRepo, component string, paths []string) error {
	uploads, err := repo.ReadUploads(o.dist, paths)
	if err != nil {
		return err
	}
	done, errs := make([]repo.Published, len(uploads)), make([]error, len(uploads))
	var wg sync.WaitGroup
	for i, u := range uploads {
		u.Component, u.Immutable = component, true
		wg.Go(func() { done[i], errs[i] = r.Publish(ctx, u) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if o.json {
		return a.printResult(map[string]any{"repo": r.Dir(), "suite": o.dist, "uploads": done})
	}
	for _, p := range done {
		for _, f := range p.Files {
			if _, err := fmt.Fprintln(a.stdout, filepath.Join(p.Path, f.Path)); err != nil {
				return err
			}
		}
	}
	return nil
}

func newRepoRemoveCommand(a *app) *cobra.Command {
	o := &repoOptions{}
	bySource := false
	c := &cobra.Command{
		Use:   "remove [flags] -d SUITE PACKAGE[=VERSION]…",
		Short: "Take packages out of a suite",
		Long: `Take binary and source packages of a name, or one version of them, out of a
suite, all in one step. What was removed is printed. Files stay for a day, for
readers that are half way through. A PACKAGE that the suite does not have is an
error, exit status 10, and then nothing is removed.`,
		Example: `  # the package hello, whatever its source
  dbuild repo remove -d bookworm hello
  # one version of a source and everything that was built from it
  dbuild repo remove -d bookworm --by-source hello=2.10-3`,
		Args: a.atLeastOne("at least one PACKAGE"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			if o.dist == "" {
				return errNoSuite(c)
			}
			return a.withRepo(c.Context(), o, func(r openRepo) error {
				removed, err := r.Remove(c.Context(), repo.Selection{Suite: o.dist, Names: args, BySource: bySource})
				if err != nil {
					return err
				}
				if o.json {
					return a.printResult(map[string]any{"removed": removed})
				}
				return printMadison(a.stdout, removed)
			})
		},
	}
	o.addFlags(c.Flags(), "`SUITE` to remove from")
	c.Flags().BoolVar(&bySource, "by-source", false, "names are those of sources; all that was built from them goes, too")
	return c
}

// problems are the reasons of refused uploads, for the result event.
func problems(err error) (all []repo.Problem) {
	var list interface{ Unwrap() []error }
	if errors.As(err, &list) {
		for _, e := range list.Unwrap() {
			all = append(all, problems(e)...)
		}
		return all
	}
	var rejected *repo.RejectedError
	if errors.As(err, &rejected) {
		return rejected.Problems
	}
	return nil
}

// plural writes a count with its noun.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
