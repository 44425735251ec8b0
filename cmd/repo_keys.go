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

	"dbuild/internal/atomicfile"
	"dbuild/internal/fault"
	"dbuild/internal/lock"
	"dbuild/internal/report"
	"dbuild/internal/state"
	"dbuild/repo"
	"dbuild/sign"
)

const repoKeyOwner = "dbuild local repository"

// repoKeys are the keys of the repository.
type repoKeys struct {
	own          sign.Signer
	local        *sign.Key // of keys/repo.asc: own, unless a gpg-agent has that
	also, before []sign.Signer
	list         keyList
}

func (k repoKeys) options(o *common, r report.Reporter) repo.Options {
	return repo.Options{
		Now: time.Now, Report: r, Also: k.also, Before: k.before, SignWithin: o.signWithin, SignDebs: o.signDebs, DebKey: k.local,
	}
}

// keyList is keys/repo.json: the key that signs, if it is not that of
// keys/repo.asc, and the keys that it took over from.
type keyList struct {
	V   int         `json:"v"`
	Own *listedKey  `json:"own,omitempty"`
	Old []listedKey `json:"old"`
}

// listedKey is one key. Its public part is in keys/repo-FINGERPRINT.pub.asc, and
// the secret one, unless a gpg-agent has it, in keys/repo-FINGERPRINT.asc.
type listedKey struct {
	Fingerprint string    `json:"fingerprint"`
	Until       time.Time `json:"until,omitzero"` // up to when an old one signs, too
	Agent       bool      `json:"agent,omitempty"`
	Home        string    `json:"home,omitempty"` // of GnuPG, where it is not the user's
}

func keyListPath(dir string) string { return filepath.Join(dir, "keys", "repo.json") }

func oldKeyPath(dir, fingerprint string) string {
	return filepath.Join(dir, "keys", "repo-"+fingerprint+".asc")
}

func publicKeyPath(dir, fingerprint string) string {
	return filepath.Join(dir, "keys", "repo-"+fingerprint+".pub.asc")
}

func readKeyList(dir string) (list keyList, err error) {
	b, err := os.ReadFile(keyListPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return keyList{V: 1}, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &list)
	}
	if err == nil && list.V != 1 && list.V != 2 {
		err = fmt.Errorf("version %d is not known", list.V)
	}
	if err != nil {
		return list, fault.Wrap(fault.Trust, fmt.Errorf("read keys of the repository: %w", err))
	}
	return list, nil
}

// write replaces the list, in one step. Version 2 has keys of a gpg-agent.
func (l keyList) write(dir string) error {
	l.V = 1
	if l.Own != nil || slices.ContainsFunc(l.Old, func(k listedKey) bool { return k.Agent }) {
		l.V = 2
	}
	b, err := json.MarshalIndent(l, "", " ")
	if err != nil {
		return err
	}
	return atomicfile.Write(keyListPath(dir), append(b, '\n'), 0o600)
}

// userGPG is gpg as the keys of the repository are used with: it asks for a
// passphrase where this command has a terminal, and nowhere else.
func (a *app) userGPG() sign.GPG {
	for _, stream := range []any{a.stdin, a.stderr} {
		if f, ok := stream.(*os.File); ok && terminal(int(f.Fd())) {
			if name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd())); err == nil {
				return sign.GPG{Terminal: name}
			}
		}
	}
	return sign.GPG{Silent: true}
}

// openRepoKeys loads the repository's keys, making one on first use. gpg is run
// only for a key that it has: when its end is near, or to refresh what is known
// of it.
func openRepoKeys(ctx context.Context, s *state.State, gpg sign.GPG, refresh bool) (k repoKeys, err error) {
	if k.local, err = ensureKey(ctx, s, "repo", repoKeyOwner); err != nil {
		return k, err
	}
	public := publicKeyPath(s.Dir, k.local.Fingerprint())
	if _, err := os.Lstat(public); errors.Is(err, fs.ErrNotExist) {
		if err := atomicfile.Write(public, k.local.PublicArmored(), 0o600); err != nil {
			return k, err
		}
	}
	if k.list, err = readKeyList(s.Dir); err != nil {
		return k, err
	}
	k.own = k.local
	if k.list.Own != nil {
		if k.own, err = openAgentKey(ctx, s.Dir, gpg, *k.list.Own, refresh); err != nil {
			return k, err
		}
	}
	for _, o := range k.list.Old {
		if o.Fingerprint == k.own.Fingerprint() {
			continue // a rotation that did not come to its end
		}
		signs := time.Now().Before(o.Until)
		var key sign.Signer
		if o.Agent {
			key, err = openAgentKey(ctx, s.Dir, gpg, o, refresh && signs)
		} else {
			key, err = sign.Load(oldKeyPath(s.Dir, o.Fingerprint))
		}
		if err != nil {
			return k, err
		}
		if signs {
			k.also = append(k.also, key)
		} else {
			k.before = append(k.before, key)
		}
	}
	return k, nil
}

// readAgentKey is a key of a gpg-agent as far as the state knows it.
func readAgentKey(dir string, gpg sign.GPG, k listedKey) (*sign.AgentKey, error) {
	public, err := os.ReadFile(publicKeyPath(dir, k.Fingerprint))
	if err != nil {
		return nil, fault.Wrap(fault.Trust, fmt.Errorf("read key of the repository: %w", err))
	}
	gpg.Home = k.Home
	key, err := sign.NewAgentKey(gpg, public)
	if err == nil && key.Fingerprint() != k.Fingerprint {
		err = fault.New(fault.Trust, "%q has the key %s", publicKeyPath(dir, k.Fingerprint), key.Fingerprint())
	}
	return key, err
}

