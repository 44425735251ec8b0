package cmd

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dbuild/internal/fault"
	"dbuild/repo"
)

func newRepoShowCommand(a *app) *cobra.Command {
	o := &repoOptions{}
	c := &cobra.Command{
		Use:   "show [flags] [PACKAGE…]",
		Short: "Show suites, or what the indexes say of packages",
		Long: `Show the stanza of every version of a binary or source package, as it is in the
index of its suite; without a PACKAGE, show the suites: what their Release files
say, and their rules as the flags of "repo init".`,
		Example: `  dbuild repo show -d bookworm
  dbuild repo show -d bookworm hello`,
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			return a.withRepo(c.Context(), o, func(r openRepo) error {
				if len(args) == 0 {
					return a.showSuites(c.Context(), o, r)
				}
				found, err := r.query(c, o, args)
				if err != nil {
					return err
				}
				return a.showPackages(o, found)
			})
		},
	}
	o.addFlags(c.Flags(), "show only what is in `SUITE`")
	return c
}

func (a *app) showPackages(o *repoOptions, found []repo.Package) error {
	if o.json {
		type shown struct {
			repo.Package
			Stanza string `json:"stanza"`
		}
		var all []shown
		for _, p := range found {
			all = append(all, shown{p, p.Stanza})
		}
		return a.printResult(map[string]any{"packages": all})
	}
	for i, p := range found {
		text := p.Stanza
		if i > 0 {
			text = "\n" + text
		}
		if _, err := io.WriteString(a.stdout, text); err != nil {
			return err
		}
	}
	return nil
}

// shownSuite is a suite with the generation that clients see; a suite whose
// making was interrupted has none.
type shownSuite struct {
	repo.Suite
	Generation int       `json:"generation,omitempty"`
	Date       time.Time `json:"date,omitzero"`
}

func (a *app) showSuites(ctx context.Context, o *repoOptions, r openRepo) error {
	suites, err := r.Suites()
	if err != nil {
		return err
	}
	all := []shownSuite{}
	for _, s := range suites {
		if o.dist != "" && s.Name != o.dist {
			continue
		}
		generations, err := r.Generations(ctx, s.Name)
		if err != nil {
			return err
		}
		shown := shownSuite{Suite: s}
		if len(generations) > 0 {
			shown.Generation, shown.Date = generations[0].Number, generations[0].Date
		}
		all = append(all, shown)
	}
	if o.dist != "" && len(all) == 0 {
		return fault.New(fault.Usage, "the repository has no suite %q", o.dist)
	}
	if o.json {
		return a.printResult(map[string]any{"repo": r.Dir(), "suites": all})
	}
	for i, s := range all {
		text := s.paragraph()
		if i > 0 {
			text = "\n" + text
		}
		if _, err := io.WriteString(a.stdout, text); err != nil {
			return err
		}
	}
	return nil
}

// paragraph is the suite as fields, empty ones left out.
func (s shownSuite) paragraph() string {
	var b strings.Builder
	yes := map[bool]string{true: "yes"}
	date := ""
	if s.Generation > 0 {
		date = fmt.Sprintf("%s, generation %d", s.Date.UTC().Format(time.RFC1123), s.Generation)
	}
	for _, f := range [][2]string{
		{"Name", s.Name}, {"Origin", s.Origin}, {"Label", s.Label}, {"Suite", s.Suite.Suite}, {"Codename", s.Codename},
		{"Description", s.Description}, {"Date", date},
		{"NotAutomatic", yes[s.NotAutomatic]}, {"ButAutomaticUpgrades", yes[s.ButAutomaticUpgrades]},
		{"Architectures", strings.Join(s.Architectures, " ")}, {"Components", strings.Join(s.Components, " ")},
		{"Snapshot-Of", s.Snapshot}, {"Rules", strings.Join(ruleFlags(s.Rules), " ")},
	} {
		if f[1] != "" {
			b.WriteString(f[0] + ": " + f[1] + "\n")
		}
	}
	return b.String()
}

// ruleFlags are the flags of repo init that make rules.
func ruleFlags(r repo.Rules) (flags []string) {
	for _, f := range []struct {
		name string
		on   bool
	}{
		{"--immutable", r.Immutable}, {"--rising", r.Rising},
		{fmt.Sprintf("--keep=%d", r.Keep), r.Keep > 0}, {fmt.Sprintf("--keep-days=%d", r.KeepDays), r.KeepDays > 0},
		{"--debug=" + string(r.Debug), r.Debug != repo.DebugSame}, {fmt.Sprintf("--valid-for=%d", r.ValidDays), r.ValidDays > 0},
		{"--contents", r.Contents}, {"--translations", r.Translations}, {"--xz", r.XZ},
	} {
		if f.on {
			flags = append(flags, f.name)
		}
	}
	return flags
}
