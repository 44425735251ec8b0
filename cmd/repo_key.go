package cmd

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"dbuild/internal/fault"
	"dbuild/sign"
)

// defaultOverlap is how long the key before signs beside a new one.
const defaultOverlap = 90

func newRepoKeyCommand(a *app) *cobra.Command {
	o := &repoOptions{refresh: true}
	c := &cobra.Command{
		Use:   "key [flags]",
		Short: "Print the public keys that sign the repository",
		Long: `Print the public key that signs the repository, armored, for the Signed-By of a
source; while another key takes over, both. The file key.asc in the repository is
the same. Which keys they are, where their secret parts are kept and when they
expire is told on standard error.

What its owner did with a key of a gpg-agent, such as to let it live longer, is
taken over.`,
		Example: "  dbuild repo key | ssh target tee /etc/apt/keyrings/dbuild.asc\n  dbuild repo key rotate",
		Args:    a.atMost(0, "no argument"),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			return a.withRepo(c.Context(), o, func(r openRepo) error {
				r.WarnOfExpiry()
				return a.showRepoKey(o, r)
			})
		},
	}
	o.addFlags(c.Flags(), "")
	c.AddCommand(newRepoKeyRotateCommand(a), newRepoKeyUseCommand(a), newRepoKeyRetireCommand(a), newRepoKeyDebsigCommand(a))
	return c
}

// shownKey is what is told of a key.
type shownKey struct {
	Fingerprint string     `json:"fingerprint"`
	Kept        string     `json:"kept"`              // "file" or "gpg-agent"
	Secret      string     `json:"secret,omitempty"`  // the file, or the home of GnuPG if it is not the user's
	Expires     *time.Time `json:"expires,omitempty"` // never, if it is not there
	Until       *time.Time `json:"until,omitempty"`   // an old one signs up to then
}

func (k shownKey) String() string {
	text := "is in " + k.Secret
	if k.Kept != "file" {
		text = "is with gpg-agent"
		if k.Secret != "" {
			text += " (" + k.Secret + ")"
		}
	}
	if k.Expires == nil {
		return text + "; it does not expire"
	}
	return text + "; it expires on " + k.Expires.UTC().Format(time.DateOnly)
}

// shown tells of a key of the repository.
func (r openRepo) shown(k sign.Signer) (s shownKey) {
	s = shownKey{Fingerprint: k.Fingerprint(), Kept: "file", Secret: oldKeyPath(r.state.Dir, k.Fingerprint())}
	if at := k.Expiry().At; !at.IsZero() {
		s.Expires = &at
	}
	listed := r.keys.list.Old
	if own := r.keys.list.Own; own != nil {
		listed = append([]listedKey{*own}, listed...)
	}
	if k == sign.Signer(r.keys.local) {
		s.Secret = r.state.Path("keys", "repo.asc")
	}
	for _, l := range listed {
		if l.Fingerprint != k.Fingerprint() {
			continue
		}
		if !l.Until.IsZero() {
			s.Until = &l.Until
		}
		if l.Agent {
			s.Kept, s.Secret = "gpg-agent", l.Home
		}
		break
	}
	return s
}

func (a *app) showRepoKey(o *repoOptions, r openRepo) error {
	path := filepath.Join(r.Dir(), "key.asc")
	own, old := r.shown(r.keys.own), []shownKey{}
	own.Until = nil
	for _, k := range r.keys.also {
		old = append(old, r.shown(k))
	}
	if o.json {
		fields := map[string]any{"fingerprint": own.Fingerprint, "kept": own.Kept, "old": old, "path": path, "key": string(r.PublicKeys())}
		if own.Secret != "" {
			fields["secret"] = own.Secret
		}
		if own.Expires != nil {
			fields["expires"] = own.Expires
		}
		return a.printResult(fields)
	}
	if !o.quiet {
		_, _ = fmt.Fprintf(a.stderr, "%s in %s\n  its secret part %s\n", own.Fingerprint, path, own)
		for _, k := range old {
			_, _ = fmt.Fprintf(a.stderr, "%s signs, too, until %s\n  its secret part %s\n", k.Fingerprint, k.Until.Format(time.RFC3339), k)
		}
	}
	_, err := a.stdout.Write(r.PublicKeys())
	return err
}

