package deb

import (
	"fmt"
	"strings"
)

// maxName is the longest file name that Linux file systems take, in bytes.
const maxName = 255

// CheckPackageName applies Policy 5.6.1 and 5.6.7 to the name of a source or
// binary package: two or more lower-case letters, digits, plus, minus and
// period signs, the first a letter or digit.
func CheckPackageName(s string) error {
	switch {
	case len(s) < 2:
		return fmt.Errorf("package name %q is too short", s)
	case len(s) > maxName:
		return fmt.Errorf("package name %.40q… is too long", s)
	case !isAlnum(s[0]):
		return fmt.Errorf("package name %q does not start with a letter or digit", s)
	case !only(s, "+-.") || strings.ToLower(s) != s:
		return fmt.Errorf("package name %q holds a character that is not allowed", s)
	}
	return nil
}

// CheckFileName accepts only a base name that is safe as an argument, in a
// URL and below any directory: at most 255 letters, digits and ". _ ~ + -",
// the first a letter or digit. Every file that the Debian archive's source
// and .changes files list has such a name.
func CheckFileName(s string) error {
	switch {
	case s == "":
		return fmt.Errorf("file name is empty")
	case len(s) > maxName:
		return fmt.Errorf("file name %.40q… is too long", s)
	case !isAlnum(s[0]):
		return fmt.Errorf("file name %q does not start with a letter or digit", s)
	case !only(s, "._~+-"):
		return fmt.Errorf("file name %q holds a character that is not allowed", s)
	}
	return nil
}

// maxPath bounds a path in an index, in bytes.
const maxPath = 1024

// CheckPath accepts a relative path of a repository, as Release, Packages
// and Sources name files: components of printable US-ASCII divided by single
// slashes, none of them "." or "..", none starting with "-" or "~", and none
// of the characters that a URL or a shell reads otherwise, percent among
// them.
func CheckPath(s string) error {
	if s == "" {
		return fmt.Errorf("path is empty")
	}
	if len(s) > maxPath {
		return fmt.Errorf("path %.40q… is too long", s)
	}
	for part := range strings.SplitSeq(s, "/") {
		switch {
		case part == "" || part == "." || part == "..":
			return fmt.Errorf("path %q is not relative and clean", s)
		case len(part) > maxName:
			return fmt.Errorf("path %.40q… has a component that is too long", s)
		case part[0] == '-' || part[0] == '~' || !only(part, "._~+-@=,^"):
			return fmt.Errorf("path %q holds a character that is not allowed", s)
		}
	}
	return nil
}

// isHex reports whether s is n lower-case hexadecimal digits.
func isHex(s string, n int) bool {
	if len(s) != n {
		return false
	}
	for i := range n {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
