package dsc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"dbuild/archive"
	"dbuild/deb"
	"dbuild/internal/fault"
	"dbuild/sign"
)

// candidate is a row of a Sources index and where it was found.
type candidate struct {
	entry     *deb.SourceEntry
	version   deb.Version
	state     *archive.State
	component string
}

// files lists the candidate's files whose name passes.
func (c candidate) files(want func(name string) bool) []archive.File {
	return slices.DeleteFunc(c.state.Source.SourceFiles(c.entry), func(f archive.File) bool { return !want(f.Name) })
}

// FromArchive gets a source package from the archives in states: it looks n up
// in the Sources indexes of the components (all of each source if none is
// given), takes the named or the newest version, fetches its files and links
// them into dir under their names. The index is what the package is trusted
// for; a .dsc that says otherwise is [fault.Trust], and its own signature is
// only reported. A package or version that is not there is [fault.Input] with
// a hint that names the versions that are.
func FromArchive(ctx context.Context, cp *archive.Copy, states []*archive.State, components []string, n Name, dir string, o Options) (*Source, error) {
	s, err := fromArchive(ctx, cp, states, components, n, dir, o)
	if err != nil {
		return nil, fmt.Errorf("get source package %s: %w", n, err)
	}
	return s, nil
}

func fromArchive(ctx context.Context, cp *archive.Copy, states []*archive.State, components []string, n Name, dir string, o Options) (*Source, error) {
	found, err := lookUp(ctx, cp, states, components, n.Package, n.Version)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, notFound(ctx, cp, states, components, n)
	}
	c := found[0]
	files, err := fetchInto(ctx, cp, c.files(func(string) bool { return true }), dir)
	if err != nil {
		return nil, err
	}
	o.RequireSignature = false
	s, err := fromIndex(c, files, o)
	if err != nil {
		return nil, errors.Join(err, removeAll(files))
	}
	return s, nil
}

// lookUp returns the matching rows of all indexes, newest first; of equal
// versions the one from the earlier state. Rows that the archive keeps only
// for their licence's sake (Extra-Source-Only) count only if they are named.
func lookUp(ctx context.Context, cp *archive.Copy, states []*archive.State, components []string, name, version string) ([]candidate, error) {
	if len(components) == 0 {
		if err := cp.Prefetch(ctx, states, []string{"source"}); err != nil {
			return nil, err
		}
	}
	var found []candidate
	for _, st := range states {
		for _, component := range indexes(st.Source) {
			if len(components) > 0 && component != "" && !slices.Contains(components, component) {
				continue
			}
			path, err := cp.Packages(ctx, st, component, "source")
			if err != nil {
				return nil, err
			}
			if path == "" {
				continue
			}
			entries, err := archive.FindSource(path, name, version)
			if err != nil && !errors.Is(err, archive.ErrNotFound) {
				return nil, err
			}
			for _, e := range entries {
				if version == "" && e.Paragraph.Get("Extra-Source-Only") == "yes" {
					continue
				}
				v, err := deb.ParseVersion(e.Version)
				if err != nil {
					return nil, fault.Wrap(fault.Input, err)
				}
				found = append(found, candidate{e, v, st, component})
			}
		}
	}
	slices.SortStableFunc(found, func(a, b candidate) int { return b.version.Compare(a.version) })
	return found, nil
}

// indexes lists the components; the one index of a flat repository belongs
// to the component "".
func indexes(src archive.Source) []string {
	if src.Flat {
		return []string{""}
	}
	return src.Components
}

// notFound says what there is instead.
func notFound(ctx context.Context, cp *archive.Copy, states []*archive.State, components []string, n Name) error {
	var suites, have []string
	for _, st := range states {
		suites = append(suites, st.Source.Suite)
	}
	err := fault.New(fault.Input, "not in %s", strings.Join(suites, ", "))
	all, e := lookUp(ctx, cp, states, components, n.Package, "")
	if e != nil {
		return errors.Join(err, e)
	}
	for _, c := range all {
		have = append(have, fmt.Sprintf("%s (%s)", c.entry.Version, c.state.Source.Suite))
	}
	if len(have) == 0 {
		return fault.WithHint(err, "there is no source package %s; is it the name of a binary package, or in another suite or component?", n.Package)
	}
	return fault.WithHint(err, "available: %s", strings.Join(slices.Compact(have), ", "))
}

// fromIndex builds the result from files that are verified already.
func fromIndex(c candidate, files []File, o Options) (*Source, error) {
	i := slices.IndexFunc(files, func(f File) bool { return strings.HasSuffix(f.Name, ".dsc") })
	if i < 0 {
		return nil, fault.New(fault.Input, "the index lists no .dsc")
	}
	doc, err := ReadFile(files[i].Path, sign.MaxDocument)
	if err != nil {
		return nil, err
	}
	s, err := parse(doc, files[i].Name, o)
	if err != nil {
		return nil, err
	}
	if err := s.equals(c.entry); err != nil {
		return nil, err
	}
	s.Dsc.Path = files[i].Path
	for i := range s.Files {
		j := slices.IndexFunc(files, func(f File) bool { return f.Name == s.Files[i].Name })
		s.Files[i].Path = files[j].Path
	}
	if c.component != "" {
		s.Component = c.component
	}
	s.Origin = archive.RedactURL(c.state.Source.URL) + " " + c.state.Source.Suite
	return s, nil
}

// equals demands that a .dsc says the same as its row in the index: else one
// of the two was made for another package.
func (s *Source) equals(e *deb.SourceEntry) error {
	if s.Name != e.Name || s.Version.String() != e.Version || e.Format != "" && s.Format != e.Format {
		return fault.New(fault.Trust, "the .dsc is of %s %s, the index says %s %s", s.Name, s.Version, e.Name, e.Version)
	}
	rows := make(map[string]deb.SourceFile)
	for _, f := range e.Files {
		rows[f.Name] = f
	}
	for _, f := range s.AllFiles() {
		if row := rows[f.Name]; row.Size != f.Size || row.SHA256 != f.SHA256 {
			return fault.New(fault.Trust, "file %q of the .dsc is not the one in the index", f.Name)
		}
		delete(rows, f.Name)
	}
	if len(rows) > 0 {
		return fault.New(fault.Trust, "the index lists %d files that the .dsc does not", len(rows))
	}
	return nil
}

// removeAll takes back what fetchInto put into a directory.
func removeAll(files []File) (err error) {
	for _, f := range files {
		err = errors.Join(err, os.Remove(f.Path))
	}
	return err
}
