package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"dbuild/engine"
	"dbuild/internal/lock"
)

// maxChain bounds how many statements lie between an image and its base.
const maxChain = 64

// Policy says which base a run would have made itself. Every field counts;
// empty lists allow nothing.
type Policy struct {
	Suite      string   // as the user knows it
	Suites     []string // names below dists/ that the base must have come from, no more and no fewer
	Components []string // in any order
	Arch       string
	HostArch   string
	Variant    string
	Recipe     string   // "": any
	Keys       []string // fingerprints that may have signed its archives
	Switches   []string // of this run; the base's own must be among them

	// What was added to a base may come from further archives, by the
	// switches of this run that say so.
	StepKeys     []string
	StepSwitches []string
}

// refuses says why a base does not fit; "" if it does.
func (p *Policy) refuses(st *Statement) string {
	switch {
	case st.Suite != p.Suite:
		return fmt.Sprintf("it is of suite %q", st.Suite)
	case st.Arch != p.Arch || st.HostArch != p.HostArch:
		return fmt.Sprintf("it is of architecture %q for %q", st.Arch, st.HostArch)
	case st.Variant != p.Variant:
		return fmt.Sprintf("it is of variant %q", st.Variant)
	case st.EngineFormat != EngineFormat:
		return fmt.Sprintf("it has engine format %d", st.EngineFormat)
	case p.Recipe != "" && st.Recipe != p.Recipe:
		return fmt.Sprintf("it was made by recipe %q", st.Recipe)
	case !sameSet(st.Components, p.Components):
		return fmt.Sprintf("it has components %q", st.Components)
	}
	suites := make([]string, 0, len(st.Archive))
	for _, a := range st.Archive {
		suites = append(suites, a.Suite)
	}
	if !sameSet(suites, p.Suites) {
		return fmt.Sprintf("it came from suites %q", suites)
	}
	return p.refusesOrigin(st)
}

// refusesSteps says why a deps image does not fit whose base does: what was
// added came from where this run would not take it. "" if it fits.
func (p *Policy) refusesSteps(e *Entry) string {
	for _, st := range append([]Statement{e.Statement}, e.Chain...) {
		if why := p.refusesOrigin(&st); why != "" {
			return why
		}
	}
	return ""
}

// refusesOrigin looks at the signers of archives and at switches.
func (p *Policy) refusesOrigin(st *Statement) string {
	step := st.Kind != KindBase
	for _, a := range st.Archive {
		if !slices.Contains(p.Keys, a.SignedBy) && !(step && slices.Contains(p.StepKeys, a.SignedBy)) {
			return fmt.Sprintf("key %s, which signed %q, is not allowed", a.SignedBy, a.Suite)
		}
	}
	for _, s := range st.Switches {
		if !slices.Contains(p.Switches, s) && !(step && slices.Contains(p.StepSwitches, s)) {
			return fmt.Sprintf("it was made with %q", s)
		}
	}
	return ""
}

func sameSet(a, b []string) bool {
	in := func(s []string) func(string) bool {
		return func(x string) bool { return !slices.Contains(s, x) }
	}
	return !slices.ContainsFunc(a, in(b)) && !slices.ContainsFunc(b, in(a))
}

// Entry is a verified image. While it is open no process removes it.
type Entry struct {
	Statement Statement
	Hash      string // of the statement's bytes
	Image     engine.Image
	// Chain holds the verified statements below this one, the base's last.
	Chain []Statement
	// RolledBack is true of a base that is in force because a newer one was set
	// aside by [Store.Rollback].
	RolledBack bool

	store *Store
	use   *lock.Lock
	mark  *mark
}

// Base returns the base statement of the image: the entry's own or the last of
// its chain.
func (e *Entry) Base() *Statement {
	if len(e.Chain) == 0 {
		return &e.Statement
	}
	return &e.Chain[len(e.Chain)-1]
}

// Close lets others remove the image. It is safe to call twice and on nil.
func (e *Entry) Close() error {
	if e == nil {
		return nil
	}
	return errors.Join(e.mark.remove(), e.use.Unlock())
}

// Base returns the newest base that fits, or [ErrNotFound]. Its statement is
// verified, its files are not: see [Entry.Check]. The caller closes the entry.
func (s *Store) Base(ctx context.Context, p Policy) (*Entry, error) {
	return s.lookup(ctx, KindBase, baseKey(p.Suite, p.Arch, p.HostArch, p.Variant), &p)
}

// Deps returns the newest deps image with this key whose base fits, or
// [ErrNotFound]. If the newest base holds just that set by itself, it is the
// answer: nothing has to be added. Verification and closing are as with
// [Store.Base].
func (s *Store) Deps(ctx context.Context, p Policy, key string) (*Entry, error) {
	e, err := s.lookup(ctx, KindDeps, key, &p)
	if !errors.Is(err, ErrNotFound) {
		return e, err
	}
	if e, err = s.Base(ctx, p); err != nil {
		return nil, err
	}
	if DepsKey(e.Statement.Packages, e.Statement.Recipe) != key {
		return nil, errors.Join(ErrNotFound, e.Close())
	}
	return e, nil
}

