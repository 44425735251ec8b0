package cmd

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"dbuild/internal/fault"
	"dbuild/repo"
)

func newRepoListCommand(a *app) *cobra.Command {
	o := &repoOptions{}
	c := &cobra.Command{
		Use:   "list [flags] [PACKAGE…]",
		Short: "List packages as rmadison does",
		Long: `List packages, one version in one suite a line, as rmadison does:

  package | version | suite | source, architectures

PACKAGE is the name of a binary or source package; without one, all are listed.
A name that is nowhere ends with exit status 10.`,
		Example: "  dbuild repo list hello",
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			return a.withRepo(c.Context(), o, func(r openRepo) error {
				found, err := r.query(c, o, args)
				if err != nil {
					return err
				}
				if o.json {
					return a.printResult(map[string]any{"packages": found})
				}
				return printMadison(a.stdout, found)
			})
		},
	}
	o.addFlags(c.Flags(), "list only `SUITE`")
	return c
}

func newRepoShowCommand(a *app) *cobra.Command {
	o := &repoOptions{}
	c := &cobra.Command{
		Use:     "show [flags] PACKAGE…",
		Short:   "Show what the indexes say of packages",
		Long:    `Show the stanza of every version of a binary or source package, as it is in the index of its suite.`,
		Example: "  dbuild repo show -d bookworm hello",
		Args:    a.atLeastOne("the name of a package"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			return a.withRepo(c.Context(), o, func(r openRepo) error {
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

// query lists packages; a name that selects none is an error.
func (r openRepo) query(c *cobra.Command, o *repoOptions, names []string) ([]repo.Package, error) {
	found, err := r.List(c.Context(), repo.Query{Suite: o.dist, Names: names})
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if !slices.ContainsFunc(found, func(p repo.Package) bool { return p.Name == name }) {
			return nil, fault.New(fault.Usage, "the repository has no package %q", name)
		}
	}
	return found, nil
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

// printMadison prints packages in columns, the architectures of a version
// together and its source first.
func printMadison(w io.Writer, found []repo.Package) error {
	var lines [][3]string
	arches := map[[3]string][]string{}
	width := [3]int{}
	for _, p := range found {
		line := [3]string{p.Name, p.Version, p.Suite}
		if arches[line] == nil {
			lines = append(lines, line)
		}
		switch {
		case slices.Contains(arches[line], p.Arch): // a udeb of the same name
		case p.Arch == "source":
			arches[line] = append([]string{p.Arch}, arches[line]...)
		default:
			arches[line] = append(arches[line], p.Arch)
		}
		for i, column := range line {
			width[i] = max(width[i], len(column))
		}
	}
	for _, l := range lines {
		if _, err := fmt.Fprintf(w, "%-*s | %-*s | %-*s | %s\n", width[0], l[0], width[1], l[1], width[2], l[2], strings.Join(arches[l], ", ")); err != nil {
			return err
		}
	}
	return nil
}
