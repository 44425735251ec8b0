package cmd

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"dbuild/cache"
	"dbuild/internal/fault"
)

// removeOptions are the flags of images remove.
type removeOptions struct {
	common
	recursive bool
}

func newImagesRemoveCommand(a *app) *cobra.Command {
	o := &removeOptions{}
	c := &cobra.Command{
		Use:   "remove [flags] IMAGE…",
		Short: "Remove images; the next build makes those that it needs again",
		Long: `Remove images. One that a build uses, or that another image stands on, is refused
with exit code 18; --recursive removes what stands on it first.`,
		Example: "  dbuild images remove --recursive base:bookworm-amd64",
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			if len(args) == 0 {
				return fault.WithHint(fault.New(fault.Usage, "no image given"), "dbuild images lists them")
			}
			return a.withImages(c.Context(), &o.common, func(w *world, obs *observer, items []cache.Item) error {
				found, err := findImages(items, args)
				if err != nil {
					return err
				}
				if o.recursive {
					found = withChildren(items, found)
				}
				return a.removeImages(c.Context(), o, w, obs, found)
			})
		},
	}
	o.addFlags(c.Flags())
	c.Flags().BoolVarP(&o.recursive, "recursive", "r", false, "remove what stands on them as well")
	return c
}

// withChildren adds what stands on the given images, at any depth.
func withChildren(items, given []cache.Item) []cache.Item {
	all := slices.Clone(given)
	for i := 0; i < len(all); i++ {
		for _, it := range items {
			known := slices.ContainsFunc(all, func(other cache.Item) bool { return other.Statement == it.Statement })
			if it.Parent() == all[i].Statement && !known {
				all = append(all, it)
			}
		}
	}
	return all
}

// removeImages removes images, what stands on another before that.
func (a *app) removeImages(ctx context.Context, o *removeOptions, w *world, obs *observer, items []cache.Item) error {
	left := slices.Clone(items)
	removed := []string{}
	for len(left) > 0 {
		i := slices.IndexFunc(left, func(it cache.Item) bool {
			return !slices.ContainsFunc(left, func(other cache.Item) bool { return other.Parent() == it.Statement })
		})
		it := left[max(i, 0)]
		err := w.Cache.Remove(ctx, it.Statement)
		if err != nil && !errors.Is(err, cache.ErrNotFound) { // someone else was faster
			return err
		}
		removed = append(removed, it.Statement)
		left = slices.Delete(left, max(i, 0), max(i, 0)+1)
		if !o.json && !o.quiet {
			_, _ = fmt.Fprintf(a.stdout, "removed  %s  %s\n", orDash(shortDigest(it.Digest)), orDash(it.Tag))
		}
	}
	obs.Close()
	if o.json {
		return a.printJSON(imagesResult(map[string]any{"removed": removed}))
	}
	return nil
}
