package archive_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dbuild/archive"
	"dbuild/internal/fault"
)

func TestFindSuite(t *testing.T) {
	tests := []struct {
		name         string
		want         string
		codename     string
		released     bool
		base         string
		alternatives bool
	}{
		{"bookworm", "bookworm", "bookworm", true, "", false},
		{"oldstable", "bookworm", "bookworm", true, "", false},
		{"stable", "trixie", "trixie", true, "", false},
		{"testing", "forky", "forky", false, "", false},
		{"sid", "sid", "sid", false, "", false},
		{"unstable", "sid", "sid", false, "", false},
		{"experimental", "experimental", "rc-buggy", false, "sid", true},
		{"rc-buggy", "experimental", "rc-buggy", false, "sid", true},
		{"stable-backports", "trixie-backports", "trixie-backports", true, "trixie", true},
		{"bookworm-backports-sloppy", "bookworm-backports-sloppy", "bookworm-backports-sloppy", true, "bookworm", true},
		{"bullseye-security", "bullseye-security", "bullseye-security", true, "bullseye", false},
		{"noble", "noble", "noble", true, "", false},
		{"noble-proposed", "noble-proposed", "noble", true, "noble", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := archive.FindSuite(tt.name)
			if err != nil {
				t.Fatal(err)
			}
			if s.Name != tt.want || s.Codename != tt.codename || s.Released != tt.released || s.Base != tt.base ||
				s.ResolveAlternatives != tt.alternatives {
				t.Errorf("got %s, codename %s, released %v, base %q, alternatives %v", s.Name, s.Codename, s.Released, s.Base, s.ResolveAlternatives)
			}
		})
	}
	for _, name := range []string{"", "woody", "sid-backports", "experimental-security", "bookworm-", "bookworm-nightly", "../x", "bookworm\n"} {
		_, err := archive.FindSuite(name)
		wantClass(t, err, fault.Usage)
		if !strings.Contains(fault.HintOf(err), "bookworm") {
			t.Errorf("hint %q does not list the suites", fault.HintOf(err))
		}
	}
}

// TestSuitesAreConsistent walks the whole table.
func TestSuitesAreConsistent(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range archive.Suites() {
		for _, name := range append([]string{s.Name}, s.Aliases...) {
			if seen[name] {
				t.Errorf("%s is in the table twice", name)
			}
			seen[name] = true
		}
		for _, c := range s.Components {
			if !slices.Contains(s.AllComponents, c) {
				t.Errorf("%s enables %s, which it does not have", s.Name, c)
			}
		}
		if _, err := archive.FindSuite(s.DevelopmentSuite()); err != nil {
			t.Errorf("development suite of %s: %v", s.Vendor, err)
		}
	}
}