// openAgentKey is readAgentKey with what gpg knows by now.
func openAgentKey(ctx context.Context, dir string, gpg sign.GPG, k listedKey, refresh bool) (*sign.AgentKey, error) {
	key, err := readAgentKey(dir, gpg, k)
	if err != nil || !refresh && !key.Expiry().Near(time.Now()) {
		return key, err
	}
	now, err := key.Refresh(ctx)
	if err != nil || now == key {
		return key, nil //nolint:nilerr // what is known of it does; gpg says more when it signs
	}
	return now, atomicfile.Write(publicKeyPath(dir, k.Fingerprint), sign.PublicArmored([]sign.Signer{now}), 0o600)
}

// agentKeys are the keys of a gpg-agent that sign the repository in a state, as
// far as the state knows them.
func agentKeys(dir string, now time.Time) (keys []*sign.AgentKey, err error) {
	list, err := readKeyList(dir)
	if err != nil {
		return nil, err
	}
	listed := slices.DeleteFunc(slices.Clone(list.Old), func(k listedKey) bool { return !k.Agent || !now.Before(k.Until) })
	if list.Own != nil {
		listed = append([]listedKey{*list.Own}, listed...)
	}
	for _, l := range listed {
		k, err := readAgentKey(dir, sign.GPG{}, l)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// changeRepoKeys runs fn while nobody else changes the keys, with the list and
// the key that signs.
func changeRepoKeys(ctx context.Context, s *state.State, fn func(list keyList, own listedKey) error) (err error) {
	l, err := lock.Acquire(ctx, s.Path("locks", "keys"), lock.Exclusive, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Unlock()) }()
	list, err := readKeyList(s.Dir)
	if err != nil {
		return err
	}
	if list.Own != nil {
		return fn(list, *list.Own)
	}
	local, err := sign.Load(s.Path("keys", "repo.asc"))
	if err != nil {
		return err
	}
	// Under this name it is found again, whatever takes its place.
	if err := local.Save(oldKeyPath(s.Dir, local.Fingerprint())); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return fn(list, listedKey{Fingerprint: local.Fingerprint()})
}

// succeed makes own one of the old keys, which signs for the overlap, in the
// place of what the list says of it and of the key that takes over.
func (l keyList) succeed(own listedKey, next string, overlap time.Duration) keyList {
	l.Old = slices.DeleteFunc(l.Old, func(k listedKey) bool { return k.Fingerprint == own.Fingerprint || k.Fingerprint == next })
	own.Until = time.Now().Add(overlap).UTC().Truncate(time.Second)
	l.Old = append(l.Old, own)
	return l
}

// rotateRepoKey makes a new local key that takes over at once; the one before
// signs beside it for the overlap. Killed anywhere, the key before or the new
// one is the repository's, and no key is lost.
func rotateRepoKey(ctx context.Context, s *state.State, overlap time.Duration) error {
	return changeRepoKeys(ctx, s, func(list keyList, own listedKey) error {
		next, err := sign.Generate(repoKeyOwner, time.Now().Add(-time.Minute))
		if err != nil {
			return err
		}
		staged := s.Path("keys", ".repo-"+next.Fingerprint()+".tmp") // as such, ensureKey removes it
		defer func() { _ = os.Remove(staged) }()
		if err := next.Save(staged); err != nil {
			return err
		}
		list = list.succeed(own, next.Fingerprint(), overlap)
		list.Own = nil
		path := s.Path("keys", "repo.asc")
		steps := []func() error{
			func() error { return list.write(s.Dir) },
			func() error { return os.Rename(staged, path) },
			func() error { return atomicfile.SyncDir(filepath.Dir(path)) },
		}
		if own.Agent { // the list says whether repo.asc counts
			steps = append(steps[1:], steps[0])
		}
		steps = append(steps, func() error { return atomicfile.Write(s.Path("keys", "repo.pub.asc"), next.PublicArmored(), 0o600) })
		for _, step := range steps {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	})
}

// useAgentKey lets a key of the user's gpg-agent take over.
func useAgentKey(ctx context.Context, s *state.State, gpg sign.GPG, id string, overlap time.Duration) error {
	next, err := sign.FindAgentKey(ctx, gpg, id)
	if err != nil {
		return err
	}
	return changeRepoKeys(ctx, s, func(list keyList, own listedKey) error {
		if err := atomicfile.Write(publicKeyPath(s.Dir, next.Fingerprint()), sign.PublicArmored([]sign.Signer{next}), 0o600); err != nil {
			return err
		}
		if own.Fingerprint != next.Fingerprint() {
			list = list.succeed(own, next.Fingerprint(), overlap)
		}
		list.Own = &listedKey{Fingerprint: next.Fingerprint(), Agent: true, Home: gpg.Home}
		return list.write(s.Dir)
	})
}

// retireRepoKey ends the time for which an old key signs.
func retireRepoKey(ctx context.Context, s *state.State, fpr string) error {
	return changeRepoKeys(ctx, s, func(list keyList, _ listedKey) error {
		for i, k := range list.Old {
			if k.Fingerprint == fpr {
				if now := time.Now().UTC().Truncate(time.Second); now.Before(k.Until) {
					list.Old[i].Until = now
				}
				return list.write(s.Dir)
			}
		}
		return fault.WithHint(fault.New(fault.Usage, "%s is no key that signs beside the repository's own", fpr), "dbuild repo key lists them")
	})
}