// changeKeys runs fn on the keys of the repository, signs all suites again with
// those that it leaves, and shows them.
func (a *app) changeKeys(ctx context.Context, o *repoOptions, fn func(openRepo) error) error {
	if err := a.withRepo(ctx, o, fn); err != nil {
		return err
	}
	return a.withRepo(ctx, o, func(r openRepo) error {
		suites, err := r.Suites()
		if err != nil {
			return err
		}
		for _, s := range suites {
			if _, _, err := r.Resign(ctx, s.Name); err != nil {
				return err
			}
		}
		r.WarnOfExpiry()
		return a.showRepoKey(o, r)
	})
}

// overlapOf is a number of days as a time.
func overlapOf(days int) (time.Duration, error) {
	if days < 0 || days > 3650 {
		return 0, fault.New(fault.Usage, "--overlap %d: not a number of days from 0 to 3650", days)
	}
	return time.Duration(days) * 24 * time.Hour, nil
}

func newRepoKeyRotateCommand(a *app) *cobra.Command {
	o := &repoOptions{}
	days := defaultOverlap
	c := &cobra.Command{
		Use:   "rotate [flags]",
		Short: "Let a new key sign the repository",
		Long: `Make a new key that signs the repository from now on. For the overlap, the key
before signs as well and both are in key.asc, so that readers have the time to take
over the new one. All suites are signed again at once.`,
		Example: "  dbuild repo key rotate --overlap 180",
		Args:    a.atMost(0, "no argument"),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			overlap, err := overlapOf(days)
			if err != nil {
				return err
			}
			return a.changeKeys(c.Context(), o, func(r openRepo) error { return rotateRepoKey(c.Context(), r.state, overlap) })
		},
	}
	o.addFlags(c.Flags(), "")
	c.Flags().IntVar(&days, "overlap", defaultOverlap, "`DAYS` for which the key before signs as well")
	return c
}

func newRepoKeyUseCommand(a *app) *cobra.Command {
	o := &repoOptions{}
	days := defaultOverlap
	c := &cobra.Command{
		Use:   "use [flags] KEYID",
		Short: "Let a key of your gpg-agent sign the repository",
		Long: `Let a key of your gpg-agent sign the repository from now on, in the way of rotate.
KEYID is what gpg takes for one: a fingerprint is best. gpg is run for each
publish then; where that has a terminal, the agent may ask there for a passphrase.
Elsewhere the key must be unlocked, or the publish ends with an error and what it
brought waits for the next one.

A GNUPGHOME that is set is remembered. "dbuild repo key rotate" makes a key without
gpg again.`,
		Example: "  dbuild repo key use 0123456789ABCDEF0123456789ABCDEF01234567",
		Args:    a.exactlyOne("one KEYID"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			overlap, err := overlapOf(days)
			if err != nil {
				return err
			}
			gpg := a.userGPG()
			if home := a.getenv("GNUPGHOME"); home != "" {
				if gpg.Home, err = filepath.Abs(home); err != nil {
					return fault.Wrap(fault.Usage, err)
				}
			}
			return a.changeKeys(c.Context(), o, func(r openRepo) error {
				ctx, cancel := context.WithTimeout(c.Context(), o.signWithin)
				defer cancel()
				return useAgentKey(ctx, r.state, gpg, args[0], overlap)
			})
		},
	}
	o.addFlags(c.Flags(), "")
	c.Flags().IntVar(&days, "overlap", defaultOverlap, "`DAYS` for which the key before signs as well")
	return c
}

func newRepoKeyRetireCommand(a *app) *cobra.Command {
	o := &repoOptions{}
	c := &cobra.Command{
		Use:   "retire [flags] FINGERPRINT",
		Short: "End the time for which a key before signs as well",
		Long: `End the time for which a key before signs as well: one that was lost, say. Readers
who know no other key are left behind. All suites are signed again at once.`,
		Example: "  dbuild repo key retire 0123456789ABCDEF0123456789ABCDEF01234567",
		Args:    a.exactlyOne("one FINGERPRINT"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			fpr, err := fingerprint(args[0])
			if err != nil {
				return err
			}
			return a.changeKeys(c.Context(), o, func(r openRepo) error { return retireRepoKey(c.Context(), r.state, fpr) })
		},
	}
	o.addFlags(c.Flags(), "")
	return c
}