// fakeHost makes a root directory with files, among them an empty keyring for
// Debian and Ubuntu.
func fakeHost(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	all := map[string]string{
		"usr/share/keyrings/debian-archive-keyring.gpg": "x",
		"usr/share/keyrings/ubuntu-archive-keyring.gpg": "x",
	}
	for name, text := range files {
		all[name] = text
	}
	for name, text := range all {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// brief is a source in one line.
func brief(srcs []archive.Source) []string {
	var lines []string
	for _, s := range srcs {
		line := s.URL + " " + s.Suite + " " + strings.Join(s.Components, ",")
		if s.Pin != 0 {
			line += " pinned"
		}
		lines = append(lines, line)
	}
	return lines
}

func TestSources(t *testing.T) {
	const main, security = "http://ftp.debian.org/debian ", "http://security.debian.org/debian-security "
	tests := []struct {
		name  string
		suite string
		opt   archive.SourceOptions
		want  []string
	}{
		{"release", "bookworm", archive.SourceOptions{}, []string{
			main + "bookworm main", main + "bookworm-updates main", security + "bookworm-security main"}},
		{"development", "unstable", archive.SourceOptions{}, []string{main + "sid main"}},
		{"not yet released", "forky", archive.SourceOptions{}, []string{main + "forky main"}},
		{"experimental", "experimental", archive.SourceOptions{}, []string{main + "sid main", main + "experimental main pinned"}},
		{"backports", "trixie-backports", archive.SourceOptions{}, []string{
			main + "trixie main", main + "trixie-updates main", security + "trixie-security main", main + "trixie-backports main pinned"}},
		{"security leaves updates out", "trixie-security", archive.SourceOptions{}, []string{
			main + "trixie main", security + "trixie-security main"}},
		{"updates", "trixie-updates", archive.SourceOptions{}, []string{
			main + "trixie main", security + "trixie-security main", main + "trixie-updates main"}},
		{"components", "bookworm", archive.SourceOptions{Components: []string{"main", "non-free-firmware", "non-free-firmware"}}, []string{
			main + "bookworm main,non-free-firmware", main + "bookworm-updates main,non-free-firmware", security + "bookworm-security main,non-free-firmware"}},
		{"components that bullseye lacks", "bullseye", archive.SourceOptions{Components: []string{"main", "non-free-firmware"}}, []string{
			main + "bullseye main", main + "bullseye-updates main", security + "bullseye-security main"}},
		{"mirror given", "bookworm", archive.SourceOptions{Mirror: "http://mirror.example/debian/"}, []string{
			"http://mirror.example/debian bookworm main", "http://mirror.example/debian bookworm-updates main", security + "bookworm-security main"}},
		{"both mirrors given", "bookworm", archive.SourceOptions{Mirror: "http://m.example/a", SecurityMirror: "http://m.example/b"}, []string{
			"http://m.example/a bookworm main", "http://m.example/a bookworm-updates main", "http://m.example/b bookworm-security main"}},
		{"Ubuntu", "noble", archive.SourceOptions{Arch: "amd64"}, []string{
			"http://archive.ubuntu.com/ubuntu noble main,universe", "http://archive.ubuntu.com/ubuntu noble-updates main,universe",
			"http://archive.ubuntu.com/ubuntu noble-security main,universe"}},
		{"Ubuntu ports", "noble-security", archive.SourceOptions{Arch: "arm64"}, []string{
			"http://ports.ubuntu.com/ubuntu-ports noble main,universe", "http://ports.ubuntu.com/ubuntu-ports noble-security main,universe"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := archive.FindSuite(tt.suite)
			if err != nil {
				t.Fatal(err)
			}
			tt.opt.HostRoot = fakeHost(t, nil)
			srcs, err := s.Sources(tt.opt)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, brief(srcs)); diff != "" {
				t.Errorf("sources (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSourcesRefuses(t *testing.T) {
	s, err := archive.FindSuite("bookworm")
	if err != nil {
		t.Fatal(err)
	}
	host := fakeHost(t, nil)
	tests := []struct {
		name string
		opt  archive.SourceOptions
		want fault.Class
	}{
		{"no keyring installed", archive.SourceOptions{HostRoot: t.TempDir()}, fault.Trust},
		{"keyring given but missing", archive.SourceOptions{HostRoot: host, Keyrings: []string{"/nonexistent.gpg"}}, fault.Trust},
		{"keyring is a directory", archive.SourceOptions{HostRoot: host, Keyrings: []string{t.TempDir()}}, fault.Trust},
		{"unknown component", archive.SourceOptions{HostRoot: host, Components: []string{"universe"}}, fault.Usage},
		{"mirror is a path", archive.SourceOptions{HostRoot: host, Mirror: "/srv/debian"}, fault.Usage},
		{"security mirror is ftp", archive.SourceOptions{HostRoot: host, SecurityMirror: "ftp://x/y"}, fault.Usage},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := s.Sources(tt.opt)
			wantClass(t, err, tt.want)
			if tt.name == "no keyring installed" && !strings.Contains(fault.HintOf(err), "debian-archive-keyring") {
				t.Errorf("hint %q does not name the package", fault.HintOf(err))
			}
		})
	}
}

// TestHostMirror has the apt sources of different hosts.
func TestHostMirror(t *testing.T) {
	const deb822 = "Types: deb\n# a comment\nURIs: http://near.example/debian/\nSuites: bookworm bookworm-updates\nComponents: main\n" +
		"Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n" +
		"Types: deb\nURIs: http://near.example/debian-security\nSuites: bookworm-security\nComponents: main\n" +
		"Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
	const alias, security = "http://ftp.debian.org/debian", "http://security.debian.org/debian-security"
	tests := []struct {
		name           string
		suite          string
		files          map[string]string
		mirror         string
		main, security string
	}{
		{"deb822", "bookworm", map[string]string{"etc/apt/sources.list.d/debian.sources": deb822}, "",
			"http://near.example/debian", "http://near.example/debian-security"},
		{"another suite of the vendor", "trixie", map[string]string{"etc/apt/sources.list.d/debian.sources": deb822}, "",
			"http://near.example/debian", "http://near.example/debian-security"},
		{"mirror given on the same machine", "trixie", map[string]string{"etc/apt/sources.list.d/debian.sources": deb822}, "http://near.example/pub/debian",
			"http://near.example/pub/debian", "http://near.example/debian-security"},
		{"mirror given elsewhere", "trixie", map[string]string{"etc/apt/sources.list.d/debian.sources": deb822}, "http://far.example/debian",
			"http://far.example/debian", security},
		{"one-line", "bookworm", map[string]string{"etc/apt/sources.list": "# deb http://no.example/debian bookworm main\n" +
			"deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://near.example/debian stable main contrib # x\n" +
			"deb-src http://near.example/debian-security stable-security main\n"}, "",
			"http://near.example/debian", "http://near.example/debian-security"},
		{"no security archive", "bookworm", map[string]string{"etc/apt/sources.list": "deb http://near.example/debian bookworm main\n"}, "",
			"http://near.example/debian", security},
		{"third parties", "bookworm", map[string]string{
			"etc/apt/sources.list.d/a.list": "deb http://db.example/repo/11/debian bookworm main\n",
			"etc/apt/sources.list.d/b.list": "deb [signed-by=/etc/apt/keyrings/x.gpg] http://x.example/linux/debian bookworm main\n",
			"etc/apt/sources.list.d/c.list": "deb http://y.example/linux/debian bookworm stable\n",
			"etc/apt/sources.list.d/d.list": "deb http://cdn.debian.net/debian bookworm main\n",
		}, "", "http://cdn.debian.net/debian", security},
		{"not enabled", "bookworm", map[string]string{"etc/apt/sources.list.d/debian.sources": "Enabled: no\n" + deb822[:strings.Index(deb822, "\n\n")+1]}, "",
			alias, security},
		{"renamed away", "bookworm", map[string]string{"etc/apt/sources.list.d/debian.sources.disabled": deb822}, "", alias, security},
		{"unusable URIs", "bookworm", map[string]string{"etc/apt/sources.list": "deb cdrom:[Debian]/ bookworm main\n" +
			"deb file:/srv/debian bookworm main\ndeb mirror+http://x/debian bookworm main\ndeb http://near.example/debian ./\n"}, "", alias, security},
		{"garbage", "bookworm", map[string]string{"etc/apt/sources.list": "deb [ http://x\n\x00\ndeb\n", "etc/apt/sources.list.d/x.sources": "\x00: :\n:"}, "",
			alias, security},
		{"Ubuntu host", "bookworm", map[string]string{"etc/apt/sources.list": "deb http://near.example/ubuntu noble main\n"}, "", alias, security},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := archive.FindSuite(tt.suite)
			if err != nil {
				t.Fatal(err)
			}
			srcs, err := s.Sources(archive.SourceOptions{HostRoot: fakeHost(t, tt.files), Mirror: tt.mirror})
			if err != nil {
				t.Fatal(err)
			}
			if srcs[0].URL != tt.main || srcs[2].URL != tt.security {
				t.Errorf("got %s and %s, want %s and %s", srcs[0].URL, srcs[2].URL, tt.main, tt.security)
			}
		})
	}
	ubuntu, err := archive.FindSuite("noble")
	if err != nil {
		t.Fatal(err)
	}
	root := fakeHost(t, map[string]string{"etc/apt/sources.list": "deb http://near.example/ubuntu noble main universe\n"})
	for arch, want := range map[string]string{"amd64": "http://near.example/ubuntu", "arm64": "http://ports.ubuntu.com/ubuntu-ports"} {
		srcs, err := ubuntu.Sources(archive.SourceOptions{HostRoot: root, Arch: arch})
		if err != nil || srcs[0].URL != want {
			t.Errorf("%s: got %v, %v; want %s", arch, srcs, err, want)
		}
	}
}
