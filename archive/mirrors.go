package archive

import (
	"net/url"
	"path"
	"slices"
	"strings"
)

// hostMirrors returns the archive roots that the host's own apt uses for a
// vendor; "" where it has none. Any of the vendor's suites counts: the mirror
// of bookworm has trixie too.
//
// Third parties offer suites called bookworm as well. An entry is taken for
// the vendor's when its suite and a component are the vendor's and it is not
// signed by another key; one that the vendor's keyring or domain speaks for
// goes before one that only looks right.
func hostMirrors(root string, v vendor) roots {
	var found roots
	var mainRank, securityRank int
	for _, e := range readAptSources(root) {
		rank := v.rank(e)
		if rank == 0 {
			continue
		}
		uri := e.usableURI()
		if uri == "" {
			continue
		}
		for _, name := range e.suites {
			s, ok := v.find(name)
			if !ok || !v.pathFits(uri, s.pocket.security) {
				continue
			}
			if s.pocket.security && rank > securityRank {
				found.security, securityRank = uri, rank
			}
			if !s.pocket.security && rank > mainRank {
				found.main, mainRank = uri, rank
			}
		}
	}
	return found
}

// rank says how sure it is that e is the vendor's: 0 not at all.
func (v vendor) rank(e aptEntry) int {
	if !slices.Contains(e.components, "main") {
		return 0
	}
	if len(e.signedBy) > 0 {
		for _, k := range e.signedBy {
			base := strings.TrimSuffix(path.Base(k), path.Ext(k))
			for _, known := range v.keyrings {
				if base == strings.TrimSuffix(path.Base(known), path.Ext(known)) {
					return 2
				}
			}
			if strings.HasPrefix(base, v.name+"-archive-") {
				return 2
			}
		}
		return 0
	}
	for _, uri := range e.uris {
		host := hostOf(uri)
		for _, d := range v.domains {
			if host == d || strings.HasSuffix(host, "."+d) {
				return 2
			}
		}
	}
	return 1
}

// find looks a suite of this vendor up, as [FindSuite] does.
func (v vendor) find(name string) (Suite, bool) {
	s, err := FindSuite(name)
	return s, err == nil && s.Vendor == v.name
}

// pathFits asks that the path of a mirror name the vendor, as the paths of
// mirrors do: /debian, /pub/debian, /ubuntu-ports. A security suite must be
// read from a security archive when the vendor has one.
func (v vendor) pathFits(uri string, security bool) bool {
	u, err := url.Parse(uri)
	if err != nil {
		return false
	}
	want := security && v.security != ""
	return strings.Contains(u.Path, v.name) && strings.Contains(u.Path+u.Host, "security") == want ||
		want && strings.Contains(u.Host, "security")
}

// usableURI returns the first URI that dbuild can speak to, without trailing
// slash; file:, cdrom: and mirror lists are for apt alone.
func (e aptEntry) usableURI() string {
	for _, raw := range e.uris {
		u, err := parseURL(raw)
		if err == nil && u.RawQuery == "" {
			return strings.TrimRight(raw, "/")
		}
	}
	return ""
}
