package cmd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"dbuild/buildenv"
)

// cleanOptions are the flags of clean.
type cleanOptions struct {
	common
	cacheBudget
	images bool
}

func newCleanCommand(a *app) *cobra.Command {
	o := &cleanOptions{}
	c := &cobra.Command{
		Use:   "clean [flags]",
		Short: "Remove leftovers and what has served its time",
		Long: `Remove what a killed dbuild left behind, images that no statement names, images
and downloads that no build used for 30 days, the images used longest ago that
do not fit --cache-size, results of builds older than two weeks, and superseded
files of the local repository after their grace. Nothing in use is touched, nor
the newest base image of a suite.

Builds remove what has expired by themselves, at most once an hour.

With --images, every base and deps image goes as well; the next build makes
those that it needs again. It is the way out when an image or the signed list of
images was found damaged.`,
		Example: "  dbuild clean",
		Args:    a.atMost(0, "no argument"),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			return a.clean(c.Context(), o)
		},
	}
	o.common.addFlags(c.Flags())
	o.cacheBudget.addFlags(c.Flags())
	c.Flags().BoolVar(&o.images, "images", false, "forget every base and deps image")
	return c
}

func (a *app) clean(ctx context.Context, o *cleanOptions) (err error) {
	expiry, err := o.expiry()
	if err != nil {
		return err
	}
	obs := a.observer(&o.common)
	defer obs.Close()
	w, err := a.open(ctx, &o.common, obs)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	if o.images {
		if err := w.Cache.Discard(ctx); err != nil {
			return err
		}
	}
	done, err := buildenv.Clean(ctx, w.Tools, expiry)
	done.Leftovers += w.reaped
	if err != nil {
		return err
	}
	obs.Close()
	if o.json {
		return a.printJSON(map[string]any{"v": 1, "event": "result", "time": time.Now().UTC(), "status": "successful", "class": "ok", "exit": 0, "removed": done})
	}
	if o.quiet {
		return nil
	}
	_, err = fmt.Fprintf(a.stdout, "removed: %d leftovers, %d images, %d builds, %d repository files, %d downloads\n",
		done.Leftovers, done.Images, done.Builds, done.RepoFiles, done.Downloads)
	return err
}
