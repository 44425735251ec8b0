package cmd

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dbuild/internal/fault"
	"dbuild/repo"
)

// suiteArg is the suite that a verb is about: of -d, or its one argument.
func suiteArg(c *cobra.Command, o *repoOptions, args []string) (string, error) {
	switch {
	case len(args) == 1 && (o.dist == "" || o.dist == args[0]):
		return args[0], nil
	case len(args) == 0 && o.dist != "":
		return o.dist, nil
	case len(args) > 0:
		return "", fault.New(fault.Usage, "-d %s and %q name two suites", o.dist, args[0])
	}
	return "", errNoSuite(c)
}

func newRepoInitCommand(a *app) *cobra.Command {
	o := &repoOptions{}
	var s repo.Suite
	debug := ""
	c := &cobra.Command{
		Use:   "init [flags] SUITE",
		Short: "Make a suite, or change its rules",
		Long: `Make a suite with its identity and its rules, empty, so that apt can name it at
once. Origin, label, suite, codename and the two "automatic" fields are fixed from
then on, because apt refuses a repository where they change.

For a suite that exists, its rules and its description become what the flags that
are given say; architectures and components are added.`,
		Example: `  dbuild repo init --origin Example --label Example --valid-for 14 bookworm
  dbuild repo init --immutable --notautomatic --butautomaticupgrades bookworm-backports`,
		Args: a.atMost(1, "one SUITE"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			name, err := suiteArg(c, o, args)
			if err != nil {
				return err
			}
			s.Name, s.Debug = name, repo.Debug(debug)
			return a.withRepo(c.Context(), o, func(r openRepo) error { return a.repoInit(c, o, r, s) })
		},
	}
	o.addFlags(c.Flags(), "`SUITE` to make")
	f := c.Flags()
	f.StringVar(&s.Origin, "origin", "", "Origin `TEXT` (default dbuild)")
	f.StringVar(&s.Label, "label", "", "Label `TEXT` (default dbuild)")
	f.StringVar(&s.Suite, "suite", "", "Suite `NAME`, such as stable (default SUITE)")
	f.StringVar(&s.Codename, "codename", "", "Codename `NAME`, such as bookworm (default SUITE)")
	f.StringVar(&s.Description, "description", "", "Description `TEXT`")
	f.BoolVar(&s.NotAutomatic, "notautomatic", false, "apt installs from it only when asked")
	f.BoolVar(&s.ButAutomaticUpgrades, "butautomaticupgrades", false, "with --notautomatic: what came from it is upgraded")
	f.StringSliceVar(&s.Architectures, "architectures", nil, "`ARCH`itectures that it has from the start (default: this machine's)")
	f.StringSliceVar(&s.Components, "component", nil, "`COMPONENT`s that it has from the start (default main)")
	f.BoolVar(&s.Immutable, "immutable", false, "refuse other bytes under a name that it lists")
	f.BoolVar(&s.Rising, "rising", false, "refuse a version below the highest of a package")
	f.IntVar(&s.Keep, "keep", 0, "keep `N` versions of a package, the highest (default: all)")
	f.IntVar(&s.KeepDays, "keep-days", 0, "keep lower versions for `DAYS`")
	f.StringVar(&debug, "debug", "", "debug packages go into SUITE-debug (`suite`) or COMPONENT-debug (component)")
	f.IntVar(&s.ValidDays, "valid-for", 0, "its Release expires after `DAYS` unless it is signed again (default: never)")
	f.BoolVar(&s.Contents, "contents", false, "list the files of packages, for apt-file")
	f.BoolVar(&s.Translations, "translations", false, "long descriptions in Translation-en")
	f.BoolVar(&s.XZ, "xz", false, "indexes in xz, too")
	return c
}

// repoInit makes the suite, or changes one that exists as far as flags were
// given.
func (a *app) repoInit(c *cobra.Command, o *repoOptions, r openRepo, s repo.Suite) error {
	suites, err := r.Suites()
	if err != nil {
		return err
	}
	exists := false
	for _, have := range suites {
		exists = exists || have.Name == s.Name
	}
	if exists {
		err = r.ChangeSuite(c.Context(), s.Name, func(have *repo.Suite) error {
			changeSuite(c, have, s)
			return nil
		})
	} else {
		err = r.CreateSuite(c.Context(), s)
	}
	if err != nil || !o.json {
		return err
	}
	return a.printResult(map[string]any{"repo": r.Dir(), "suite": s.Name, "created": !exists})
}

