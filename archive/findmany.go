package archive

import (
	"bytes"
	"fmt"
	"os"

	"dbuild/deb"
	"dbuild/internal/fault"
)

// PackageKey names one binary package of an index.
type PackageKey struct{ Name, Version, Arch string }

// FindPackages looks many binary packages up in one pass over an uncompressed
// Packages index, as [Copy.Packages] returns it. Those that it does not list
// are missing from the result.
func FindPackages(path string, want map[PackageKey]bool) (map[PackageKey]*deb.Package, error) {
	names := map[string]bool{}
	for key := range want {
		names[key.Name] = true
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	found := map[PackageKey]*deb.Package{}
	err = deb.ScanStanzas(f, func(stanza []byte, _ int64) error {
		if !names[deb.StanzaField(stanza, "Package")] {
			return nil
		}
		p, err := deb.ParsePackage(bytes.Clone(stanza))
		if err != nil {
			return fault.Wrap(fault.Input, err)
		}
		key := PackageKey{p.Name, p.Version, p.Architecture}
		if old := found[key]; old != nil && old.SHA256 != p.SHA256 {
			return fault.New(fault.Trust, "%s %s is listed twice with different contents", p.Name, p.Version)
		}
		if want[key] {
			found[key] = p
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("find packages: %w", err)
	}
	return found, nil
}
