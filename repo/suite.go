package repo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"dbuild/deb"
	"dbuild/internal/fault"
)

// Suite is what a suite is from its creation on, and its rules. apt refuses a
// repository whose Origin, Label, Codename or NotAutomatic changed until a
// person accepts it, so none of these can change.
type Suite struct {
	// Name is the directory below dists, and what people write in a source.
	Name string `json:"name"`
	// Origin and Label are what apt's pinning sees.
	Origin string `json:"origin"`
	Label  string `json:"label"`
	// Suite and Codename are the Release fields; one of them must be Name, or
	// apt warns of a conflicting distribution. Empty: Name.
	Suite       string `json:"suite"`
	Codename    string `json:"codename"`
	Description string `json:"description,omitempty"`
	// NotAutomatic keeps apt from installing from the suite unless asked (pin
	// 1); with ButAutomaticUpgrades what is installed gets upgrades (pin 100).
	NotAutomatic         bool `json:"not_automatic,omitempty"`
	ButAutomaticUpgrades bool `json:"but_automatic_upgrades,omitempty"`
	// Snapshot is the suite that this one is a snapshot of: it never changes.
	Snapshot string `json:"snapshot,omitempty"`
	// Architectures and Components are there from the start, even empty; an
	// upload adds what it brings.
	Architectures []string `json:"architectures"`
	Components    []string `json:"components"`
	Rules
}

// DefaultSuite is the suite that a first publish into name creates: a rebuild
// replaces, one component main, the architecture of this machine.
func DefaultSuite(name string) Suite {
	return Suite{
		Name: name, Origin: "dbuild", Label: "dbuild", Suite: name, Codename: name,
		Description:   "packages built by dbuild",
		Architectures: []string{deb.HostArch()}, Components: []string{"main"},
	}
}

var (
	suiteName     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.+-]{0,99}$`)
	componentName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,49}$`)
	headerText    = regexp.MustCompile(`^[^\x00-\x1f\x7f]*$`)
)

// check returns every reason why s cannot be a suite.
func (s Suite) check() error {
	var errs []error
	if !suiteName.MatchString(s.Name) {
		errs = append(errs, fmt.Errorf("suite name %q: letters, digits and .+- only", s.Name))
	}
	if s.Suite != s.Name && s.Codename != s.Name {
		errs = append(errs, fmt.Errorf("neither Suite %q nor Codename %q is the name %q", s.Suite, s.Codename, s.Name))
	}
	for field, v := range map[string]string{"origin": s.Origin, "label": s.Label, "suite": s.Suite, "codename": s.Codename, "description": s.Description} {
		if !headerText.MatchString(v) {
			errs = append(errs, fmt.Errorf("%s %q: one line of text only", field, v))
		}
	}
	for _, a := range s.Architectures {
		if a == "all" || !deb.KnownArch(a) {
			errs = append(errs, fmt.Errorf("architecture %q is not one that a machine has", a))
		}
	}
	for _, c := range s.Components {
		if !componentName.MatchString(c) {
			errs = append(errs, fmt.Errorf("component %q: lower-case letters, digits and - only", c))
		}
	}
	if s.ButAutomaticUpgrades && !s.NotAutomatic {
		errs = append(errs, errors.New("ButAutomaticUpgrades means nothing without NotAutomatic"))
	}
	errs = append(errs, s.Rules.check())
	return errors.Join(errs...)
}

func (s Suite) withDefaults() Suite {
	d := DefaultSuite(s.Name)
	for field, v := range map[*string]string{&s.Origin: d.Origin, &s.Label: d.Label, &s.Suite: d.Suite, &s.Codename: d.Codename} {
		if *field == "" {
			*field = v
		}
	}
	if len(s.Architectures) == 0 {
		s.Architectures = d.Architectures
	}
	if len(s.Components) == 0 {
		s.Components = d.Components
	}
	s.Architectures = union(s.Architectures)
	s.Components = union(s.Components)
	return s
}

// identity is what of a suite cannot change: all but its description, its
// rules, and the lists that grow.
func (s Suite) identity() string {
	s.Architectures, s.Components, s.Description, s.Rules = nil, nil, "", Rules{}
	return string(s.encode())
}

// CreateSuite makes a suite and its first, empty generation, so that a client
// can name it at once. For a suite that exists it adds architectures and
// components and leaves its rules (see ChangeSuite); with another identity it is
// refused with class usage.
func (r *Repo) CreateSuite(ctx context.Context, s Suite) error {
	s = s.withDefaults()
	if err := s.check(); err != nil {
		return fault.Wrap(fault.Usage, fmt.Errorf("create suite: %w", err))
	}
	_, err := r.update(ctx, s, func(_ *writer, have Suite, cur generation) (change, error) {
		if have.identity() != s.identity() {
			return change{}, fault.New(fault.Usage, "create suite: %q exists with another identity, which cannot change", s.Name)
		}
		ch := change{suite: have, from: cur}
		ch.suite.Architectures = union(have.Architectures, s.Architectures)
		ch.suite.Components = union(have.Components, s.Components)
		return ch, nil
	})
	if err != nil {
		return err
	}
	return r.createDebugSuite(ctx, s.Name)
}