// changeSuite takes over what flags say.
func changeSuite(c *cobra.Command, have *repo.Suite, s repo.Suite) {
	for flag, set := range map[string]func(){
		"origin": func() { have.Origin = s.Origin }, "label": func() { have.Label = s.Label },
		"suite": func() { have.Suite = s.Suite }, "codename": func() { have.Codename = s.Codename },
		"notautomatic":         func() { have.NotAutomatic = s.NotAutomatic },
		"butautomaticupgrades": func() { have.ButAutomaticUpgrades = s.ButAutomaticUpgrades },
		"description":          func() { have.Description = s.Description },
		"architectures":        func() { have.Architectures = s.Architectures },
		"component":            func() { have.Components = s.Components },
		"immutable":            func() { have.Immutable = s.Immutable },
		"rising":               func() { have.Rising = s.Rising },
		"keep":                 func() { have.Keep = s.Keep }, "keep-days": func() { have.KeepDays = s.KeepDays },
		"debug": func() { have.Debug = s.Debug }, "valid-for": func() { have.ValidDays = s.ValidDays },
		"contents": func() { have.Contents = s.Contents }, "translations": func() { have.Translations = s.Translations },
		"xz": func() { have.XZ = s.XZ },
	} {
		if c.Flags().Changed(flag) {
			set()
		}
	}
}

func newRepoPublishCommand(a *app) *cobra.Command {
	o := &repoOptions{}
	force := false
	c := &cobra.Command{
		Use:   "publish [flags] [SUITE]",
		Short: "Sign suites again whose time runs out",
		Long: `Make a new generation of each suite (or of one) whose Release has used half of the
time for which it is valid, whose rules changed, or into which a dbuild that was
killed had brought something. Everything else is left as it is; --force signs
again in any case. Run it daily where suites have a --valid-for.`,
		Example: "  dbuild repo publish",
		Args:    a.atMost(1, "at most one SUITE"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			if len(args) == 1 {
				o.dist = args[0]
			}
			return a.withRepo(c.Context(), o, func(r openRepo) error { return a.repoPublish(c, o, r, force) })
		},
	}
	o.addFlags(c.Flags(), "only `SUITE`")
	c.Flags().BoolVar(&force, "force", false, "sign again even if nothing is due")
	return c
}

func (a *app) repoPublish(c *cobra.Command, o *repoOptions, r openRepo, force bool) error {
	names := []string{o.dist}
	if o.dist == "" {
		suites, err := r.Suites()
		if err != nil {
			return err
		}
		names = nil
		for _, s := range suites {
			names = append(names, s.Name)
		}
	}
	type published struct {
		Suite      string    `json:"suite"`
		Generation int       `json:"generation"`
		Date       time.Time `json:"date"`
	}
	all := []published{}
	for _, name := range names {
		do := r.Settle
		if force {
			do = r.Resign
		}
		n, date, err := do(c.Context(), name)
		if err != nil {
			return err
		}
		all = append(all, published{name, n, date})
		if !o.json && !o.quiet {
			if _, err := fmt.Fprintf(a.stdout, "%s: generation %d of %s\n", name, n, date.UTC().Format(time.RFC3339)); err != nil {
				return err
			}
		}
	}
	if !o.json {
		return nil
	}
	return a.printResult(map[string]any{"repo": r.Dir(), "suites": all})
}

func newRepoSnapshotCommand(a *app) *cobra.Command {
	o := &repoOptions{}
	c := &cobra.Command{
		Use:   "snapshot [flags] -d SUITE NAME",
		Short: "Keep a suite as it is now under another name",
		Long: `Make a suite NAME that lists what SUITE lists now and never changes. apt can name
it like any other, and "repo rollback" can go back to it. The packages are the
same files.`,
		Example: "  dbuild repo snapshot -d bookworm bookworm-2026-11",
		Args:    a.exactlyOne("the NAME of the snapshot"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			if o.dist == "" {
				return errNoSuite(c)
			}
			return a.withRepo(c.Context(), o, func(r openRepo) error {
				if err := r.Snapshot(c.Context(), o.dist, args[0]); err != nil || !o.json {
					return err
				}
				return a.printResult(map[string]any{"repo": r.Dir(), "suite": o.dist, "snapshot": args[0]})
			})
		},
	}
	o.addFlags(c.Flags(), "`SUITE` to keep")
	return c
}

func newRepoRollbackCommand(a *app) *cobra.Command {
	o := &repoOptions{}
	to, snapshot, list := 0, "", false
	c := &cobra.Command{
		Use:   "rollback [flags] -d SUITE",
		Short: "Let a suite list again what it listed before",
		Long: `Let a suite list again what it listed in the generation before the current one, in
another one, or what a snapshot lists. Readers see a new generation with a new
date. What left the suite and what came back is printed. To undo it, go back to
the number that the suite had: generations stay for a day, and the last 20.`,
		Example: `  dbuild repo rollback -d bookworm --list
  dbuild repo rollback -d bookworm --generation 17
  dbuild repo rollback -d bookworm --snapshot bookworm-2026-11`,
		Args: a.atMost(1, "one SUITE"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			name, err := suiteArg(c, o, args)
			if err != nil {
				return err
			}
			if c.Flags().Changed("generation") && (snapshot != "" || to < 1) {
				return fault.New(fault.Usage, "--generation takes a number, and goes without --snapshot")
			}
			return a.withRepo(c.Context(), o, func(r openRepo) error {
				if list {
					return a.repoGenerations(c, o, r, name)
				}
				return a.repoRollback(c, o, r, name, to, snapshot)
			})
		},
	}
	o.addFlags(c.Flags(), "`SUITE` to change")
	c.Flags().IntVar(&to, "generation", 0, "go back to generation `N`")
	c.Flags().StringVar(&snapshot, "snapshot", "", "go back to what `NAME` lists")
	c.Flags().BoolVar(&list, "list", false, "only list the generations that are there")
	return c
}

