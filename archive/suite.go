package archive

import (
	"slices"
	"strings"

	"dbuild/internal/fault"
)

// Suite is a suite that can be built for. It is looked up with [FindSuite].
type Suite struct {
	Name                string   // directory below dists/: "bookworm", "sid", "bookworm-backports"
	Codename            string   // the Codename that its Release carries; "rc-buggy" for experimental
	Vendor              string   // "debian" or "ubuntu"
	Aliases             []string // other names that mean the same suite: "unstable", "stable"
	Released            bool     // a release or a pocket of one, which security and updates belong to
	Base                string   // suite that this one is laid over; "" when it stands alone
	Components          []string // enabled by default
	AllComponents       []string // all that it has
	DefaultMirror       string   // archive root when neither a setting nor the host name one
	KeyringPackage      string   // package that holds Keyrings
	Keyrings            []string // paths tried in order
	ResolveAlternatives bool     // build dependencies may take another than the first alternative

	vendor  vendor
	release release
	pocket  pocket // zero for a release itself
}

// FindSuite looks a suite up by name or alias. Pockets are found as well:
// "bookworm-backports", "stable-security". An unknown name is a [fault.Usage]
// error that lists the known ones as its hint.
func FindSuite(name string) (Suite, error) {
	for _, v := range vendors() {
		for _, r := range v.releases {
			for _, known := range append([]string{r.name}, r.aliases...) {
				if name == known {
					return v.suite(r, pocket{}), nil
				}
				suffix, ok := strings.CutPrefix(name, known+"-")
				if !ok || !r.pockets {
					continue
				}
				if p, ok := v.pocket(suffix); ok {
					return v.suite(r, p), nil
				}
			}
		}
	}
	err := fault.New(fault.Usage, "find suite %q: unknown", name)
	return Suite{}, fault.WithHint(err, "known suites: %s", strings.Join(knownNames(), ", "))
}

// Suites returns every suite of the table that is not a pocket.
func Suites() []Suite {
	var all []Suite
	for _, v := range vendors() {
		for _, r := range v.releases {
			all = append(all, v.suite(r, pocket{}))
		}
	}
	return all
}

// DevelopmentSuite returns the name of the vendor's suite for uploads that
// name no release: "sid" for Debian.
func (s Suite) DevelopmentSuite() string { return s.vendor.development }

func (v vendor) suite(r release, p pocket) Suite {
	s := Suite{
		Name:           r.name,
		Codename:       r.name,
		Vendor:         v.name,
		Released:       r.released,
		Base:           r.base,
		Components:     r.components,
		AllComponents:  r.all,
		DefaultMirror:  v.mirror,
		KeyringPackage: v.keyringPackage,
		Keyrings:       v.keyrings,
		vendor:         v,
		release:        r,
		pocket:         p,
	}
	if r.codename != "" {
		s.Codename = r.codename
	}
	// What is laid over sid is meant for trying out, and Debian's builders
	// resolve it with all alternatives.
	s.ResolveAlternatives = p.alternatives || r.base != ""
	if p.suffix == "" {
		s.Aliases = slices.Clone(r.aliases)
		return s
	}
	s.Name, s.Base = r.name+"-"+p.suffix, r.name
	if p.codename {
		s.Codename = s.Name
	}
	for _, a := range r.aliases {
		s.Aliases = append(s.Aliases, a+"-"+p.suffix)
	}
	return s
}

func (v vendor) pocket(suffix string) (pocket, bool) {
	i := slices.IndexFunc(v.pockets, func(p pocket) bool { return p.suffix == suffix })
	if i < 0 {
		return pocket{}, false
	}
	return v.pockets[i], true
}

func (v vendor) release(name string) (release, bool) {
	i := slices.IndexFunc(v.releases, func(r release) bool { return r.name == name })
	if i < 0 {
		return release{}, false
	}
	return v.releases[i], true
}

func knownNames() []string {
	var names []string
	for _, s := range Suites() {
		names = append(names, s.Name)
		names = append(names, s.Aliases...)
	}
	return append(names, "and their pockets such as bookworm-backports")
}
