package archive

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"dbuild/internal/fault"
)

// SourceOptions are the settings that decide which archive roots and keys a
// suite is read with. The zero value asks the host.
type SourceOptions struct {
	Mirror         string   // archive root, instead of the one found
	SecurityMirror string   // the same for the security archive
	Keyrings       []string // instead of the vendor's installed keyring
	AllowedKeys    []string // copied to every source
	Components     []string // instead of the suite's default
	Arch           string   // chooses between Ubuntu's two archives; "": the host's
	HostRoot       string   // where etc/apt and usr/share/keyrings are looked up; "" is "/"
}

// Sources returns the sources that make up s. The suite to bootstrap from
// comes first, then what belongs to it: updates and security of a release, or
// for a suite that is laid over another, at the end, that suite itself with
// its pin. Each archive root is the option, else the one that the host's apt
// uses for this vendor, else the vendor's traditional alias.
//
// A missing keyring is a [fault.Trust] error whose hint names the package to
// install. Sources reads files of the host and never the network.
func (s Suite) Sources(o SourceOptions) ([]Source, error) {
	keyrings, err := s.keyrings(o)
	if err != nil {
		return nil, err
	}
	roots, err := s.roots(o)
	if err != nil {
		return nil, err
	}
	var srcs []Source
	for _, m := range s.members() {
		components := m.components(o.Components)
		if len(components) == 0 {
			return nil, fault.New(fault.Usage, "components of %s: none of %q exists", m.Name, o.Components)
		}
		url := roots.main
		if m.pocket.security {
			url = roots.security
		}
		srcs = append(srcs, Source{
			URL:         url,
			Suite:       m.Name,
			Codename:    m.Codename,
			Components:  components,
			Keyrings:    keyrings,
			AllowedKeys: o.AllowedKeys,
			Pin:         max(m.pocket.pin, m.release.pin),
		})
	}
	return srcs, nil
}

// members lists the suites whose packages a build for s sees.
func (s Suite) members() []Suite {
	v := s.vendor
	if base, ok := v.release(s.release.base); ok {
		return []Suite{v.suite(base, pocket{}), s}
	}
	over := s.pocket.over
	if s.pocket.suffix == "" && s.Released {
		over = standard
	}
	list := []Suite{v.suite(s.release, pocket{})}
	for _, suffix := range over {
		if p, ok := v.pocket(suffix); ok && suffix != s.pocket.suffix {
			list = append(list, v.suite(s.release, p))
		}
	}
	if s.pocket.suffix != "" {
		list = append(list, s)
	}
	return list
}

// components returns those of want that the suite has, its default for none.
func (s Suite) components(want []string) []string {
	if len(want) == 0 {
		return s.Components
	}
	var have []string
	for _, c := range want {
		if slices.Contains(s.AllComponents, c) && !slices.Contains(have, c) {
			have = append(have, c)
		}
	}
	return have
}

// keyrings returns the files to verify with.
func (s Suite) keyrings(o SourceOptions) ([]string, error) {
	if len(o.Keyrings) > 0 {
		for _, p := range o.Keyrings {
			if info, err := os.Stat(p); err != nil {
				return nil, fault.Wrap(fault.Trust, err)
			} else if !info.Mode().IsRegular() {
				return nil, fault.New(fault.Trust, "keyring %q: not a regular file", p)
			}
		}
		return o.Keyrings, nil
	}
	for _, p := range s.Keyrings {
		p = filepath.Join(hostRoot(o), p)
		if info, err := os.Stat(p); err == nil && info.Mode().IsRegular() {
			return []string{p}, nil
		}
	}
	err := fault.New(fault.Trust, "keyring for %s: none of %s is installed", s.Name, strings.Join(s.Keyrings, ", "))
	return nil, fault.WithHint(err, "apt-get install %s", s.KeyringPackage)
}

// roots are the archive roots that a suite's sources come from.
type roots struct{ main, security string }

func (s Suite) roots(o SourceOptions) (roots, error) {
	for _, raw := range []string{o.Mirror, o.SecurityMirror} {
		if raw == "" {
			continue
		}
		if err := checkMirror(raw); err != nil {
			return roots{}, err
		}
	}
	host := hostMirrors(hostRoot(o), s.vendor)
	r := roots{main: s.vendor.defaultMirror(o.Arch)}
	switch {
	case o.Mirror != "":
		r.main = strings.TrimRight(o.Mirror, "/")
	case host.main != "" && (s.vendor.ports == "" || s.vendor.isPorts(host.main) == s.vendor.isPorts(r.main)):
		r.main = host.main
	}
	r.security = s.securityRoot(o, r.main, host)
	return r, nil
}

// securityRoot keeps to the machine that a mirror was chosen on when the
// host's apt knows a security archive there; an explicit mirror elsewhere
// says nothing about security suites, so they come from the vendor.
func (s Suite) securityRoot(o SourceOptions, main string, host roots) string {
	switch {
	case o.SecurityMirror != "":
		return strings.TrimRight(o.SecurityMirror, "/")
	case s.vendor.security == "":
		return main
	case host.security != "" && (o.Mirror == "" || hostOf(host.security) == hostOf(main)):
		return host.security
	default:
		return s.vendor.security
	}
}

func (v vendor) defaultMirror(arch string) string {
	if arch == "" {
		arch = runtime.GOARCH
	}
	if arch == "386" {
		arch = "i386"
	}
	if v.ports != "" && !slices.Contains(v.primary, arch) {
		return v.ports
	}
	return v.mirror
}

// isPorts tells the archive of the secondary architectures by its path, which
// mirrors keep.
func (v vendor) isPorts(root string) bool { return strings.HasSuffix(root, "-ports") }

func hostRoot(o SourceOptions) string {
	if o.HostRoot == "" {
		return "/"
	}
	return o.HostRoot
}