func (a *app) repoGenerations(c *cobra.Command, o *repoOptions, r openRepo, suite string) error {
	all, err := r.Generations(c.Context(), suite)
	if err != nil {
		return err
	}
	if o.json {
		return a.printResult(map[string]any{"suite": suite, "generations": all})
	}
	for _, g := range all {
		mark := map[bool]string{true: " current"}[g.Current]
		if _, err := fmt.Fprintf(a.stdout, "%d %s%s\n", g.Number, g.Date.UTC().Format(time.RFC3339), mark); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) repoRollback(c *cobra.Command, o *repoOptions, r openRepo, suite string, n int, snapshot string) error {
	gone, back, err := r.Rollback(c.Context(), suite, n, snapshot)
	if err != nil {
		return err
	}
	if o.json {
		return a.printResult(map[string]any{"suite": suite, "removed": gone, "restored": back})
	}
	for _, part := range []struct {
		sign string
		list []repo.Package
	}{{"-", gone}, {"+", back}} {
		var b strings.Builder
		if err := printMadison(&b, part.list); err != nil {
			return err
		}
		for line := range strings.Lines(b.String()) {
			if _, err := fmt.Fprint(a.stdout, part.sign+" "+line); err != nil {
				return err
			}
		}
	}
	return nil
}

func newRepoDropCommand(a *app) *cobra.Command {
	o := &repoOptions{}
	force := false
	c := &cobra.Command{
		Use:   "drop [flags] SUITE",
		Short: "Take a suite or a snapshot out of the repository",
		Long: `Take a suite or a snapshot, with its rules and generations, out of the repository:
from then on readers do not find it. Its debug suite goes with it. What it listed is
printed; "repo gc" removes the files that no other suite lists. There is no way
back, so a suite that lists packages and is no snapshot wants --force.`,
		Example: "  dbuild repo drop bookworm-2026-11",
		Args:    a.atMost(1, "one SUITE"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			name, err := suiteArg(c, o, args)
			if err != nil {
				return err
			}
			return a.withRepo(c.Context(), o, func(r openRepo) error {
				gone, err := r.Drop(c.Context(), name, force)
				if err != nil {
					return err
				}
				if o.json {
					return a.printResult(map[string]any{"repo": r.Dir(), "suite": name, "removed": gone})
				}
				return printMadison(a.stdout, gone)
			})
		},
	}
	o.addFlags(c.Flags(), "`SUITE` to drop")
	c.Flags().BoolVar(&force, "force", false, "even if it lists packages")
	return c
}

func newRepoCopyCommand(a *app) *cobra.Command {
	o := &repoOptions{}
	to, bySource := "", false
	c := &cobra.Command{
		Use:     "copy [flags] -d SUITE --to SUITE PACKAGE[=VERSION]…",
		Aliases: []string{"promote"},
		Short:   "List packages of one suite in another as well",
		Long: `List packages of one suite in another as well, all in one step: the same files, so
the same bytes. The rules of the other suite hold. A PACKAGE that the first suite
does not have is an error, exit status 10, and then nothing is copied. What was
copied is printed.`,
		Example: "  dbuild repo promote -d testing --to stable --by-source hello=2.10-3",
		Args:    a.atLeastOne("at least one PACKAGE"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			if o.dist == "" {
				return errNoSuite(c)
			}
			if to == "" {
				return fault.WithHint(fault.New(fault.Usage, "no suite to copy to given"), "%s -d SUITE --to SUITE …", c.CommandPath())
			}
			return a.withRepo(c.Context(), o, func(r openRepo) error {
				copied, err := r.Copy(c.Context(), repo.Copying{
					Selection: repo.Selection{Suite: o.dist, Names: args, BySource: bySource}, To: to,
				})
				if err != nil {
					return err
				}
				if o.json {
					return a.printResult(map[string]any{"copied": copied})
				}
				return printMadison(a.stdout, copied)
			})
		},
	}
	o.addFlags(c.Flags(), "`SUITE` to copy from")
	c.Flags().StringVar(&to, "to", "", "`SUITE` to copy to")
	c.Flags().BoolVar(&bySource, "by-source", false, "names are those of sources; all that was built from them comes, too")
	return c
}

// exactlyOne is cobra.ExactArgs(1) with an error of the usage class.
func (a *app) exactlyOne(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		return errors.Join(a.atLeastOne(what)(c, args), a.atMost(1, what)(c, args))
	}
}
