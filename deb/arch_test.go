package deb

import (
	"bufio"
	"bytes"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestArchMatches(t *testing.T) {
	for _, tc := range []struct {
		arch, wildcard string
		want           bool
	}{
		{"amd64", "amd64", true},
		{"amd64", "any", true},
		{"amd64", "linux-any", true},
		{"amd64", "any-amd64", true},
		{"amd64", "any-i386", false},
		{"amd64", "gnu-any-any", true},
		{"amd64", "musl-any-any", false},
		{"amd64", "hurd-any", false},
		{"amd64", "linux-amd64", true},
		{"armhf", "linux-any", true},
		{"armhf", "any-arm", true},
		{"armhf", "gnu-any-any", true},
		{"armhf", "gnu-linux-any", true},
		{"armhf", "eabihf-any-any-any", true},
		{"armel", "linux-any", true},
		{"armel", "eabihf-gnu-linux-arm", false},
		{"mips64el", "gnu-any-any", true},
		{"x32", "any-amd64", true},
		{"x32", "linux-any", true},
		{"musl-linux-amd64", "linux-any", true},
		{"musl-linux-amd64", "musl-any-any", true},
		{"arm64ilp32", "any-arm64", true},
		{"hurd-i386", "hurd-any", true},
		{"hurd-i386", "linux-any", false},
		{"kfreebsd-amd64", "any-amd64", true},
		{"all", "any", true}, // as dpkg-architecture says
		{"all", "all", true},
		{"all", "linux-any", false},
		{"amd64", "all", false},
		{"amd64", "", false},
		{"unknown", "any", true},
		{"unknown", "unknown", true},
		{"unknown", "linux-any", false},
		{"amd64", "any-", false},
		{"amd64", "any-any-any-any-any", false},
	} {
		if got := ArchMatches(tc.arch, tc.wildcard); got != tc.want {
			t.Errorf("%s and %q: %v", tc.arch, tc.wildcard, got)
		}
	}
}

func TestArchNames(t *testing.T) {
	for _, tc := range []struct{ arch, gnu, multiarch string }{
		{"amd64", "x86_64-linux-gnu", "x86_64-linux-gnu"},
		{"i386", "i686-linux-gnu", "i386-linux-gnu"},
		{"armhf", "arm-linux-gnueabihf", "arm-linux-gnueabihf"},
		{"ppc64el", "powerpc64le-linux-gnu", "powerpc64le-linux-gnu"},
		{"x32", "x86_64-linux-gnux32", "x86_64-linux-gnux32"},
		{"hurd-i386", "i686-gnu", "i386-gnu"},
		{"loong64", "loongarch64-linux-gnu", "loongarch64-linux-gnu"},
	} {
		if !KnownArch(tc.arch) || GNUTriplet(tc.arch) != tc.gnu || Multiarch(tc.arch) != tc.multiarch {
			t.Errorf("%s: known %v, %q, %q", tc.arch, KnownArch(tc.arch), GNUTriplet(tc.arch), Multiarch(tc.arch))
		}
	}
	for _, s := range []string{"", "all", "any", "source", "linux-any", "x86_64", "AMD64", "amd64 "} {
		if KnownArch(s) || GNUTriplet(s) != "" || Multiarch(s) != "" {
			t.Errorf("%q is known", s)
		}
	}
	if arch := HostArch(); !KnownArch(arch) {
		t.Errorf("host architecture %q is not known", arch)
	}
}

// perl runs a script with dpkg's own modules, one line of input per
// question, and returns the lines of its output.
func perl(t *testing.T, script string, input []string) []string {
	t.Helper()
	program := needProgram(t, "perl")
	if exec.Command(program, "-MDpkg::Arch", "-MDpkg::Deps", "-e", "1").Run() != nil {
		t.Skip("dpkg's perl modules (libdpkg-perl) are not installed")
	}
	cmd := exec.Command(program, "-e", script)
	cmd.Stdin = strings.NewReader(strings.Join(input, "\n") + "\n")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("perl: %v\n%s", err, stderr.String())
	}
	var lines []string
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		lines = append(lines, s.Text())
	}
	return lines
}

// dpkgArches returns every architecture that the installed dpkg knows.
func dpkgArches(t *testing.T) []string {
	t.Helper()
	arches := perl(t, `use Dpkg::Arch qw(get_valid_arches); print "$_\n" for get_valid_arches();`, nil)
	if len(arches) < 50 {
		t.Fatalf("dpkg knows only %d architectures", len(arches))
	}
	return arches
}

