package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"dbuild/cache"
	"dbuild/internal/atomicfile"
	"dbuild/internal/fault"
	"dbuild/internal/lock"
	"dbuild/internal/state"
	"dbuild/sign"
)

const imageKeyOwner = "dbuild image key"

func newImagesKeyCommand(a *app) *cobra.Command {
	o := &common{}
	c := &cobra.Command{
		Use:   "key [COMMAND]",
		Short: "Show, rotate and pin the keys that images are signed with",
		Long: `Print the public key that signs this machine's images, armored; its fingerprint,
the retired and the pinned keys are listed on standard error. Another machine
takes over images signed by keys that are pinned there.`,
		Example: `  dbuild images key > build1.asc
  # on another machine, which was told the fingerprint
  dbuild images key pin --signer 1D565040BDD835287394312B3BCF059AF1EDC8CB build1.asc`,
		Args: a.atMost(0, "no argument"),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withKeys(c, o, func(w *world, _ *observer) error { return a.showKeys(o, w) })
		},
	}
	o.addFlags(c.Flags())
	c.AddCommand(newKeyRotateCommand(a), newKeyPinCommand(a), newKeyUnpinCommand(a))
	return c
}

// withKeys opens the state for a verb of images key.
func (a *app) withKeys(c *cobra.Command, o *common, fn func(*world, *observer) error) (err error) {
	if err := o.load(a, c); err != nil {
		return err
	}
	obs := a.observer(o)
	defer obs.Close()
	w, err := a.open(c.Context(), o, obs)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	return fn(w, obs)
}

func (w *world) keys() cache.Keys { return cache.Keys(w.State.Path("keys")) }

func (a *app) showKeys(o *common, w *world) error {
	retired, err1 := w.keys().Retired()
	pinned, err2 := w.keys().Pinned()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if o.json {
		return a.printJSON(imagesResult(map[string]any{
			"fingerprint": w.ImageKey.Fingerprint(), "key": string(w.ImageKey.PublicArmored()), "retired": list(retired), "pinned": list(pinned),
		}))
	}
	if !o.quiet {
		_, _ = fmt.Fprintf(a.stderr, "%s\n", w.ImageKey.Fingerprint())
		for _, f := range retired {
			_, _ = fmt.Fprintf(a.stderr, "%s retired\n", f)
		}
		for _, f := range pinned {
			_, _ = fmt.Fprintf(a.stderr, "%s pinned\n", f)
		}
	}
	_, err := a.stdout.Write(w.ImageKey.PublicArmored())
	return err
}

// list turns nil into an empty list, which JSON tells apart.
func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func newKeyRotateCommand(a *app) *cobra.Command {
	o := &common{}
	var distrust bool
	c := &cobra.Command{
		Use:   "rotate [flags]",
		Short: "Make a new image key, and sign all images with it",
		Long: `Make a new image key and sign the statements of all images anew with it. The old
key's public part is kept, for statements that published packages lead to; its
secret part is deleted. It waits until no other dbuild uses the state.

With --distrust, for a key that someone else may have: no image is taken over,
and what the old key signed is believed no longer. The next build makes its
images again.`,
		Example: "  dbuild images key rotate",
		Args:    a.atMost(0, "no argument"),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withKeys(c, o, func(w *world, obs *observer) error { return a.rotateKey(c.Context(), o, w, obs, distrust) })
		},
	}
	o.addFlags(c.Flags())
	c.Flags().BoolVar(&distrust, "distrust", false, "believe nothing that the old key signed")
	return c
}

