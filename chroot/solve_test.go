package chroot

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dbuild/internal/fault"
)

// pkg writes a Packages stanza; extra holds further fields, one per line.
func pkg(name, version string, extra ...string) string {
	_, noEpoch, ok := strings.Cut(version, ":")
	if !ok {
		noEpoch = version
	}
	s := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: amd64\nFilename: pool/%s_%s_amd64.deb\nSize: 10\nSHA256: %s\n",
		name, version, name, noEpoch, strings.Repeat("0", 64))
	for _, line := range extra {
		s += line + "\n"
	}
	return s + "\n"
}

// index opens one index for each text, the first with the given pins or 500.
func index(t *testing.T, texts []string, pins ...int) *Index {
	t.Helper()
	dir := t.TempDir()
	var files []IndexFile
	for i, text := range texts {
		path := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f := IndexFile{Path: path, State: i, Pin: 500}
		if i < len(pins) {
			f.Pin = pins[i]
		}
		files = append(files, f)
	}
	x, err := OpenIndex(context.Background(), "amd64", files)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	return x
}

// solution writes each choice as "name", with "!" for essential and "+" for
// automatic ones.
func solution(set []Choice) []string {
	var list []string
	for _, c := range set {
		s := c.Name
		if c.Essential {
			s += "!"
		}
		if c.Auto {
			s += "+"
		}
		list = append(list, s)
	}
	return list
}

const buildEssential = "build-essential"

