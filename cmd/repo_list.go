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
