package deb

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	pault "pault.ag/go/debian/version"
)

// Version is a package version as deb-version(7) defines it.
type Version struct {
	Epoch    int
	Upstream string
	Revision string // "" for a native version
}

// VersionError reports a version that dpkg refuses or warns about.
type VersionError struct {
	Version string
	Reason  string
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("version %.80q: %s", e.Version, e.Reason)
}

// ParseVersion splits a version by dpkg's rules, and refuses where dpkg only
// warns: every character must be one that deb-version(7) names, the upstream
// part starts with a digit, and no white space stands around it.
//
// The splitting is ours because pault.ag/go/debian accepts an empty revision
// or upstream part and epochs that overflow dpkg's int.
func ParseVersion(s string) (Version, error) {
	fail := func(reason string) (Version, error) {
		return Version{}, &VersionError{Version: s, Reason: reason}
	}
	if s == "" {
		return fail("is empty")
	}
	var v Version
	rest := s
	if epoch, after, ok := strings.Cut(s, ":"); ok {
		n, err := parseDecimal(epoch, math.MaxInt32)
		if err != nil {
			return fail("epoch is not a number from 0 to 2147483647")
		}
		v.Epoch, rest = int(n), after
	}
	v.Upstream = rest
	if i := strings.LastIndexByte(rest, '-'); i >= 0 {
		v.Upstream, v.Revision = rest[:i], rest[i+1:]
		if v.Revision == "" {
			return fail("revision is empty")
		}
	}
	if v.Upstream == "" {
		return fail("upstream version is empty")
	}
	if c := v.Upstream[0]; c < '0' || c > '9' {
		return fail("does not start with a digit")
	}
	if !only(v.Upstream, ".-+~:") || !only(v.Revision, ".+~") {
		return fail("holds a character that is not allowed")
	}
	return v, nil
}

// only reports whether s consists of US-ASCII letters, digits and the
// characters of also.
func only(s, also string) bool {
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && strings.IndexByte(also, c) < 0 {
			return false
		}
	}
	return true
}

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// parseDecimal reads digits only: no sign, no blank, no underscore.
func parseDecimal(s string, limit int64) (int64, error) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, fmt.Errorf("%.40q is not a decimal number", s)
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n > limit {
		return 0, fmt.Errorf("%.40q is not a number from 0 to %d", s, limit)
	}
	return n, nil
}

// String prints the version as dpkg does: an epoch of 0 is left out, even
// where it was written, unless the upstream version has a colon itself.
func (v Version) String() string {
	if v.Epoch > 0 || strings.Contains(v.Upstream, ":") {
		return strconv.Itoa(v.Epoch) + ":" + v.NoEpoch()
	}
	return v.NoEpoch()
}

// NoEpoch prints the version without its epoch, as file names carry it.
func (v Version) NoEpoch() string {
	if v.Revision == "" {
		return v.Upstream
	}
	return v.Upstream + "-" + v.Revision
}

// Native reports whether the version has no Debian revision.
func (v Version) Native() bool { return v.Revision == "" }

// Compare returns a negative number, 0 or a positive number as v sorts
// before, like or after w. Versions that compare as 0 may be spelt
// differently ("1.0" and "1.00-0").
func (v Version) Compare(w Version) int {
	return pault.Compare(v.pault(), w.pault())
}

func (v Version) pault() pault.Version {
	return pault.Version{Epoch: uint(v.Epoch), Version: v.Upstream, Revision: v.Revision}
}

// CompareVersions is Compare for the written form. Both should be valid; so
// that the order is total all the same, an invalid version sorts before
// every valid one and by its bytes among its like.
func CompareVersions(a, b string) int {
	v, errV := ParseVersion(a)
	w, errW := ParseVersion(b)
	switch {
	case errV == nil && errW == nil:
		return v.Compare(w)
	case errV == nil:
		return 1
	case errW == nil:
		return -1
	}
	return strings.Compare(a, b)
}