// Entry opens the image of a statement in force, whatever policy it fits:
// for looking at it and for [Entry.Verify], not for running it. It is
// [ErrNotFound] if head does not list the statement. The caller closes it.
func (s *Store) Entry(ctx context.Context, hash string) (e *Entry, err error) {
	err = s.withHead(ctx, func(h *head) (err error) {
		if _, ok := h.find(hash); !ok {
			return ErrNotFound
		}
		e, err = s.load(h, hash)
		return err
	})
	if err != nil {
		return nil, err
	}
	return e, e.open(ctx)
}

// lookup tries the candidates from the newest on.
func (s *Store) lookup(ctx context.Context, kind Kind, key string, p *Policy) (*Entry, error) {
	var found []*Entry
	err := s.withHead(ctx, func(h *head) (err error) {
		found, err = s.candidates(h, kind, key, p)
		return err
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(a, b *Entry) int { return int(b.Statement.Seq - a.Statement.Seq) })
	for _, e := range found {
		err := e.open(ctx)
		if err == nil {
			return e, nil
		}
		if !errors.Is(err, engine.ErrNotFound) {
			return nil, err
		}
		s.report.Note("%s image %.12s is gone from the engine; it is made again", kind, e.Hash)
	}
	return nil, ErrNotFound
}

// withHead calls fn with the verified head; again if fn fails and there is a
// new head by then, since files of what is removed go away under fn's hands.
func (s *Store) withHead(ctx context.Context, fn func(*head) error) error {
	for last := int64(-1); ; {
		h, err := s.readHead(ctx)
		if err != nil {
			return err
		}
		err = fn(h)
		if err == nil || h.Seq == last {
			return err
		}
		last = h.Seq
	}
}

// candidates verifies what is listed under kind and key and keeps what fits.
func (s *Store) candidates(h *head, kind Kind, key string, p *Policy) (found []*Entry, err error) {
	for _, c := range h.Entries {
		if c.Kind != kind || c.Key != key || c.Engine != s.engineName() || h.aside(c.Statement) {
			continue
		}
		e, err := s.load(h, c.Statement)
		if err != nil {
			return nil, err
		}
		if why := cmp.Or(p.refuses(e.Base()), p.refusesSteps(e)); why != "" {
			s.report.Note("%s image %.12s is not used: %s", kind, c.Statement, why)
			continue
		}
		e.RolledBack = kind == KindBase && h.rolledBack(c.Statement)
		found = append(found, e)
	}
	return found, nil
}

// open takes the use lock, marks the image as in use and asks the engine for
// it and for those that it stands on.
func (e *Entry) open(ctx context.Context) (err error) {
	if e.use, err = lock.Acquire(ctx, e.store.usePath(e.Hash), lock.Shared, e.store.waiting("a removal")); err != nil {
		return err
	}
	if e.mark, err = e.store.newMark(e.Hash); err != nil {
		return errors.Join(err, e.use.Unlock())
	}
	e.Image, err = e.store.eng.Image(ctx, engine.ImageID(e.Statement.Engine.Image))
	for _, below := range e.Chain {
		if err == nil {
			_, err = e.store.eng.Image(ctx, engine.ImageID(below.Engine.Image))
		}
	}
	if errors.Is(err, engine.ErrDamaged) {
		err = e.damaged(err)
	}
	if err == nil && string(e.Image.ID) != e.Statement.Engine.Image {
		err = trust(e.store.statementPath(e.Hash), fmt.Errorf("the engine has image %q under its id", e.Image.ID))
	}
	if err != nil {
		return errors.Join(err, e.Close())
	}
	return nil
}

// load verifies a listed statement and its chain.
func (s *Store) load(h *head, hash string) (*Entry, error) {
	st, err := s.loadListed(h, hash)
	if err != nil {
		return nil, err
	}
	e := &Entry{Statement: st, Hash: hash, store: s}
	for below := st.Parent; below != ""; {
		if len(e.Chain) >= maxChain {
			return nil, trust(s.statementPath(hash), errors.New("its chain of parents is too long"))
		}
		parent, err := s.loadListed(h, below)
		if err != nil {
			return nil, fmt.Errorf("below %s image %.12s: %w", st.Kind, hash, err)
		}
		e.Chain = append(e.Chain, parent)
		below = parent.Parent
	}
	if base := e.Base(); base.Kind != KindBase || base.Suite != st.Suite || base.Arch != st.Arch || base.HostArch != st.HostArch || base.Recipe != st.Recipe {
		return nil, trust(s.statementPath(hash), errors.New("it does not agree with the base that it stands on"))
	}
	return e, nil
}

// loadListed verifies a statement and that it is what head lists.
func (s *Store) loadListed(h *head, hash string) (Statement, error) {
	path := s.statementPath(hash)
	c, ok := h.find(hash)
	if !ok || !isHash(hash) {
		return Statement{}, trust(path, errors.New("it is not in force"))
	}
	st, err := s.loadStatement(path, hash, c.Kind)
	if err != nil {
		return st, err
	}
	if st.key() != c.Key || st.Engine.Kind+":"+st.Engine.ID != c.Engine || st.Parent != c.Parent || st.Seq > h.Seq {
		return st, trust(path, errors.New("it is not what the list of images says"))
	}
	return st, nil
}
