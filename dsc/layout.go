package dsc

import (
	"fmt"
	"regexp"
	"strings"
)

// part is what the name of a file says about its place in the package.
type part struct {
	kind      string // ".orig", ".orig-NAME" or ".debian"; "" for a native tarball and the .diff.gz
	suffix    string // ".tar.xz", ".diff.gz"
	signature bool   // .asc
}

var partName = regexp.MustCompile(`^(\.orig|\.orig-[[:alnum:]-]+|\.debian)?(\.tar\.(?:gz|bz2|lzma|xz)|\.diff\.gz)(\.asc)?$`)

// part takes a file name apart. Upstream's tarballs carry the version without
// revision, all other files the whole version without epoch.
func (s *Source) part(name string) (part, bool) {
	upstream := s.Name + "_" + s.Version.Upstream
	for _, stem := range []string{upstream, s.ID()} {
		rest, ok := strings.CutPrefix(name, stem)
		m := partName.FindStringSubmatch(rest)
		if !ok || m == nil {
			continue
		}
		p := part{kind: m[1], suffix: m[2], signature: m[3] != ""}
		isOrig := strings.HasPrefix(p.kind, ".orig")
		if isOrig && stem == upstream || !isOrig && stem == s.ID() {
			return p, true
		}
	}
	return part{}, false
}

// checkLayout applies what Dpkg::Source::Package::V1, V2, V3::Native and
// V3::Quilt demand of the list of files before they unpack them.
func (s *Source) checkLayout() error {
	count := make(map[string]int) // by kind, and by "diff"
	listed := make(map[string]bool)
	for _, f := range s.Files {
		listed[f.Name] = true
	}
	for _, f := range s.Files {
		p, ok := s.part(f.Name)
		if !ok || !s.allows(p) {
			return fmt.Errorf("file %q does not belong into a source package of format %q, version %s", f.Name, s.Format, s.Version)
		}
		switch {
		case p.signature && !listed[strings.TrimSuffix(f.Name, ".asc")]:
			return fmt.Errorf("file %q is a signature of no listed file", f.Name)
		case p.signature:
		case p.suffix == ".diff.gz":
			count["diff"]++
		default:
			count[p.kind]++
		}
	}
	for kind, n := range count {
		if n > 1 {
			return fmt.Errorf("%d files of the same kind, %q", n, kind)
		}
	}
	switch s.Format {
	case "1.0":
		if count[""]+count[".orig"] != 1 {
			return fmt.Errorf("format 1.0 has exactly one tarball")
		}
	case "3.0 (native)":
		if count[""] != 1 {
			return fmt.Errorf("format %s has exactly one tarball", s.Format)
		}
	default:
		if count[".orig"] != 1 || count[".debian"] != 1 {
			return fmt.Errorf("format %s has one .orig and one .debian tarball", s.Format)
		}
	}
	return nil
}

// allows reports whether the format has such files at all. The formats for
// version control systems are not supported: nothing but dpkg-source with
// that system can read them, and no Debian archive accepts them.
func (s *Source) allows(p part) bool {
	switch s.Format {
	case "1.0":
		return (p.suffix == ".tar.gz" || p.suffix == ".diff.gz") && (p.kind == "" || p.kind == ".orig") &&
			(!p.signature || p.kind == ".orig") && (p.suffix != ".diff.gz" || p.kind == "")
	case "3.0 (native)":
		return p.kind == "" && p.suffix != ".diff.gz" && !p.signature
	case "3.0 (quilt)":
		return p.kind != "" && p.suffix != ".diff.gz" && (!p.signature || p.kind != ".debian")
	}
	return false
}

// checkFormat gives the clear message for a format that cannot be built.
func checkFormat(format string) error {
	switch format {
	case "1.0", "3.0 (native)", "3.0 (quilt)":
		return nil
	}
	return fmt.Errorf("field Format: %.40q is not supported; the formats are 1.0, 3.0 (native) and 3.0 (quilt)", format)
}