func TestSolve(t *testing.T) {
	essential := "Essential: yes"
	required := "Priority: required"
	tests := []struct {
		name  string
		index []string
		want  []string
	}{
		{
			"essential with its dependencies is not automatic, the rest's dependencies are",
			[]string{pkg("bash", "1", essential, "Depends: libc6") + pkg("libc6", "1") +
				pkg(buildEssential, "1", "Depends: gcc") + pkg("gcc", "1", "Depends: libc6, binutils") + pkg("binutils", "1")},
			[]string{"bash!", "binutils+", buildEssential, "gcc+", "libc6!"},
		},
		{
			"required packages are asked for, even when something needs them too",
			[]string{pkg("bash", "1", essential) + pkg("apt", "1", required) +
				pkg(buildEssential, "1", "Depends: apt")},
			[]string{"apt", "bash!", buildEssential},
		},
		{
			"recommends are ignored, unrelated packages stay out",
			[]string{pkg("bash", "1", essential, "Recommends: editor") + pkg("editor", "1") + pkg(buildEssential, "1")},
			[]string{"bash!", buildEssential},
		},
		{
			"an alternative that is chosen anyway wins over the first",
			[]string{pkg("apt", "1", required, "Depends: adduser | base-passwd, tool") + pkg("adduser", "1") +
				pkg("tool", "1", "Depends: base-passwd") + pkg("base-passwd", "1") + pkg("bash", "1", essential) + pkg(buildEssential, "1")},
			[]string{"apt", "base-passwd+", "bash!", buildEssential, "tool+"},
		},
		{
			"the first alternative with a candidate",
			[]string{pkg("bash", "1", essential, "Depends: gone | here | other") + pkg("here", "1") + pkg("other", "1") + pkg(buildEssential, "1")},
			[]string{"bash!", buildEssential, "here!"},
		},
		{
			"of the providers the best priority, then the name",
			[]string{pkg("bash", "1", essential, "Pre-Depends: awk, sh") + pkg("gawk", "1", "Provides: awk", "Priority: optional") +
				pkg("mawk", "1", "Provides: awk", "Priority: important") + pkg("zsh", "1", "Provides: sh") + pkg("ash", "1", "Provides: sh") + pkg(buildEssential, "1")},
			[]string{"ash!", "bash!", buildEssential, "mawk!"},
		},
		{
			"a versioned relation needs a versioned provide",
			[]string{pkg("bash", "1", essential, "Depends: api (>= 2)") + pkg("alpha", "1", "Provides: api") +
				pkg("beta", "1", "Provides: api (= 1)") + pkg("gamma", "1", "Provides: x, api (= 2)") + pkg(buildEssential, "1")},
			[]string{"bash!", buildEssential, "gamma!"},
		},
		{
			"a chosen provider meets an alternative",
			[]string{pkg("bash", "1", essential, "Depends: mta | full, lite") + pkg("full", "1") + pkg("lite", "1", "Provides: mta") + pkg(buildEssential, "1")},
			[]string{"bash!", buildEssential, "lite!"},
		},
		{
			"an essential package only in a second source counts",
			[]string{pkg("bash", "1", essential) + pkg(buildEssential, "1"), pkg("new", "1", essential)},
			[]string{"bash!", buildEssential, "new!"},
		},
		{
			"cycles end",
			[]string{pkg("bash", "1", essential, "Depends: alpha") + pkg("alpha", "1", "Depends: beta") + pkg("beta", "1", "Depends: alpha") + pkg(buildEssential, "1")},
			[]string{"alpha!", "bash!", "beta!", buildEssential},
		},
		{
			":any takes a package that allows it",
			[]string{pkg("bash", "1", essential, "Depends: perl:any") + pkg("perl", "1", "Multi-Arch: allowed") + pkg(buildEssential, "1")},
			[]string{"bash!", buildEssential, "perl!"},
		},
		{
			"a package may conflict with what it provides itself",
			[]string{pkg("bash", "1", essential, "Provides: shell", "Conflicts: shell", "Breaks: old (<< 2)") + pkg("old", "2", essential) + pkg(buildEssential, "1")},
			[]string{"bash!", buildEssential, "old!"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			set, err := Solve(index(t, tt.index))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, solution(set)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestSolveRefuses(t *testing.T) {
	base := pkg("bash", "1", "Essential: yes") + pkg(buildEssential, "1")
	tests := []struct{ name, index, want string }{
		{"no essential package", pkg(buildEssential, "1"), "no essential package"},
		{"no build-essential", pkg("bash", "1", "Essential: yes"), "no build-essential"},
		{"missing dependency", base + pkg("xenon", "1", "Essential: yes", "Depends: gone (>= 2)"), `"xenon" needs "gone (>= 2)"`},
		{"too old", base + pkg("xenon", "1", "Essential: yes", "Depends: bash (>= 2)"), `"bash (>= 2)"`},
		{":any of a package that does not allow it", base + pkg("xenon", "1", "Essential: yes", "Depends: bash:any"), "bash:any"},
		{"conflict by name", base + pkg("xenon", "1", "Essential: yes", "Conflicts: bash (<< 2)"), `conflicts with "bash"`},
		{"conflict with a provided name", base + pkg("xenon", "1", "Essential: yes", "Conflicts: v") + pkg("yak", "1", "Essential: yes", "Provides: v"), `conflicts with "yak"`},
		{"break", base + pkg("xenon", "1", "Essential: yes", "Breaks: bash"), `breaks "bash"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Solve(index(t, []string{tt.index}))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want it to say %q", err, tt.want)
			}
			if got := fault.ClassOf(err); got != fault.DepWait {
				t.Errorf("class %q", got)
			}
		})
	}
}

func TestCandidate(t *testing.T) {
	base := pkg("bash", "1", "Essential: yes") + pkg(buildEssential, "1")
	tests := []struct {
		name  string
		index []string
		pins  []int
		want  string // version and state of bash
	}{
		{"higher version", []string{base, pkg("bash", "2", "Essential: yes")}, nil, "2 1"},
		{"older security", []string{pkg("bash", "2", "Essential: yes") + base, pkg("bash", "1.5", "Essential: yes")}, nil, "2 0"},
		{"epoch", []string{base, pkg("bash", "1:0.1", "Essential: yes")}, nil, "1:0.1 1"},
		{"equal: the first source", []string{base, pkg("bash", "1", "Essential: yes")}, nil, "1 0"},
		{"lower pin", []string{base, pkg("bash", "2", "Essential: yes")}, []int{500, 1}, "1 0"},
		{"higher pin", []string{base, pkg("bash", "0.5", "Essential: yes")}, []int{500, 990}, "0.5 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			set, err := Solve(index(t, tt.index, tt.pins...))
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(set[0].Version, " ", set[0].State); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// A large index is read in two pieces; nothing may be lost where they meet.
func TestOpenIndexInPieces(t *testing.T) {
	var b strings.Builder
	n := 0
	for b.Len() < splitSize+1<<16 {
		b.WriteString(pkg(fmt.Sprintf("p%06d", n), "1", "Description: "+strings.Repeat("x", n%700)))
		n++
	}
	x := index(t, []string{b.String()})
	if len(x.byName) != n {
		t.Fatalf("%d packages, want %d", len(x.byName), n)
	}
	for name, c := range x.byName {
		p, err := x.load(c)
		if err != nil {
			t.Fatal(err)
		}
		if p.Name != name {
			t.Fatalf("stanza of %q is that of %q", name, p.Name)
		}
	}
}
