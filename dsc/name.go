package dsc

import (
	"strings"

	"dbuild/deb"
)

// Name asks for a source package of an archive.
type Name struct {
	Package string
	Version string // "" for the newest
	Suite   string // where to look; "" for the suite of the build
}

// String gives the form NAME=VERSION/SUITE.
func (n Name) String() string {
	s := n.Package
	if n.Version != "" {
		s += "=" + n.Version
	}
	if n.Suite != "" {
		s += "/" + n.Suite
	}
	return s
}

// ParseName reads hello, hello=2.10-3, hello_2.10-3, hello/bookworm, and the
// suite after a version. It is false for anything else, and for what looks
// like a file: a path, or a name that ends in .dsc or .changes.
func ParseName(arg string) (Name, bool) {
	for _, suffix := range []string{".dsc", ".changes", ".buildinfo", ".deb"} {
		if strings.HasSuffix(arg, suffix) {
			return Name{}, false
		}
	}
	rest, suite, hasSuite := strings.Cut(arg, "/")
	n := Name{Package: rest, Suite: suite}
	if hasSuite && !isSuite(suite) {
		return Name{}, false
	}
	if i := strings.IndexAny(rest, "=_"); i >= 0 {
		n.Package, n.Version = rest[:i], rest[i+1:]
		if _, err := deb.ParseVersion(n.Version); err != nil {
			return Name{}, false
		}
	}
	return n, deb.CheckPackageName(n.Package) == nil
}

// isSuite accepts the characters that names of suites are made of.
func isSuite(s string) bool {
	return s != "" && len(s) <= 64 && s[0] >= 'a' && s[0] <= 'z' &&
		strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-.+") == ""
}