// Suites returns the suites of the repository in the order of their names, with
// the architectures and components that they have by now.
func (r *Repo) Suites() ([]Suite, error) {
	files, err := filepath.Glob(filepath.Join(r.dir, "suites", "*.json"))
	if err != nil {
		return nil, err
	}
	var suites []Suite
	for _, f := range files {
		name := filepath.Base(f[:len(f)-len(".json")])
		s, found, err := r.readSuite(name)
		if err != nil {
			return nil, err
		}
		if !found {
			continue
		}
		cur, err := r.current(name)
		if err != nil {
			return nil, err
		}
		if cur.n > 0 {
			s.Architectures = union(s.Architectures, without(slices.Clone(cur.release.Architectures), []string{"all"}))
			s.Components = union(s.Components, cur.release.Components)
		}
		suites = append(suites, s)
	}
	return suites, nil
}

func (s Suite) encode() []byte {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		panic(err) // strings and booleans always encode
	}
	return append(b, '\n')
}

// readSuite reads a suite's file; found is false when there is none.
func (r *Repo) readSuite(name string) (s Suite, found bool, err error) {
	if !suiteName.MatchString(name) {
		return s, false, fault.New(fault.Usage, "read suite: %q is not a suite name", name)
	}
	path := r.path(suiteFile(name))
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || r.dropped(name) {
		return s, false, nil
	}
	if err != nil {
		return s, false, err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return s, false, fault.New(fault.Input, "read suite %q: %w", path, err)
	}
	if s.Name != name {
		return s, false, fault.New(fault.Input, "read suite %q: it names suite %q", path, s.Name)
	}
	if err := s.check(); err != nil {
		return s, false, fault.New(fault.Input, "read suite %q: %w", path, err)
	}
	return s, true, nil
}

// openSuite returns the suite and its current generation (number 0 if it has
// none), with the database in step. A suite that does not exist yet is made
// from the given one; its file comes before its first generation, so that no
// crash can lose the rules of a suite that clients see.
func (w *writer) openSuite(ctx context.Context, ifNew Suite) (Suite, generation, error) {
	if w.dropped(ifNew.Name) {
		if err := w.sweepDropped(ctx, ifNew.Name); err != nil {
			return ifNew, generation{}, err
		}
	}
	cur, err := w.mended(ctx, ifNew.Name)
	if err != nil {
		return ifNew, cur, err
	}
	s, found, err := w.readSuite(ifNew.Name)
	if err != nil {
		return s, cur, err
	}
	if !found {
		s = ifNew
		if cur.n > 0 {
			if err := w.verifySigned(cur); err != nil {
				return s, cur, fmt.Errorf("restore suite %q: %w", s.Name, err)
			}
			if s, err = s.restored(cur); err != nil {
				return s, cur, err
			}
			w.report.Warn("suites/%s.json was missing; restored from the suite's Release file", s.Name)
		}
		if err := w.writeSuite(s); err != nil {
			return s, cur, err
		}
	}
	have, err := w.recordedRelease(ctx, s.Name)
	if err != nil || have == cur.digest {
		return s, cur, err
	}
	// A process died between showing the generation and recording it, or the
	// database is new. The generation may not be durable yet.
	w.disk.changed("dists")
	known, err := w.resume(ctx, s.Name, cur)
	if err != nil {
		return s, cur, err
	}
	if !known {
		w.report.Note("reading the rows of suite %s from its generation %d", s.Name, cur.n)
		if err := w.readRows(ctx, s.Name, cur); err != nil {
			return s, cur, err
		}
	}
	return s, cur, w.refreshRecord(s.Name, cur)
}

// writeSuite writes the file of a suite.
func (w *writer) writeSuite(s Suite) error {
	if err := errors.Join(w.disk.mkdir("suites"), w.disk.mkdir("dists"), w.disk.mkdir("pool")); err != nil {
		return err
	}
	if err := w.disk.writeDurable(suiteFile(s.Name), s.encode()); err != nil {
		return fmt.Errorf("create suite %q: %w", s.Name, err)
	}
	return nil
}

// restored is the suite as its signed Release file tells it.
func (s Suite) restored(g generation) (Suite, error) {
	rel := g.release
	s.Origin, s.Label, s.Suite, s.Codename = rel.Origin, rel.Label, rel.Suite, rel.Codename
	s.Description = rel.Description
	s.NotAutomatic, s.ButAutomaticUpgrades = rel.NotAutomatic, rel.ButAutomaticUpgrades
	s.Architectures, s.Components = without(slices.Clone(rel.Architectures), []string{"all"}), slices.Clone(rel.Components)
	if g.rules == "" { // none, or of a dbuild that did not sign them
		s.Contents = slices.Contains(rel.Architectures, "all")
		for p := range rel.Files {
			s.Translations = s.Translations || strings.HasSuffix(p, "/i18n/Translation-en")
			s.XZ = s.XZ || strings.HasSuffix(p, ".xz")
		}
		if !rel.ValidUntil.IsZero() {
			s.ValidDays = int(rel.ValidUntil.Sub(rel.Date) / (24 * time.Hour))
		}
		return s, nil
	}
	var k kept
	dec := json.NewDecoder(strings.NewReader(g.rules))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&k); err != nil {
		return s, fault.New(fault.Input, "read %s of %q: %w", rulesField, g.dir, err)
	}
	s.Snapshot, s.Rules = k.Snapshot, k.Rules
	return s, nil
}
