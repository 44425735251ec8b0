package archive

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"dbuild/deb"
	"dbuild/internal/fault"
)

// ErrNotFound says that an index does not have the package.
var ErrNotFound = errors.New("not in the archive")

// FindPackage looks a binary package up in an uncompressed Packages index, as
// [Copy.Packages] returns it. An empty version or arch matches any; of several
// matches the highest version wins. It is quick enough to be called for a
// handful of packages; many are better looked up in one pass of
// [deb.ScanStanzas]. No match is [ErrNotFound].
func FindPackage(path, name, version, arch string) (*deb.Package, error) {
	var best *deb.Package
	err := findStanzas(path, name, func(stanza []byte) error {
		if version != "" && deb.StanzaField(stanza, "Version") != version ||
			arch != "" && deb.StanzaField(stanza, "Architecture") != arch {
			return nil
		}
		p, err := deb.ParsePackage(bytes.Clone(stanza))
		if err != nil {
			return fault.Wrap(fault.Input, err)
		}
		switch order := compare(p, best); {
		case order > 0:
			best = p
		case order == 0 && p.Architecture == best.Architecture && p.SHA256 != best.SHA256:
			return fault.New(fault.Trust, "version %s is listed twice with different contents", p.Version)
		}
		return nil
	})
	if err == nil && best == nil {
		err = fault.Wrap(fault.Input, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("find package %q: %w", name, err)
	}
	return best, nil
}

func compare(p, best *deb.Package) int {
	if best == nil {
		return 1
	}
	return deb.CompareVersions(p.Version, best.Version)
}

// FindSource looks a source package up in an uncompressed Sources index. An
// empty version matches any; the newest comes first. No match is
// [ErrNotFound].
func FindSource(path, name, version string) ([]*deb.SourceEntry, error) {
	var found []*deb.SourceEntry
	err := findStanzas(path, name, func(stanza []byte) error {
		if version != "" && deb.StanzaField(stanza, "Version") != version {
			return nil
		}
		e, err := deb.ParseSourceEntry(bytes.Clone(stanza))
		if err != nil {
			return fault.Wrap(fault.Input, err)
		}
		found = append(found, e)
		return nil
	})
	if err == nil && len(found) == 0 {
		err = fault.Wrap(fault.Input, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("find source package %q: %w", name, err)
	}
	slices.SortStableFunc(found, func(a, b *deb.SourceEntry) int { return deb.CompareVersions(b.Version, a.Version) })
	return found, nil
}
