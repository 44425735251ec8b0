package cmd

import (
	"fmt"
	"sort"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newConfigCommand(a *app) *cobra.Command {
	o := &buildOptions{}
	c := &cobra.Command{
		Use:   "config [flags]",
		Short: "Show the settings in force and where each comes from",
		Long: `Show every setting with its value and its origin: flag, environment, file or
built-in. The line is in the form of a configuration file.`,
		Example: "  dbuild config\n  DBUILD_MIRROR=http://mirror.example/debian dbuild config",
		Args:    a.atMost(0, "no argument"),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			return a.showConfig(c, o)
		},
	}
	o.addFlags(c.Flags())
	return c
}

func (a *app) showConfig(c *cobra.Command, o *buildOptions) error {
	var lines []string
	values := map[string]any{}
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" || flagOnly[f.Name] {
			return
		}
		values[f.Name] = map[string]string{"value": f.Value.String(), "origin": o.origins[f.Name]}
		lines = append(lines, fmt.Sprintf("%-40s # %s", f.Name+" = "+tomlValue(f), o.origins[f.Name]))
	})
	if o.json {
		return a.printJSON(values)
	}
	sort.Strings(lines)
	for _, l := range lines {
		if _, err := fmt.Fprintln(a.stdout, l); err != nil {
			return err
		}
	}
	return nil
}

// tomlValue writes a flag's value as the configuration file would have it.
func tomlValue(f *pflag.Flag) string {
	switch v := f.Value.(type) {
	case pflag.SliceValue:
		return fmt.Sprintf("%q", v.GetSlice())
	default:
		switch f.Value.Type() {
		case "bool", "int":
			return f.Value.String()
		}
		return fmt.Sprintf("%q", f.Value.String())
	}
}
