package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"dbuild/internal/fault"
)

// Rollback sets the newest base of a suite, architecture and variant aside, by
// a new signed head: from then on the one before it is found, and deps images
// that stand on the newer one are not. Nothing is removed; called again, it goes
// back another step. A base that is made later is in force as usual. It
// returns the hash of the statement that is no longer in force and the
// statement that is; an error of class usage if there is no earlier one.
func (s *Store) Rollback(ctx context.Context, suite, arch, variant string) (from string, to Statement, err error) {
	l, err := s.lockHead(ctx)
	if err != nil {
		return "", to, err
	}
	defer func() { err = errors.Join(err, l.Unlock()) }()
	h, err := s.readHead(ctx)
	if err != nil {
		return "", to, err
	}
	key := baseKey(suite, arch, arch, variant)
	var places []int // of the usable bases, the newest last
	for i, c := range h.Entries {
		if c.Kind == KindBase && c.Key == key && c.Engine == s.engineName() && !c.Aside {
			places = append(places, i)
		}
	}
	if len(places) < 2 {
		return "", to, fault.New(fault.Usage, "roll back: there is no base image of %s-%s older than the one in force", suite, arch)
	}
	newest := &h.Entries[places[len(places)-1]]
	e, err := s.load(h, h.Entries[places[len(places)-2]].Statement)
	if err != nil {
		return "", to, err
	}
	if err := e.open(ctx); err != nil { // it must still be there
		return "", to, fmt.Errorf("roll back to image %.12s: %w", e.Hash, err)
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	newest.Aside = true
	return newest.Statement, e.Statement, s.writeHead(ctx, h)
}

// aside reports whether a statement or one that it stands on was set aside.
func (h *head) aside(hash string) bool {
	for range maxChain {
		c, ok := h.find(hash)
		if !ok || c.Aside {
			return ok
		}
		hash = c.Parent
	}
	return false
}

// rolledBack reports whether a base is in force because newer ones with its key
// were set aside. Entries stand in the order in which they came into force.
func (h *head) rolledBack(hash string) bool {
	i := slices.IndexFunc(h.Entries, func(c headEntry) bool { return c.Statement == hash })
	return i >= 0 && slices.ContainsFunc(h.Entries[i+1:], func(c headEntry) bool {
		return c.Aside && c.Kind == KindBase && c.Key == h.Entries[i].Key && c.Engine == h.Entries[i].Engine
	})
}
