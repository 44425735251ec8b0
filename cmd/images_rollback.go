package cmd

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"dbuild/cache"
	"dbuild/chroot"
)

func newImagesRollbackCommand(a *app) *cobra.Command {
	o := &common{}
	c := &cobra.Command{
		Use:   "rollback [flags]",
		Short: "Go back to the base image before the last update",
		Long: `Take the newest base image of a suite out of use, by a new signed list of images,
so that the one before it is used again. Nothing is removed, and a second call
goes back one more. Builds do not refresh the older image by themselves; that ends
with the next update, create or --refresh that makes a new one.`,
		Example: "  dbuild images rollback -d bookworm",
		Args:    a.atMost(0, "no argument"),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			suite, err := o.suite()
			if err != nil {
				return err
			}
			return a.withImages(c.Context(), o, func(w *world, obs *observer, _ []cache.Item) error {
				return a.rollback(c.Context(), o, w, obs, suite.Name)
			})
		},
	}
	o.addFlags(c.Flags())
	return c
}

func (a *app) rollback(ctx context.Context, o *common, w *world, obs *observer, suite string) error {
	from, to, err := w.Cache.Rollback(ctx, suite, o.arch, chroot.Variant)
	if err != nil {
		return err
	}
	obs.Close()
	if o.json {
		return a.printJSON(imagesResult(map[string]any{"suite": to.Suite, "arch": to.Arch, "digest": to.Tree, "created": to.Created, "aside": from}))
	}
	if o.quiet {
		return nil
	}
	_, err = fmt.Fprintf(a.stdout, "base:%s-%s %s of %s is in use again\n", to.Suite, to.Arch, to.Tree, moment(to.Created))
	return err
}
