package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"dbuild/buildenv"
	"dbuild/engine"
	"dbuild/internal/atomicfile"
	"dbuild/internal/fault"
)

// createOptions are the flags of create and update.
type createOptions struct {
	common
	tar    string
	update bool
}

func newCreateCommand(a *app) *cobra.Command {
	o := &createOptions{}
	c := &cobra.Command{
		Use:   "create [flags]",
		Short: "Make the base image of a suite now",
		Long: `Make the base image of a suite now, in place of the one that is there.

A build does this by itself when there is no base image. The image is
bootstrapped from packages that the archive's signed indexes vouch for, then
signed with this machine's image key.`,
		Example: `  # make the base image of trixie
  dbuild create -d trixie
  # and write it as a tar that is bit-for-bit reproducible
  dbuild create -d trixie --output-tar trixie.tar`,
		Args: a.atMost(0, "no argument"),
		RunE: func(c *cobra.Command, _ []string) error { return a.loadAndCreate(c, o) },
	}
	o.addFlags(c.Flags())
	c.Flags().StringVar(&o.tar, "output-tar", "", "write the base image to `FILE` as canonical tar")
	return c
}

func newUpdateCommand(a *app) *cobra.Command {
	o := &createOptions{update: true}
	c := &cobra.Command{
		Use:   "update [flags]",
		Short: "Refresh the base image of a suite if its packages have updates",
		Long: `Ask the archive for updates of the packages in the base image of a suite, and
make the image again if there are any. Builds go on with the old image until the
new one is complete.`,
		Example: "  dbuild update -d bookworm",
		Args:    a.atMost(0, "no argument"),
		RunE:    func(c *cobra.Command, _ []string) error { return a.loadAndCreate(c, o) },
	}
	o.addFlags(c.Flags())
	return c
}

func (a *app) loadAndCreate(c *cobra.Command, o *createOptions) error {
	if err := o.load(a, c); err != nil {
		return err
	}
	return a.create(c.Context(), o)
}

func (a *app) create(ctx context.Context, o *createOptions) (err error) {
	suite, err := o.suite()
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
	start := time.Now()
	image, err := w.base(ctx, suite, true, !o.update)
	if err == nil && o.tar != "" {
		err = exportTar(ctx, w.Engine, image.Entry.Image.ID, o.tar)
	}
	if err != nil {
		return err
	}
	obs.Close()
	return a.printBase(o, image, time.Since(start))
}

// exportTar writes an image as tar; the file appears when it is complete.
func exportTar(ctx context.Context, e engine.Engine, id engine.ImageID, path string) (err error) {
	f, err := atomicfile.Create(path, 0o644)
	if err != nil {
		return fault.Wrap(fault.Usage, err)
	}
	defer func() { err = errors.Join(err, f.Discard()) }()
	if err := e.Export(ctx, id, f.File); err != nil {
		return err
	}
	return f.Rename()
}

func (a *app) printBase(o *createOptions, image buildenv.BaseImage, took time.Duration) error {
	s := image.Entry.Statement
	if o.json {
		return a.printJSON(map[string]any{
			"v": 1, "event": "result", "time": time.Now().UTC(), "status": "successful", "class": "ok", "exit": 0,
			"kind": "base", "suite": s.Suite, "arch": s.Arch, "digest": s.Tree, "packages": len(s.Packages),
			"made": image.Made, "created": s.Created, "seconds": took.Seconds(),
		})
	}
	if o.quiet {
		return nil
	}
	word := "is up to date"
	if image.Made {
		word = fmt.Sprintf("made in %.1f s", took.Seconds())
	}
	_, err := fmt.Fprintf(a.stdout, "base:%s-%s %s (%d packages) %s\n", s.Suite, s.Arch, s.Tree, len(s.Packages), word)
	return err
}

func (a *app) printJSON(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "%s\n", data)
	return err
}

// isTerminal reports whether w is a terminal.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && terminal(int(f.Fd()))
}
