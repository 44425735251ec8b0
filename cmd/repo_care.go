package cmd

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"dbuild/buildenv"
	"dbuild/internal/fault"
)

func newRepoVerifyCommand(a *app) *cobra.Command {
	o := &repoOptions{}
	c := &cobra.Command{
		Use:   "verify [flags]",
		Short: "Check every signature, index and file",
		Long: `Read the whole repository as its clients see it: signatures, indexes, and every
file that they list. Nothing is changed. What does not fit is printed, and the
exit status is 12.`,
		Example: "  dbuild repo verify",
		Args:    a.atMost(0, "no argument"),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			return a.withRepo(c.Context(), o, func(r openRepo) error { return a.repoVerify(c, o, r) })
		},
	}
	o.addFlags(c.Flags(), "")
	return c
}

func (a *app) repoVerify(c *cobra.Command, o *repoOptions, r openRepo) error {
	v, err := r.Verify(c.Context())
	if err != nil {
		return err
	}
	if n := len(v.Findings); n > 0 {
		err = fault.New(fault.Trust, "verify %q: %s", r.Dir(), plural(n, "finding", "findings"))
	}
	if o.json {
		fields := map[string]any{"verified": v}
		if err != nil {
			a.json = false // this event has the error
			fields["status"], fields["class"], fields["exit"] = "failed", fault.Trust, buildenv.ExitCode(fault.Trust)
			fields["error"] = map[string]any{"message": err.Error(), "hint": "", "excerpt": []string{}}
		}
		if e := a.printResult(fields); e != nil {
			return e
		}
		return err
	}
	for _, f := range v.Findings {
		if _, e := fmt.Fprintf(a.stdout, "%s: %s\n", filepath.Join(r.Dir(), f.Path), buildenv.Printable(f.Text)); e != nil {
			return e
		}
	}
	if !o.quiet && err == nil {
		_, err = fmt.Fprintf(a.stderr, "good: %s, %s, %s of the pool\n", plural(v.Suites, "suite", "suites"), plural(v.Indexes, "index", "indexes"), plural(v.Files, "file", "files"))
	}
	return err
}

func newRepoRebuildCommand(a *app) *cobra.Command {
	o := &repoOptions{}
	c := &cobra.Command{
		Use:   "rebuild [flags]",
		Short: "Make again what was lost, from what is signed",
		Long: `Fill the database again from the signed indexes of each suite, and make dists and
the settings of suites again where they were lost: the repository keeps further
names of the signed indexes in records/, and the Release files hold the rules. This
happens by itself when something does not fit; the verb is for a database that was
damaged, and shows at once whether all is there.`,
		Example: "  dbuild repo rebuild",
		Args:    a.atMost(0, "no argument"),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			return a.withRepo(c.Context(), o, func(r openRepo) error {
				err := r.Rebuild(c.Context())
				if err != nil || !o.json {
					return err
				}
				return a.printResult(nil)
			})
		},
	}
	o.addFlags(c.Flags(), "")
	return c
}

func newRepoGCCommand(a *app) *cobra.Command {
	o := &repoOptions{}
	c := &cobra.Command{
		Use:   "gc [flags]",
		Short: "Remove what no reader can still need",
		Long: `Remove superseded generations, indexes and files: those that were replaced more
than a day ago and are not among the last 20 generations. "dbuild clean" does
the same, and more.`,
		Example: "  dbuild repo gc",
		Args:    a.atMost(0, "no argument"),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			return a.withRepo(c.Context(), o, func(r openRepo) error {
				gone, err := r.Collect(c.Context(), time.Now())
				if err != nil {
					return err
				}
				if o.json {
					return a.printResult(map[string]any{"removed": map[string]any{
						"generations": gone.Generations, "indexes": gone.Indexes, "files": gone.PoolFiles, "bytes": gone.Bytes,
					}})
				}
				if o.quiet {
					return nil
				}
				_, err = fmt.Fprintf(a.stdout, "removed: %s, %s, %s of the pool, %d bytes\n",
					plural(gone.Generations, "generation", "generations"), plural(gone.Indexes, "index", "indexes"), plural(gone.PoolFiles, "file", "files"), gone.Bytes)
				return err
			})
		},
	}
	o.addFlags(c.Flags(), "")
	return c
}
