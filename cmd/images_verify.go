package cmd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"dbuild/cache"
	"dbuild/internal/report"
)

func newImagesVerifyCommand(a *app) *cobra.Command {
	o := &common{}
	c := &cobra.Command{
		Use:   "verify [flags] [IMAGE…]",
		Short: "Read every byte of images again and compare with what was signed",
		Long: `Verify the statements of images (all of them if none is named) and of those they
stand on, then read every stored byte again and compare with the signed digest.
All are looked at; one that differs ends the command with exit code 12.`,
		Example: "  dbuild images verify",
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			return a.withImages(c.Context(), o, func(w *world, obs *observer, items []cache.Item) error {
				if len(args) > 0 {
					var err error
					if items, err = findImages(items, args); err != nil {
						return err
					}
				}
				return a.verifyImages(c.Context(), o, w, obs, items)
			})
		},
	}
	o.addFlags(c.Flags())
	return c
}

// verified is the outcome for one image.
type verified struct {
	Statement string  `json:"statement"`
	Digest    string  `json:"digest"`
	Tag       string  `json:"tag"`
	OK        bool    `json:"ok"`
	Problem   string  `json:"problem,omitempty"`
	Seconds   float64 `json:"seconds"`
}

func (a *app) verifyImages(ctx context.Context, o *common, w *world, obs *observer, items []cache.Item) error {
	all := make([]verified, 0, len(items))
	var failed []error
	for i, it := range items {
		obs.Progress(report.Progress{Unit: "images", Done: int64(i), Total: int64(len(items)), Label: "verify " + it.Tag})
		start := time.Now()
		err := verifyImage(ctx, w, it)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		v := verified{Statement: it.Statement, Digest: it.Digest, Tag: it.Tag, OK: err == nil, Seconds: time.Since(start).Round(time.Millisecond).Seconds()}
		if err != nil {
			v.Problem = err.Error()
			failed = append(failed, err)
		}
		all = append(all, v)
	}
	obs.Close()
	err := errors.Join(failed...)
	switch {
	case o.json && err == nil:
		return a.printJSON(imagesResult(map[string]any{"images": all}))
	case o.json:
		return err
	case o.quiet:
		return err
	}
	for _, v := range all {
		word := "good"
		if !v.OK {
			word = "BAD"
		}
		_, _ = fmt.Fprintf(a.stdout, "%s  %s  %s  %.2f s\n", word, orDash(shortDigest(v.Digest)), orDash(v.Tag), v.Seconds)
	}
	return err
}

// verifyImage opens one image, which verifies its statements, and hashes it.
func verifyImage(ctx context.Context, w *world, it cache.Item) error {
	e, err := w.Cache.Entry(ctx, it.Statement)
	if err != nil {
		return err
	}
	return errors.Join(e.Verify(ctx), e.Close())
}
