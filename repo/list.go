package repo

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"strings"

	"dbuild/deb"
	"dbuild/internal/fault"
)

// Query selects packages of the repository.
type Query struct {
	// Suite is the only suite to look in; empty: all.
	Suite string
	// Names are those of packages, binary or source; none: all.
	Names []string
}

// Package is one package of a suite.
type Package struct {
	Name      string `json:"name"`
	Version   string `json:"version"`
	Suite     string `json:"suite"`
	Component string `json:"component"`
	Arch      string `json:"arch"` // "source" for a source package
	Source    string `json:"source"`
	Path      string `json:"path"` // of the .deb, .udeb or .dsc in the repository
	Size      int64  `json:"size"` // of that file, in bytes
	SHA256    string `json:"sha256"`
	// Stanza is what the suite's index says, without the empty line behind.
	Stanza string `json:"-"`
}

// List returns the packages that a query selects, by name, falling version,
// suite and architecture. A suite that does not exist is an error of class
// usage.
func (r *Repo) List(ctx context.Context, q Query) (found []Package, err error) {
	suites, err := r.queried(q.Suite)
	if err != nil {
		return nil, err
	}
	for _, suite := range suites {
		if err := r.inStep(ctx, suite); err != nil {
			return nil, err
		}
		entries, err := r.named(ctx, suite, q.Names)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			found = append(found, e.listed(suite))
		}
	}
	slices.SortStableFunc(found, func(a, b Package) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), deb.CompareVersions(b.Version, a.Version),
			strings.Compare(a.Suite, b.Suite), strings.Compare(a.Arch, b.Arch))
	})
	return found, nil
}

// named returns the entries of a suite with one of the names, or all.
func (r *Repo) named(ctx context.Context, suite string, names []string) (found []entry, err error) {
	if len(names) == 0 {
		return r.rows(ctx, suite, `1`)
	}
	for _, name := range union(names) {
		some, err := r.rows(ctx, suite, `e.name = ?`, name)
		if err != nil {
			return nil, err
		}
		found = append(found, some...)
	}
	return found, nil
}

func (e entry) listed(suite string) Package {
	var text bytes.Buffer
	e.writeTo(&text)
	return Package{
		Name: e.name, Version: e.version, Suite: suite, Component: e.component, Arch: e.arch, Source: e.source,
		Path: e.filePath(), Size: e.size, SHA256: e.sha256, Stanza: strings.TrimSuffix(text.String(), "\n"),
	}
}

// queried are the names of the suites that a query is about.
func (r *Repo) queried(suite string) ([]string, error) {
	names, err := r.suiteNames()
	if err != nil || suite == "" {
		return names, err
	}
	if !slices.Contains(names, suite) {
		err := fault.New(fault.Usage, "the repository has no suite %q", suite)
		if len(names) > 0 {
			err = fault.WithHint(err, "it has %s", strings.Join(names, ", "))
		}
		return nil, err
	}
	return []string{suite}, nil
}

// inStep makes sure that the rows of a suite are those of its generation.
func (r *Repo) inStep(ctx context.Context, suite string) error {
	cur, err := r.current(suite)
	if err != nil {
		return err
	}
	have, err := r.recordedRelease(ctx, suite)
	if err != nil {
		return err
	}
	kept, err := r.recordedGenerations(suite)
	if err != nil || have == cur.digest && (cur.n > 0 || len(kept) == 0) {
		return err
	}
	return r.write(ctx, func(w *writer) error {
		_, _, err := w.openSuite(ctx, DefaultSuite(suite))
		return err
	})
}