// rotateKey stores the new key beside the old one, has the cache sign with it,
// and gives it the old one's name. finishRotation takes over after a crash.
func (a *app) rotateKey(ctx context.Context, o *common, w *world, obs *observer, distrust bool) error {
	if err := w.State.Alone(ctx, func(string) { obs.Warn("another dbuild uses the state; waiting for its end") }); err != nil {
		return err
	}
	old, err := sign.Load(imageKeyPath(w.State))
	if err != nil {
		return err
	}
	if old.Fingerprint() != w.ImageKey.Fingerprint() {
		return fault.WithHint(fault.New(fault.Locked, "another dbuild has just rotated the key"), "dbuild images key shows it")
	}
	next, err := sign.Generate(imageKeyOwner, time.Now().Add(-time.Minute))
	if err != nil {
		return err
	}
	if !distrust {
		if err := w.keys().Retire(old); err != nil {
			return err
		}
	}
	if err := next.Save(nextKeyPath(w.State)); err != nil {
		return err
	}
	if err := w.Cache.Rotate(ctx, next, distrust); err != nil {
		// The list that is in force says which key goes on.
		return errors.Join(err, finishRotation(ctx, w.State))
	}
	if err := finishRotation(ctx, w.State); err != nil {
		return err
	}
	obs.Close()
	if o.json {
		return a.printJSON(imagesResult(map[string]any{"fingerprint": next.Fingerprint(), "old": old.Fingerprint(), "distrusted": distrust}))
	}
	if !o.quiet {
		_, err = fmt.Fprintf(a.stdout, "%s\n", next.Fingerprint())
	}
	return err
}

func imageKeyPath(s *state.State) string { return s.Path("keys", "image.asc") }
func nextKeyPath(s *state.State) string  { return s.Path("keys", "image.next.asc") }

// finishRotation completes or undoes what a killed rotation left: the key that
// signed the list of images is the one in force.
func finishRotation(ctx context.Context, s *state.State) error {
	path := nextKeyPath(s)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	l, err := lock.Acquire(ctx, s.Path("locks", "keys"), lock.Exclusive, nil)
	if err != nil {
		return err
	}
	defer func() { _ = l.Unlock() }()
	next, err := sign.Load(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || !cache.SignedBy(s.Path("images"), next) {
		return os.Remove(path) // it has signed nothing that counts
	}
	public := s.Path("keys", "image.pub.asc")
	if err := atomicfile.Write(public, next.PublicArmored(), 0o600); err != nil {
		return err
	}
	if err := os.Rename(path, imageKeyPath(s)); err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(path))
}

func newKeyPinCommand(a *app) *cobra.Command {
	o := &importOptions{}
	c := &cobra.Command{
		Use:   "pin --signer FINGERPRINT FILE",
		Short: "Believe images that another machine's key signed",
		Long: `Believe images that the key in FILE signed, when they are imported or pulled. The
fingerprint must come from the owner of the key, not from where the file came.`,
		Example: "  dbuild images key pin --signer 1D565040BDD835287394312B3BCF059AF1EDC8CB build1.asc",
		Args:    a.atMost(1, "one FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.withKeys(c, &o.common, func(w *world, _ *observer) error {
				if len(args) != 1 || o.signer == "" {
					return fault.WithHint(fault.New(fault.Usage, "a file and --signer are needed"), "%s --help", c.CommandPath())
				}
				fpr, err := fingerprint(o.signer)
				if err != nil {
					return err
				}
				data, err := readKeyFile(args[0])
				if err != nil {
					return err
				}
				return w.keys().Pin(data, fpr)
			})
		},
	}
	o.addFlags(c.Flags())
	addSigner(c, o)
	return c
}

func readKeyFile(path string) (data []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.Wrap(fault.Usage, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(io.LimitReader(f, 1<<20))
}

func newKeyUnpinCommand(a *app) *cobra.Command {
	o := &common{}
	c := &cobra.Command{
		Use:     "unpin FINGERPRINT",
		Short:   "Believe a key no longer; images that were imported stay",
		Example: "  dbuild images key unpin 1D565040BDD835287394312B3BCF059AF1EDC8CB",
		Args:    a.atMost(1, "one FINGERPRINT"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.withKeys(c, o, func(w *world, _ *observer) error {
				if len(args) != 1 {
					return fault.WithHint(fault.New(fault.Usage, "no fingerprint given"), "dbuild images key lists them")
				}
				fpr, err := fingerprint(args[0])
				if err == nil {
					err = w.keys().Unpin(fpr)
				}
				if errors.Is(err, cache.ErrNotFound) {
					return fault.New(fault.Usage, "key %s is not pinned", fpr)
				}
				return err
			})
		},
	}
	o.addFlags(c.Flags())
	return c
}
