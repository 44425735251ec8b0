package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"dbuild/cache"
	"dbuild/internal/fault"
	"dbuild/internal/tree"
	"dbuild/registry"
)

// pushOptions are the flags of images push.
type pushOptions struct {
	common
	insecure bool
}

func newImagesPushCommand(a *app) *cobra.Command {
	o := &pushOptions{}
	c := &cobra.Command{
		Use:   "push [flags] IMAGE REF",
		Short: "Store an image with its statements in an OCI registry",
		Long: `Store what dbuild images export writes in an OCI registry, as an artifact whose
configuration is the statements. Trees that the registry has are not sent again.
Who you are there comes from docker's or podman's own configuration.`,
		Example: "  dbuild images push base:bookworm-amd64 registry.example.org/dbuild/base:bookworm-amd64",
		Args:    a.atMost(2, "IMAGE and REF"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			if len(args) != 2 {
				return fault.WithHint(fault.New(fault.Usage, "an image and a reference are needed"), "%s --help", c.CommandPath())
			}
			return a.withImages(c.Context(), &o.common, func(w *world, obs *observer, items []cache.Item) error {
				it, err := findImage(items, args[0])
				if err != nil {
					return err
				}
				return a.pushImage(c.Context(), o, w, obs, it, args[1])
			})
		},
	}
	o.addFlags(c.Flags())
	addInsecure(c, &o.insecure)
	return c
}

func addInsecure(c *cobra.Command, to *bool) {
	c.Flags().BoolVar(to, "insecure", false, "speak plain HTTP to a registry on another machine")
}

func (a *app) pushImage(ctx context.Context, o *pushOptions, w *world, obs *observer, it cache.Item, ref string) (err error) {
	e, err := w.Cache.Entry(ctx, it.Statement)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	b, err := w.Cache.Bundle(e)
	if err != nil {
		return err
	}
	data, err := b.Marshal()
	if err != nil {
		return err
	}
	digests, err := b.Trees()
	if err != nil {
		return err
	}
	var trees []registry.Tree
	defer func() {
		for _, t := range trees {
			err = errors.Join(err, t.File.Close())
		}
	}()
	for _, d := range digests {
		f, err := w.Cache.PackTree(ctx, e, d, w.State.Path("images"))
		if err != nil {
			return err
		}
		trees = append(trees, registry.Tree{Name: cache.TreeName(d), File: f})
	}
	manifest, err := registry.Push(ctx, ref, data, trees, registry.Options{Insecure: o.insecure})
	if err != nil {
		return err
	}
	obs.Close()
	if o.json {
		return a.printJSON(imagesResult(map[string]any{"reference": ref, "manifest": manifest, "digest": it.Digest, "signer": e.Statement.Signer}))
	}
	if !o.quiet {
		_, err = fmt.Fprintf(a.stdout, "pushed  %s  %s, signed by %s\n", ref, manifest, e.Statement.Signer)
	}
	return err
}

func newImagesPullCommand(a *app) *cobra.Command {
	o := &importOptions{}
	var insecure bool
	c := &cobra.Command{
		Use:   "pull [flags] REF",
		Short: "Take over an image from an OCI registry",
		Long: `Take over an image that dbuild images push stored in an OCI registry. What is
believed is the signer, as with dbuild images import; the registry is not.`,
		Example: "  dbuild images pull --signer 1D565040BDD835287394312B3BCF059AF1EDC8CB registry.example.org/dbuild/base:bookworm-amd64",
		Args:    a.atMost(1, "one REF"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			if len(args) != 1 {
				return fault.WithHint(fault.New(fault.Usage, "no reference given"), "%s --help", c.CommandPath())
			}
			return a.pullImage(c.Context(), o, args[0], registry.Options{Insecure: insecure})
		},
	}
	o.addFlags(c.Flags())
	addSigner(c, o)
	addInsecure(c, &insecure)
	return c
}

func (a *app) pullImage(ctx context.Context, o *importOptions, ref string, ro registry.Options) (err error) {
	obs := a.observer(&o.common)
	defer obs.Close()
	w, err := a.open(ctx, &o.common, obs)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	r, err := registry.Find(ctx, ref, ro)
	if err != nil {
		return err
	}
	b, err := cache.ParseBundle(r.Statements)
	if err != nil {
		return err
	}
	files := map[tree.Digest]*os.File{}
	defer func() {
		for _, f := range files {
			err = errors.Join(err, f.Close())
		}
	}()
	open := func(_ context.Context, d tree.Digest) (io.ReadCloser, error) {
		f, ok := files[d]
		if !ok {
			var err error
			if f, err = r.Fetch(cache.TreeName(d), w.State.Path("images")); err != nil {
				return nil, err
			}
			files[d] = f
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		return cache.Unpack(io.NopCloser(f))
	}
	return a.takeOver(ctx, o, w, obs, cache.Incoming{Bundle: b, Open: open})
}
