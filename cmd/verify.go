package cmd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
	c := &cobra.Command{
		Use:   "verify [flags] FILE…",
		Short: "Walk a package back to the key of the archive",
		Long: `Walk from a .deb, or from every package that a .changes lists, back to the key of
the archive that its base image was made of:

  file → build statement → build dependencies → base → InRelease → archive key

Each statement is signed by this machine's image key and names the next by its
hash. The chain ends at the first link that is missing or wrong; that one is named,
and the exit status is 12. A signature that was added to a package (_gpgorigin) is
not part of what was built, and is not looked at.

Nothing that this needs ever expires: statements and InRelease files stay when
images, downloads and build records go.`,
		Example: "  dbuild verify hello_2.10-3_amd64.deb\n  dbuild verify hello_2.10-3_amd64.changes",
		Args:    a.atLeastOne("at least one FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			return a.verifyFiles(c, o, args)
		},
	}
	o.addFlags(c.Flags(), "")
	c.Flags().StringSliceVar(&o.keyrings, "keyring", nil, "`FILE` with the archive's keys (default: the installed archive keyring)")
	return c
}

func (a *app) verifyFiles(c *cobra.Command, o *repoOptions, args []string) (err error) {
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
	from := buildenv.Origins{State: s, Keys: keys, Keyrings: o.keyrings}
	var all []buildenv.Traced
	var errs []error
	for _, path := range args {
		var some []buildenv.Traced
		var err error
		if filepath.Ext(path) == ".changes" {
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
			if l.Problem != "" {
				line += ": " + buildenv.Printable(l.Problem)
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
