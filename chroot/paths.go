package chroot

import (
	"archive/tar"
	"path"
	"slices"
	"strings"

	"dbuild/engine"
	"dbuild/internal/fault"
	"dbuild/internal/tree"
)

// shipped is one package's claim to a path.
type shipped struct {
	by    *member
	entry engine.PutEntry
}

// paths knows which packages ship what, by the path that it has in the root:
// behind the links of a merged /usr.
type paths struct {
	merged map[string]bool // "bin", "lib", …
	dirs   map[string][]shipped
	others map[string]shipped
	shared map[string]string // targets of links that several packages ship
}

// surveyPaths collects the paths of members and refuses a file that two of
// them ship: which one stays would depend on who was unpacked last.
func surveyPaths(members []*member, links []tar.Header) (*paths, error) {
	p := &paths{merged: map[string]bool{}, dirs: map[string][]shipped{}, others: map[string]shipped{}, shared: map[string]string{}}
	for _, l := range links {
		p.merged[l.Name] = true
	}
	for _, m := range members {
		for _, e := range m.entries {
			name := p.real(e.Name)
			if e.Type == tar.TypeDir {
				p.dirs[name] = append(p.dirs[name], shipped{m, e})
				continue
			}
			if other, taken := p.others[name]; taken {
				if !sameLink(e, other.entry) {
					return nil, fault.New(fault.Input, "packages %q and %q both ship /%s", other.by.Name, m.Name, name)
				}
				p.shared[name] = e.Link
			}
			p.others[name] = shipped{m, e}
		}
	}
	return p, nil
}

// sameLink reports whether both are the same symbolic link, which any number
// of packages may ship.
func sameLink(a, b engine.PutEntry) bool {
	return a.Type == tar.TypeSymlink && b.Type == tar.TypeSymlink && a.Link == b.Link
}

// real returns where name ends up: "lib/x" is "usr/lib/x" with a merged /usr.
func (p *paths) real(name string) string {
	first, _, _ := strings.Cut(name, "/")
	if p.merged[first] && name != first {
		return "usr/" + name
	}
	return name
}

// addDirectories writes into t the directories whose mode or owner might
// depend on which package was unpacked first. With the early group those are
// all that it ships, since a package of the late one may make them at any
// moment; what the early group is configured to may then change them. For the
// rest it is the directories that are not plain, or that packages disagree on.
// A link that several packages ship gets the time of the epoch, for theirs
// need not be equal.
func (b *bootstrap) addDirectories(t *tarball, early bool) error {
	first, err := surveyPaths(b.set.group(true), b.links)
	if err != nil {
		return err
	}
	if early {
		first.write(t, func(name string, claims []shipped) bool { return true })
		return nil
	}
	all, err := surveyPaths(b.set.members, b.links)
	if err != nil {
		return err
	}
	for name := range first.dirs {
		if other, clash := all.others[name]; clash && !other.by.early {
			return fault.New(fault.Input, "package %q ships /%s, a directory of %q, as another type", other.by.Name, name, first.dirs[name][0].by.Name)
		}
	}
	all.write(t, func(name string, claims []shipped) bool {
		return first.dirs[name] == nil && slices.ContainsFunc(claims, func(s shipped) bool { return !s.plain() })
	})
	return nil
}

// plain reports whether s is a directory as nearly all are.
func (s shipped) plain() bool {
	return s.entry.Mode&0o7777 == 0o755 && s.entry.UID == 0 && s.entry.GID == 0
}

// write puts the directories that want names, and shared links, into t. Of several packages that
// ship one base-files decides, then the first by name.
func (p *paths) write(t *tarball, want func(name string, claims []shipped) bool) {
	for _, name := range sortedKeys(p.dirs) {
		claims := p.dirs[name]
		if name == "" || name == "." || p.merged[name] || replaced(name) {
			continue
		}
		if _, link := p.others[name]; link {
			continue // dpkg keeps a link to a directory
		}
		if !want(name, claims) {
			continue
		}
		winner := claims[0]
		if i := slices.IndexFunc(claims, func(s shipped) bool { return s.by.Name == baseFiles }); i > 0 {
			winner = claims[i]
		}
		e := winner.entry
		t.add(tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: e.Mode & 0o7777, Uid: e.UID, Gid: e.GID}, nil)
	}
	for _, name := range sortedKeys(p.shared) {
		t.symlink(name, p.shared[name])
	}
}

// replaced reports whether engines put something of their own at name.
func replaced(name string) bool {
	return tree.Replaced(name) || tree.Replaced(path.Join(name, "x"))
}
