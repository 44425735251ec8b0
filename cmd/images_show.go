package cmd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dbuild/buildenv"
	"dbuild/cache"
	"dbuild/internal/fault"
)

func newImagesShowCommand(a *app) *cobra.Command {
	o := &common{}
	c := &cobra.Command{
		Use:   "show [flags] IMAGE",
		Short: "Show where an image came from and what is in it",
		Long: `Show the verified statement of an image: the archive states it came from and who
signed them, the images it stands on, the steps that made it, the checks that
were off, and every package. With --json, one object: the fields of the list
and the statement itself.`,
		Example: "  dbuild images show base:bookworm-amd64",
		Args:    a.atMost(1, "one IMAGE"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			if len(args) != 1 {
				return fault.WithHint(fault.New(fault.Usage, "no image given"), "dbuild images lists them")
			}
			return a.withImages(c.Context(), o, func(w *world, obs *observer, items []cache.Item) error {
				it, err := findImage(items, args[0])
				if err != nil {
					return err
				}
				return a.showImage(c.Context(), o, w, obs, it)
			})
		},
	}
	o.addFlags(c.Flags())
	return c
}

func (a *app) showImage(ctx context.Context, o *common, w *world, obs *observer, it cache.Item) (err error) {
	st, err := w.Cache.Statement(ctx, it.Statement)
	if err != nil {
		return err
	}
	obs.Close()
	if o.json {
		return a.printJSON(struct {
			cache.Item
			Details cache.Statement `json:"details"`
		}{it, st})
	}
	var text strings.Builder
	line := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(&text, "%-12s%s\n", name+":", fmt.Sprintf(format, args...))
	}
	line("Tag", "%s", orDash(it.Tag))
	line("Kind", "%s", st.Kind)
	line("Digest", "%s", st.Tree)
	line("Statement", "%s", it.Statement)
	if st.Parent != "" {
		line("Stands on", "statement %s", st.Parent)
	}
	line("Suite", "%s (%s), %s, recipe %s", st.Suite, strings.Join(st.Components, " "), st.Arch, st.Recipe)
	line("Created", "%s by %s", st.Created.Format(time.RFC3339), st.Tool)
	line("Last used", "%s", moment(it.LastUsed))
	line("Size", "%s own, %s shared", bytesText(it.OwnSize), bytesText(it.Size-it.OwnSize))
	line("Signer", "%s", st.Signer)
	for _, s := range st.Archive {
		line("Archive", "%s %s of %s, InRelease %.12s, signed by %s", s.URL, s.Suite, s.Date.Format(time.RFC3339), s.InRelease, s.SignedBy)
	}
	for _, s := range st.Steps {
		line("Step", "%s", s)
	}
	if len(st.Switches) > 0 {
		line("Switches", "%s", strings.Join(st.Switches, " "))
	}
	if it.Problem != "" {
		line("Problem", "%s", it.Problem)
	}
	line("Packages", "%d", len(st.Packages))
	for _, p := range st.Packages {
		_, _ = fmt.Fprintf(&text, "  %s %s %s\n", p.Name, p.Version, p.Arch)
	}
	_, err = fmt.Fprint(a.stdout, buildenv.Printable(text.String()))
	return errors.Join(err, ctx.Err())
}
