package cmd

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dbuild/cache"
	"dbuild/internal/fault"
)

func newImagesCommand(a *app) *cobra.Command {
	c := newImagesListCommand(a)
	c.Use = "images [COMMAND]"
	c.Short = "List, check, move and remove base and deps images"
	c.Long = `List, check and remove the images that builds start from: base images, and deps
images, which hold a base and a set of build dependencies. Without a command the
images are listed.

An image is named by its digest, with or without "sha256:", by the first digits
of it (four or more), by the hash of its statement, or by its tag if no other
image has the same.`
	c.Example = `  # which images are there, how large are they, when were they used
  dbuild images
  # read every byte of all of them again
  dbuild images verify
  # go back to the base image before the last update
  dbuild images rollback -d bookworm`
	c.AddCommand(newImagesListCommand(a), newImagesShowCommand(a), newImagesVerifyCommand(a),
		newImagesRemoveCommand(a), newImagesRollbackCommand(a),
		newImagesExportCommand(a), newImagesImportCommand(a), newImagesKeyCommand(a),
		newImagesPushCommand(a), newImagesPullCommand(a))
	return c
}

// withImages opens the state and calls fn with the images in force.
func (a *app) withImages(ctx context.Context, o *common, fn func(*world, *observer, []cache.Item) error) (err error) {
	obs := a.observer(o)
	defer obs.Close()
	w, err := a.open(ctx, o, obs)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	items, err := w.Cache.List(ctx)
	if err != nil {
		return err
	}
	return fn(w, obs, items)
}

// minPrefix is how many digits name an image at least.
const minPrefix = 4

// findImages returns the images that args name, in the order of items.
func findImages(items []cache.Item, args []string) ([]cache.Item, error) {
	wanted := map[string]bool{}
	for _, arg := range args {
		it, err := findImage(items, arg)
		if err != nil {
			return nil, err
		}
		wanted[it.Statement] = true
	}
	var found []cache.Item
	for _, it := range items {
		if wanted[it.Statement] {
			found = append(found, it)
		}
	}
	return found, nil
}

func findImage(items []cache.Item, arg string) (cache.Item, error) {
	var found []cache.Item
	for _, it := range items {
		if named(it, arg) {
			found = append(found, it)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0:
		return cache.Item{}, fault.WithHint(fault.New(fault.Usage, "no image %q", arg), "dbuild images lists them")
	}
	var statements []string
	for _, it := range found {
		statements = append(statements, it.Statement[:12])
	}
	return cache.Item{}, fault.WithHint(fault.New(fault.Usage, "%d images are called %q", len(found), arg),
		"name one by its statement: %s", strings.Join(statements, ", "))
}

func named(it cache.Item, arg string) bool {
	if it.Tag != "" && it.Tag == arg {
		return true
	}
	digits := strings.TrimPrefix(arg, "sha256:")
	return len(digits) >= minPrefix &&
		(strings.HasPrefix(strings.TrimPrefix(it.Digest, "sha256:"), digits) || strings.HasPrefix(it.Statement, digits))
}

// imagesResult is the result event of a verb that works on images.
func imagesResult(more map[string]any) map[string]any {
	result := map[string]any{"v": 1, "event": "result", "time": time.Now().UTC(), "status": "successful", "class": "ok", "exit": 0}
	for name, value := range more {
		result[name] = value
	}
	return result
}
