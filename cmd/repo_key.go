package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"dbuild/internal/atomicfile"
	"dbuild/internal/fault"
	"dbuild/internal/lock"
	"dbuild/internal/report"
	"dbuild/internal/state"
	"dbuild/repo"
	"dbuild/sign"
)

// defaultOverlap is how long the key before signs beside a new one.
const defaultOverlap = 90

// repoKeys are the keys of the repository.
type repoKeys struct {
	own          *sign.Key
	also, before []*sign.Key
	until        map[string]time.Time // by fingerprint: up to when a key before signs, too
}

func (k repoKeys) options(o *common, r report.Reporter) repo.Options {
	return repo.Options{Now: time.Now, Report: r, Also: k.also, Before: k.before, SignDebs: o.signDebs}
}

// oldKeys is keys/repo.json: the keys that keys/repo.asc took over from. The
// secret parts are in keys/repo-FINGERPRINT.asc.
type oldKeys struct {
	V   int      `json:"v"`
	Old []oldKey `json:"old"`
}

type oldKey struct {
	Fingerprint string    `json:"fingerprint"`
	Until       time.Time `json:"until"`
}

func oldKeyPath(s *state.State, fingerprint string) string {
	return s.Path("keys", "repo-"+fingerprint+".asc")
}

// openRepoKeys loads the repository's keys, making one on first use.
func openRepoKeys(ctx context.Context, s *state.State) (k repoKeys, err error) {
	if k.own, err = ensureKey(ctx, s, "repo", "dbuild local repository"); err != nil {
		return k, err
	}
	old, err := readOldKeys(s)
	if err != nil {
		return k, err
	}
	k.until = map[string]time.Time{}
	for _, o := range old.Old {
		if o.Fingerprint == k.own.Fingerprint() {
			continue // a rotation that did not come to its end
		}
		key, err := sign.Load(oldKeyPath(s, o.Fingerprint))
		if err != nil {
			return k, err
		}
		k.until[o.Fingerprint] = o.Until
		if time.Now().Before(o.Until) {
			k.also = append(k.also, key)
		} else {
			k.before = append(k.before, key)
		}
	}
	return k, nil
}

func readOldKeys(s *state.State) (old oldKeys, err error) {
	b, err := os.ReadFile(s.Path("keys", "repo.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return oldKeys{V: 1}, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &old)
	}
	if err == nil && old.V != 1 {
		err = fmt.Errorf("version %d is not known", old.V)
	}
	if err != nil {
		return old, fault.Wrap(fault.Trust, fmt.Errorf("read keys of the repository: %w", err))
	}
	return old, nil
}

// rotateRepoKey makes a new key that takes over at once; the one before signs
// beside it for the overlap. Killed anywhere, the key before or the new one is
// the repository's, and no key is lost.
func rotateRepoKey(ctx context.Context, s *state.State, overlap time.Duration) (err error) {
	l, err := lock.Acquire(ctx, s.Path("locks", "keys"), lock.Exclusive, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Unlock()) }()
	path := s.Path("keys", "repo.asc")
	own, err := sign.Load(path)
	if err != nil {
		return err
	}
	old, err := readOldKeys(s)
	if err != nil {
		return err
	}
	if err := own.Save(oldKeyPath(s, own.Fingerprint())); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	next, err := sign.Generate("dbuild local repository", time.Now().Add(-time.Minute))
	if err != nil {
		return err
	}
	staged := s.Path("keys", ".repo-"+next.Fingerprint()+".tmp") // as such, ensureKey removes it
	defer func() { _ = os.Remove(staged) }()
	if err := next.Save(staged); err != nil {
		return err
	}
	old.Old = slices.DeleteFunc(old.Old, func(o oldKey) bool { return o.Fingerprint == own.Fingerprint() })
	old.Old = append(old.Old, oldKey{own.Fingerprint(), time.Now().Add(overlap).UTC().Truncate(time.Second)})
	b, err := json.MarshalIndent(old, "", " ")
	if err != nil {
		return err
	}
	if err := atomicfile.Write(s.Path("keys", "repo.json"), append(b, '\n'), 0o600); err != nil {
		return err
	}
	if err := os.Rename(staged, path); err != nil {
		return err
	}
	return errors.Join(atomicfile.SyncDir(filepath.Dir(path)), atomicfile.Write(s.Path("keys", "repo.pub.asc"), next.PublicArmored(), 0o600))
}

func newRepoKeyCommand(a *app) *cobra.Command {
	o := &repoOptions{}
	c := &cobra.Command{
		Use:   "key [flags]",
		Short: "Print the public keys that sign the repository",
		Long: `Print the public key that signs the repository, armored, for the Signed-By of a
source; while another key takes over, both. The file key.asc in the repository is
the same.`,
		Example: "  dbuild repo key | ssh target tee /etc/apt/keyrings/dbuild.asc\n  dbuild repo key rotate",
		Args:    a.atMost(0, "no argument"),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			return a.withRepo(c.Context(), o, func(r openRepo) error { return a.showRepoKey(o, r) })
		},
	}
	o.addFlags(c.Flags(), "")
	c.AddCommand(newRepoKeyRotateCommand(a), newRepoKeyDebsigCommand(a))
	return c
}

func (a *app) showRepoKey(o *repoOptions, r openRepo) error {
	path := filepath.Join(r.Dir(), "key.asc")
	if o.json {
		old := []oldKey{}
		for _, k := range r.keys.also {
			old = append(old, oldKey{k.Fingerprint(), r.keys.until[k.Fingerprint()]})
		}
		return a.printResult(map[string]any{"fingerprint": r.keys.own.Fingerprint(), "old": old, "path": path, "key": string(r.PublicKeys())})
	}
	if !o.quiet {
		_, _ = fmt.Fprintf(a.stderr, "%s in %s\n", r.keys.own.Fingerprint(), path)
		for _, k := range r.keys.also {
			_, _ = fmt.Fprintf(a.stderr, "%s signs, too, until %s\n", k.Fingerprint(), r.keys.until[k.Fingerprint()].Format(time.RFC3339))
		}
	}
	_, err := a.stdout.Write(r.PublicKeys())
	return err
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
			if days < 0 || days > 3650 {
				return fault.New(fault.Usage, "--overlap %d: not a number of days from 0 to 3650", days)
			}
			if err := a.withRepo(c.Context(), o, func(r openRepo) error {
				return rotateRepoKey(c.Context(), r.state, time.Duration(days)*24*time.Hour)
			}); err != nil {
				return err
			}
			return a.withRepo(c.Context(), o, func(r openRepo) error {
				suites, err := r.Suites()
				if err != nil {
					return err
				}
				for _, s := range suites {
					if _, _, err := r.Resign(c.Context(), s.Name); err != nil {
						return err
					}
				}
				return a.showRepoKey(o, r)
			})
		},
	}
	o.addFlags(c.Flags(), "")
	c.Flags().IntVar(&days, "overlap", defaultOverlap, "`DAYS` for which the key before signs as well")
	return c
}
