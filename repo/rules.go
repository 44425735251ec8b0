package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"dbuild/internal/fault"
)

// Rules are what a suite does with what comes into it, and what it offers
// beside packages. Unlike a suite's identity they may change; the generation
// that follows is made by the new ones.
type Rules struct {
	// Immutable suites refuse other bytes under a name that they list; in
	// others a rebuild replaces the build before. A client that keeps the
	// earlier file in apt's cache goes on using it if the size is the same:
	// apt does not hash what it has.
	Immutable bool `json:"immutable,omitempty"`
	// Rising suites refuse a version below the highest that they list of the
	// package and architecture.
	Rising bool `json:"rising,omitempty"`
	// Keep is how many versions of a package stay for each architecture, the
	// highest; zero: all, or one where KeepDays is set. With KeepDays a lower
	// version stays, too, until it has been in the suite for so many days. A
	// source stays as long as a package that was built from it.
	Keep     int `json:"keep,omitempty"`
	KeepDays int `json:"keep_days,omitempty"`
	// Debug is where packages with debug symbols go.
	Debug Debug `json:"debug,omitempty"`
	// ValidDays is after how many days apt no longer takes the suite's Release
	// for fresh (Valid-Until), unless it is signed again; zero: never. Renew
	// signs again after the first half.
	ValidDays int `json:"valid_days,omitempty"`
	// Contents adds the lists of the files in packages, for apt-file.
	Contents bool `json:"contents,omitempty"`
	// Translations moves long descriptions from Packages into Translation-en.
	Translations bool `json:"translations,omitempty"`
	// XZ adds xz to the forms of the indexes, for readers that know neither
	// zstd nor gzip. It needs the program xz, and makes a publish slower.
	XZ bool `json:"xz,omitempty"`
}

// Debug says where automatic debug packages (-dbgsym) go.
type Debug string

// Where debug packages go.
const (
	DebugSame      Debug = ""          // into the suite and component of their package
	DebugSuite     Debug = "suite"     // into the suite NAME-debug, as in Debian
	DebugComponent Debug = "component" // into the component COMPONENT-debug
)

// maxDays bounds what is given in days: a century.
const maxDays = 36500

// check returns every reason why rules make no sense.
func (r Rules) check() error {
	var errs []error
	for field, n := range map[string]int{"keep": r.Keep, "keep_days": r.KeepDays, "valid_days": r.ValidDays} {
		if n < 0 || n > maxDays {
			errs = append(errs, fmt.Errorf("%s %d: not a number from 0 to %d", field, n, maxDays))
		}
	}
	switch r.Debug {
	case DebugSame, DebugSuite, DebugComponent:
	default:
		errs = append(errs, fmt.Errorf("debug %q: neither %q nor %q", r.Debug, DebugSuite, DebugComponent))
	}
	return errors.Join(errs...)
}

// validUntil is the end of the time for which a Release file of the given Date
// is valid, the zero time for ever.
func (r Rules) validUntil(date time.Time) time.Time {
	if r.ValidDays == 0 {
		return time.Time{}
	}
	return date.AddDate(0, 0, r.ValidDays)
}

// due tells whether a generation's Valid-Until is not what the rules ask for,
// or half of its time is over.
func (r Rules) due(cur generation, now time.Time) bool {
	until := cur.release.ValidUntil
	if r.ValidDays == 0 || until.IsZero() {
		return (r.ValidDays == 0) != until.IsZero()
	}
	if !until.Equal(r.validUntil(cur.release.Date)) {
		return true
	}
	return now.After(cur.release.Date.Add(until.Sub(cur.release.Date) / 2))
}

// ChangeSuite changes what of a suite may change: its description, its rules,
// and the lists that only grow. fn gets the suite as it is. A change of its
// identity is refused with class usage, and so is a suite that does not exist.
func (r *Repo) ChangeSuite(ctx context.Context, name string, fn func(*Suite) error) error {
	if _, err := r.queried(name); err != nil {
		return err
	}
	err := r.write(ctx, func(w *writer) error {
		have, _, err := w.openSuite(ctx, DefaultSuite(name))
		if err != nil {
			return err
		}
		want := have
		if err := fn(&want); err != nil {
			return err
		}
		want.Architectures = union(have.Architectures, want.Architectures)
		want.Components = union(have.Components, want.Components)
		if err := want.check(); err != nil {
			return fault.Wrap(fault.Usage, fmt.Errorf("change suite %q: %w", name, err))
		}
		if have.identity() != want.identity() {
			return fault.New(fault.Usage, "change suite %q: its identity cannot change", name)
		}
		return w.disk.writeDurable(suiteFile(name), want.encode())
	})
	if err != nil {
		return err
	}
	if _, err := r.Renew(ctx, name); err != nil {
		return err
	}
	return r.createDebugSuite(ctx, name)
}

// Renew makes a new generation of a suite if its rules ask for one: because
// they changed, because half of the time is over for which the last one is
// valid, or because versions have had their days. It tells whether there was
// anything to do.
func (r *Repo) Renew(ctx context.Context, name string) (renewed bool, err error) {
	if _, err := r.queried(name); err != nil {
		return false, err
	}
	_, err = r.update(ctx, DefaultSuite(name), func(w *writer, s Suite, cur generation) (change, error) {
		gone, err := w.outdated(ctx, s)
		if err != nil {
			return change{}, err
		}
		ch := change{suite: s, from: cur, drop: gone}
		renewed = !ch.empty() || ch.stale(w.now())
		return ch, nil
	})
	return renewed, err
}

// stale tells whether the rules of a suite ask for other Release fields or
// other indexes than the generation before has.
func (ch change) stale(now time.Time) bool {
	if ch.from.n == 0 || ch.suite.due(ch.from, now) || ch.from.release.Description != ch.suite.Description || ch.from.rules != ch.suite.signedRules() {
		return true
	}
	want := 0
	for _, x := range (draft{suite: ch.suite, from: ch.from}).indexes() {
		for _, form := range ch.suite.forms() {
			if _, ok := ch.from.release.Files[x.path()+form]; !ok {
				return true
			}
			want++
		}
	}
	return want != len(ch.from.release.Files)
}

// rulesField is the field of a Release file that holds what of a suite no other
// field shows, so that the suite can be made again from what was signed. apt
// passes over fields that it does not know.
const rulesField = "Dbuild-Rules"

// kept is the content of that field.
type kept struct {
	Snapshot string `json:"snapshot,omitempty"`
	Rules
}

// signedRules is the field's value, empty for a suite without rules.
func (s Suite) signedRules() string {
	if s.Snapshot == "" && s.Rules == (Rules{}) {
		return ""
	}
	return string(encodeJSON(kept{s.Snapshot, s.Rules}))
}

// rulesIn is the value of the field in the text of a Release file.
func rulesIn(text []byte) string {
	for line := range bytes.Lines(text) {
		if value, ok := bytes.CutPrefix(line, []byte(rulesField+": ")); ok {
			return string(bytes.TrimSpace(value))
		}
	}
	return ""
}

func suiteFile(name string) string { return path.Join("suites", name+".json") }
