package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"dbuild/cache"
	"dbuild/internal/atomicfile"
	"dbuild/internal/fault"
)

// exportOptions are the flags of images export.
type exportOptions struct {
	common
	file string
}

func newImagesExportCommand(a *app) *cobra.Command {
	o := &exportOptions{}
	c := &cobra.Command{
		Use:   "export [flags] IMAGE",
		Short: "Write an image with its statements to one file",
		Long: `Write an image to one file for another machine: its tree as a canonical tar, its
signed statement, those of the images that it stands on with the tree of the
base, and the public key that signed them. Every byte is hashed on its way; an
image that is not what was signed is not exported.`,
		Example: "  dbuild images export -o bookworm.tar base:bookworm-amd64",
		Args:    a.atMost(1, "one IMAGE"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			if len(args) != 1 {
				return fault.WithHint(fault.New(fault.Usage, "no image given"), "dbuild images lists them")
			}
			return a.withImages(c.Context(), &o.common, func(w *world, obs *observer, items []cache.Item) error {
				it, err := findImage(items, args[0])
				if err != nil {
					return err
				}
				return a.exportImage(c.Context(), o, w, obs, it)
			})
		},
	}
	o.addFlags(c.Flags())
	c.Flags().StringVarP(&o.file, "output-file", "o", "", "`FILE` to write, - for standard output (default: the image's tag and .dbuild.tar)")
	return c
}

func (a *app) exportImage(ctx context.Context, o *exportOptions, w *world, obs *observer, it cache.Item) (err error) {
	e, err := w.Cache.Entry(ctx, it.Statement)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	file := o.file
	if file == "" {
		name := it.Tag
		if name == "" {
			name = it.Statement[:12]
		}
		file = strings.NewReplacer(":", "_", "/", "_").Replace(name) + ".dbuild.tar"
	}
	if file == "-" {
		if isTerminal(a.stdout) || o.json {
			return fault.New(fault.Usage, "standard output is not for a file here")
		}
		return w.Cache.Export(ctx, e, w.State.Path("images"), a.stdout)
	}
	f, err := atomicfile.Create(file, 0o644)
	if err != nil {
		return fault.Wrap(fault.Usage, err)
	}
	defer func() { err = errors.Join(err, f.Discard()) }()
	if err := w.Cache.Export(ctx, e, w.State.Path("images"), f.File); err != nil {
		return err
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if err := f.Commit(); err != nil {
		return err
	}
	obs.Close()
	if o.json {
		return a.printJSON(imagesResult(map[string]any{"path": file, "size": size, "digest": it.Digest, "signer": e.Statement.Signer}))
	}
	if !o.quiet {
		_, err = fmt.Fprintf(a.stdout, "%s  %s  %s, signed by %s\n", file, shortDigest(it.Digest), bytesText(size), e.Statement.Signer)
	}
	return err
}

// importOptions are the flags of images import and pull.
type importOptions struct {
	common
	signer string
}

func newImagesImportCommand(a *app) *cobra.Command {
	o := &importOptions{}
	c := &cobra.Command{
		Use:   "import [flags] FILE",
		Short: "Take over an image that another machine exported",
		Long: `Take over an image that another machine exported, and the base that it stands on.
Its statements must be signed by the key that --signer names, by a pinned key
(see dbuild images key), or by the key whose fingerprint is typed when asked.
Signatures, the digest of each tree, and that a run with these flags could have
made the image are verified before anything is stored. Then this machine signs
statements of its own, which name the original ones.`,
		Example: "  dbuild images import --signer 1D565040BDD835287394312B3BCF059AF1EDC8CB bookworm.tar",
		Args:    a.atMost(1, "one FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			if len(args) != 1 {
				return fault.WithHint(fault.New(fault.Usage, "no file given"), "dbuild images export writes one")
			}
			return a.importFile(c.Context(), o, args[0])
		},
	}
	o.addFlags(c.Flags())
	addSigner(c, o)
	return c
}

func addSigner(c *cobra.Command, o *importOptions) {
	c.Flags().StringVar(&o.signer, "signer", "", "`FINGERPRINT` of the key that must have signed the image, all 40 digits")
}

func (a *app) importFile(ctx context.Context, o *importOptions, path string) (err error) {
	file, err := cache.OpenBundle(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	obs := a.observer(&o.common)
	defer obs.Close()
	w, err := a.open(ctx, &o.common, obs)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	return a.takeOver(ctx, o, w, obs, cache.Incoming{Bundle: file.Bundle, Open: file.Open})
}

// takeOver imports an image once it is clear who has to have signed it.
func (a *app) takeOver(ctx context.Context, o *importOptions, w *world, obs *observer, in cache.Incoming) (err error) {
	if in.Signer, err = a.signerOf(o, w, obs, in.Bundle); err != nil {
		return err
	}
	in.Policy = w.accepts
	e, err := w.Cache.Import(ctx, in)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	obs.Close()
	st := &e.Statement
	if o.json {
		return a.printJSON(imagesResult(map[string]any{
			"kind": st.Kind, "digest": st.Tree, "suite": st.Suite, "arch": st.Arch, "statement": e.Hash, "signer": in.Signer, "packages": len(st.Packages),
		}))
	}
	if !o.quiet {
		_, err = fmt.Fprintf(a.stdout, "imported  %s  %s  signed by %s\n", shortDigest(string(st.Tree)), orDash(e.Image.Config.Tag), in.Signer)
	}
	return err
}

// signerOf says who must have signed an image: whom the flag names, a pinned key,
// or whom somebody at a terminal names.
func (a *app) signerOf(o *importOptions, w *world, obs *observer, b *cache.Bundle) (string, error) {
	if o.signer != "" {
		return fingerprint(o.signer)
	}
	claimed, err := b.Signer()
	if err != nil {
		return "", err
	}
	pinned, err := cache.Keys(w.State.Path("keys")).Pinned()
	if err != nil {
		return "", err
	}
	for _, p := range append(pinned, w.ImageKey.Fingerprint()) {
		if p == claimed {
			return claimed, nil
		}
	}
	in, ok := a.stdin.(*os.File)
	if !ok || o.json || !terminal(int(in.Fd())) || !isTerminal(a.stderr) {
		return "", fault.WithHint(fault.New(fault.Trust, "the image says that %s signed it, which is no pinned key", claimed),
			"ask its owner for the fingerprint, not the file, and give it with --signer; or pin the key: dbuild images key pin")
	}
	obs.Close()
	_, _ = fmt.Fprint(a.stderr, "Fingerprint of the key that signed the image, as its owner says: ")
	var typed strings.Builder
	for c := make([]byte, 1); typed.Len() < 200; {
		if n, err := in.Read(c); n != 1 || err != nil || c[0] == '\n' {
			break
		}
		typed.WriteByte(c[0])
	}
	return fingerprint(typed.String())
}

// fingerprint reads a whole fingerprint as gpg or dbuild print it.
func fingerprint(text string) (string, error) {
	f := strings.ToUpper(strings.Join(strings.Fields(text), ""))
	if !cache.IsFingerprint(f) {
		return "", fault.WithHint(fault.New(fault.Usage, "%q is no fingerprint", text), "give all 40 hex digits")
	}
	return f, nil
}
