package cache

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"slices"
	"strings"
)

// Sort orders packages by name, architecture and version, in bytes, and drops
// repetitions. It works on a copy.
func Sort(set []Package) []Package {
	set = slices.Clone(set)
	slices.SortFunc(set, func(a, b Package) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Arch, b.Arch),
			cmp.Compare(a.Version, b.Version), cmp.Compare(a.SHA256, b.SHA256))
	})
	return slices.Compact(set)
}

// DepsKey names the image with exactly this set of installed packages on a
// base made by recipe: "sha256:" and the SHA-256, in hex, of the line
// "dbuild-deps 1", the recipe, and a line "name=version=arch=sha256" for each
// package in the order of [Sort]. Order and repetitions do not matter.
func DepsKey(set []Package, recipe string) string {
	h := sha256.New()
	// A hash never fails to take what it is given.
	_, _ = io.WriteString(h, "dbuild-deps 1\n"+recipe+"\n")
	for _, p := range Sort(set) {
		_, _ = io.WriteString(h, p.Name+"="+p.Version+"="+p.Arch+"="+p.SHA256+"\n")
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

// baseKey is what base images are looked up by before their statements are
// read; several can share it.
func baseKey(suite, arch, hostArch, variant string) string {
	return strings.Join([]string{suite, arch, hostArch, variant}, "/")
}

// key returns the key under which head lists the statement.
func (st *Statement) key() string {
	if st.Kind == KindBase {
		return baseKey(st.Suite, st.Arch, st.HostArch, st.Variant)
	}
	return DepsKey(st.Packages, st.Recipe)
}

// sortedSet sorts s in place and drops repetitions.
func sortedSet(s []string) []string {
	slices.Sort(s)
	return slices.Compact(s)
}