func TestArchTableWithDpkg(t *testing.T) {
	arches := dpkgArches(t)
	got := perl(t, `use Dpkg::Arch qw(debarch_to_gnutriplet debarch_to_multiarch);
while (<STDIN>) { chomp; print debarch_to_gnutriplet($_), " ", debarch_to_multiarch($_), "\n"; }`, arches)
	if len(got) != len(arches) {
		t.Fatalf("%d answers for %d architectures", len(got), len(arches))
	}
	for i, arch := range arches {
		if !KnownArch(arch) {
			t.Errorf("%s is not known", arch)
		}
		if have := GNUTriplet(arch) + " " + Multiarch(arch); have != got[i] {
			t.Errorf("%s: %s, dpkg has %s", arch, have, got[i])
		}
	}
}

// TestArchWildcardsWithDpkg asks dpkg about every architecture with every
// wildcard that can be made of Debian's own words.
func TestArchWildcardsWithDpkg(t *testing.T) {
	wildcards := []string{"any", "any-any", "any-any-any", "any-any-any-any", "all", "amd64", "armhf",
		"linux-amd64", "linux-armhf", "bogus", "any-bogus", "gnu-linux-any", "gnu-any-arm", "eabihf-gnu-linux-any",
		"base-any-linux-any", "any-gnu-linux-amd64", "any-linux-amd64", "musl-linux-any", "gnu-linux-amd64"}
	for _, w := range []string{"linux", "hurd", "kfreebsd", "freebsd", "darwin"} {
		wildcards = append(wildcards, w+"-any", "any-"+w+"-any")
	}
	for _, w := range []string{"gnu", "musl", "uclibc", "bsd"} {
		wildcards = append(wildcards, w+"-any-any")
	}
	for _, w := range []string{"amd64", "arm", "arm64", "i386", "mips64el", "powerpc", "riscv64"} {
		wildcards = append(wildcards, "any-"+w)
	}
	for _, w := range []string{"base", "eabi", "eabihf", "x32", "ilp32", "abin32"} {
		wildcards = append(wildcards, w+"-any-any-any")
	}
	arches := append([]string{"all", "bogus"}, dpkgArches(t)...)
	var pairs []string
	for _, a := range arches {
		for _, w := range wildcards {
			pairs = append(pairs, a+" "+w)
		}
	}
	got := perl(t, `use Dpkg::Arch qw(debarch_is);
while (<STDIN>) { my ($a, $w) = split; print debarch_is($a, $w) ? "true\n" : "false\n"; }`, pairs)
	if len(got) != len(pairs) || len(pairs) < 650 {
		t.Fatalf("%d answers for %d pairs", len(got), len(pairs))
	}
	for i, pair := range pairs {
		a, w, _ := strings.Cut(pair, " ")
		if have := fmt.Sprint(ArchMatches(a, w)); have != got[i] {
			t.Errorf("%s: %s, dpkg has %s", pair, have, got[i])
		}
	}
	t.Logf("%d pairs", len(pairs))
}

// TestArchWildcardsWithProgram asks the program that packages call, for the
// architectures of Debian's releases.
func TestArchWildcardsWithProgram(t *testing.T) {
	program := needProgram(t, "dpkg-architecture")
	for _, arch := range []string{"amd64", "armhf", "x32"} {
		for _, w := range []string{"linux-any", "any-amd64", "gnu-any-any", "any-arm"} {
			err := exec.Command(program, "-a", arch, "-i", w).Run()
			if got := err == nil; got != ArchMatches(arch, w) {
				t.Errorf("dpkg-architecture -a %s -i %s: %v", arch, w, got)
			}
		}
	}
}

func TestHostArchWithDpkg(t *testing.T) {
	out, err := exec.Command(needProgram(t, "dpkg"), "--print-architecture").Output()
	if err != nil {
		t.Fatal(err)
	}
	// A 32-bit build of the tests may run on a 64-bit system.
	if arch := strings.TrimSpace(string(out)); arch != HostArch() && !slices.Contains([]string{"i386", "armhf"}, HostArch()) {
		t.Errorf("%s, dpkg has %s", HostArch(), arch)
	}
}
