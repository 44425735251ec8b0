package cmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dbuild/buildenv"
	"dbuild/cache"
	"dbuild/internal/fault"
	"dbuild/internal/state"
	"dbuild/sign"
)

func newVerifyCommand(a *app) *cobra.Command {
	o := &repoOptions{}
	var maintainers []string
	c := &cobra.Command{
		Use:   "verify [flags] FILE…",
		Short: "Walk a package back to the key of the archive",
		Long: `Walk from a .deb, or from a .changes and every package that it lists, back to the
key of the archive that its base image was made of:

  file → build statement → build dependencies → base → InRelease → archive key

Each statement is signed by this machine's image key and names the next by its
hash. The chain ends at the first link that is missing or wrong; that one is named,
and the exit status is 12.

The repository's copy of a package may have a signature inside (_gpgorigin, see
sign.debs). It is not part of what was built, but must be good, and by a key of
this repository. A .changes is as a build made it, with the signature of -k if that
was given, or was signed later by a key of --maintainer-keyring.

Nothing that this needs ever expires: statements and InRelease files stay when
images, downloads and build records go.`,
		Example: "  dbuild verify hello_2.10-3_amd64.deb\n  dbuild verify hello_2.10-3_amd64.changes",
		Args:    a.atLeastOne("at least one FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			return a.verifyFiles(c, o, maintainers, args)
		},
	}
	o.addFlags(c.Flags(), "")
	c.Flags().StringSliceVar(&o.keyrings, "keyring", nil, "`FILE` with the archive's keys (default: the installed archive keyring)")
	c.Flags().StringSliceVar(&maintainers, "maintainer-keyring", nil, "`FILE` with keys that may have signed a .changes (default: the installed keyrings of Debian's developers)")
	return c
}

func (a *app) verifyFiles(c *cobra.Command, o *repoOptions, maintainers, args []string) (err error) {
	obs := a.observer(&o.common)
	defer obs.Close()
	dir := o.state
	if dir == "" {
		if dir, err = state.DefaultDir(os.Geteuid(), a.getenv); err != nil {
			return err
		}
	}
	s, err := state.Open(c.Context(), dir, func(holder string) { obs.Warn("the state is locked by %s; waiting", holder) })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	keys, err := imageKeys(s)
	if err != nil {
		return err
	}
	ring, err := repoRing(c.Context(), s)
	if err != nil {
		return err
	}
	from := buildenv.Origins{State: s, Keys: keys, Repo: ring, Keyrings: o.keyrings}
	if slices.ContainsFunc(args, isChanges) {
		if len(maintainers) == 0 {
			maintainers = installedDeveloperKeyrings()
		}
		if len(maintainers) > 0 {
			if from.Maintainers, err = sign.OpenKeyring(maintainers...); err != nil {
				return err
			}
		}
	}
	var all []buildenv.Traced
	var errs []error
	for _, path := range args {
		var some []buildenv.Traced
		var err error
		if isChanges(path) {
			some, err = buildenv.TraceChanges(c.Context(), from, path)
		} else {
			var t buildenv.Traced
			t, err = buildenv.Trace(c.Context(), from, path)
			some = []buildenv.Traced{t}
		}
		all, errs = append(all, some...), append(errs, err)
		if c.Context().Err() != nil {
			break
		}
	}
	return a.printTraced(o, all, errors.Join(errs...))
}

func isChanges(path string) bool { return filepath.Ext(path) == ".changes" }

// imageKeys are the public keys that statements of this state may be signed by.
func imageKeys(s *state.State) (*sign.Keyring, error) {
	k, err := sign.Load(s.Path("keys", "image.asc"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fault.New(fault.Trust, "state %q has no image key: nothing was built in it", s.Dir)
	}
	if err != nil {
		return nil, err
	}
	return cache.Keys(s.Path("keys")).Own(k)
}

// repoRing are the public keys that sign and signed for the repository.
func repoRing(ctx context.Context, s *state.State) (*sign.Keyring, error) {
	k, err := openRepoKeys(ctx, s, sign.GPG{Silent: true}, false)
	if err != nil {
		return nil, err
	}
	return sign.ParseKeyring(sign.PublicArmored(slices.Concat([]sign.Signer{k.own, k.local}, k.also, k.before)))
}

func (a *app) printTraced(o *repoOptions, all []buildenv.Traced, broken error) error {
	if o.json {
		fields := map[string]any{"verified": all}
		if broken != nil {
			a.json = false // this event has the error
			class := fault.ClassOf(broken)
			fields["status"], fields["class"], fields["exit"] = "failed", class, buildenv.ExitCode(class)
			fields["error"] = map[string]any{"message": buildenv.Printable(broken.Error()), "hint": fault.HintOf(broken), "excerpt": []string{}}
		}
		return errors.Join(broken, a.printResult(fields))
	}
	if o.quiet {
		return broken
	}
	for _, t := range all {
		for _, l := range t.Links {
			word := "good"
			if !l.OK {
				word = "BAD"
			}
			line := fmt.Sprintf("%-4s %-7s %s", word, l.Link, buildenv.Printable(l.Name))
			if l.SHA256 != "" {
				line += " sha256:" + l.SHA256[:min(16, len(l.SHA256))]
			}
			if l.Signer != "" {
				line += " signed by " + l.Signer
			}
			if !l.Date.IsZero() {
				line += " of " + l.Date.UTC().Format(time.RFC3339)
			}
			if note := cmp.Or(l.Problem, l.Note); note != "" {
				line += ": " + buildenv.Printable(note)
			}
			if _, err := fmt.Fprintln(a.stdout, line); err != nil {
				return errors.Join(broken, err)
			}
		}
		if len(t.Switches) > 0 {
			if _, err := fmt.Fprintf(a.stdout, "note checks that were off: %s\n", strings.Join(t.Switches, ", ")); err != nil {
				return errors.Join(broken, err)
			}
		}
	}
	return broken
}
