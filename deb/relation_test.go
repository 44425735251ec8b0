package deb

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// acceptedRelations maps a field to what it prints as; "" is the field
// itself. All are fed to dpkg as well and seed FuzzDependency.
var acceptedRelations = []struct{ in, print string }{
	{"debhelper-compat (= 13)", ""},
	{"a, b (>= 1), c (<< 2:3.4-5~), d | e", ""},
	{"a  (>=1) ,b|c", "a (>= 1), b | c"},
	{"a (> 1), b (< 2)", "a (>= 1), b (<= 2)"},
	{"gcc:native, python3:any (>= 3.11), libc6:amd64", ""},
	{"a [linux-any], b [!hurd-any !kfreebsd-any], c (= 1) [amd64 i386]", ""},
	{"a <!nocheck>, b <cross stage1> <!nodoc>", ""},
	{"a (>= 1) [linux-any] <!nocheck>", ""},
	{"a:any (>= 1) [armhf] <pkg.foo.bar !nocheck> | b <stage1>", ""},
	{"a[amd64]<!nocheck>", "a [amd64] <!nocheck>"},
	{"a(>=1)[amd64]", "a (>= 1) [amd64]"},
	{"a\n [amd64\n\ti386],\n b <\t!nocheck\n !nodoc >,\n", "a [amd64 i386], b <!nocheck !nodoc>"},
	{"a,, b,", "a, b"},
	{",\n a", "a"},
	{"libfoo-perl, g++, librust-x+y-dev, R, 0ad", ""},
	{"a [!linux-any]", ""},
	{"a [amd64 !i386]", ""},
	{"a [AMD64]", ""},
}

func TestParseDependency(t *testing.T) {
	for _, tc := range acceptedRelations {
		d, err := ParseDependency(tc.in)
		if err != nil {
			t.Errorf("%q: %v", tc.in, err)
			continue
		}
		want := tc.print
		if want == "" {
			want = tc.in
		}
		if got := d.String(); got != want {
			t.Errorf("%q prints as %q, want %q", tc.in, got, want)
		}
		again, err := ParseDependency(d.String())
		if diff := cmp.Diff(d, again); err != nil || diff != "" {
			t.Errorf("%q does not read back: %v %s", tc.in, err, diff)
		}
	}
}

func TestParseDependencyStructure(t *testing.T) {
	got, err := ParseDependency("a:any (>= 1) [!amd64 !i386] <!nocheck> <x y> | b")
	if err != nil {
		t.Fatal(err)
	}
	want := Dependency{{
		{Name: "a", Qualifier: "any", Op: ">=", Version: "1", Arches: []string{"!amd64", "!i386"},
			Profiles: [][]string{{"!nocheck"}, {"x", "y"}}},
		{Name: "b"},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got, err := ParseDependency(" \n"); err != nil || len(got) != 0 {
		t.Errorf("blank field: %v, %v", got, err)
	}
}

func TestParseDependencyRefuses(t *testing.T) {
	for _, in := range []string{
		"|", "a |", "| a", "a || b", "a | , b",
		"${shlibs:Depends}", "a (= ${binary:Version})", "a ${misc:Depends}",
		"a b", "a/b", "-a", "+a", "a_b", "a!", "ä",
		"a:", "a::b", "a:b:c", "a: any", "a :any", "a:-x",
		"a (", "a ()", "a (1)", "a (=)", "a (= )", "a (== 1)", "a (=> 1)", "a (>>> 1)", "a (= 1", "a = 1", "a (= 1 2)", "a (= -1)", "a (= 1-)",
		"a (= 1) (= 2)", "a ((= 1))", "a (= 1))",
		"a [", "a []", "a [ ]", "a [amd64", "a amd64]", "a [!]", "a [!!amd64]", "a [amd64,i386]", "a [amd64] [i386]", "a [am_d64]",
		"a <", "a <>", "a < >", "a <x", "a x>", "a <!>", "a <!!x>", "a <x><y>", "a <x> y", "a <x> [amd64]", "a [amd64] (= 1)",
		"a\x00", "a (= 1\x00)", "a\x0bb",
	} {
		d, err := ParseDependency(in)
		var typed *RelationError
		if !errors.As(err, &typed) {
			t.Errorf("%q: %v, error %v", in, d, err)
		}
	}
}

func TestParseDependencyLimit(t *testing.T) {
	if d, err := ParseDependency(strings.TrimSuffix(strings.Repeat("a|", 10000), "|")); err != nil || len(d[0]) != 10000 {
		t.Errorf("10000 alternatives: %v", err)
	}
	var limit *LimitError
	if _, err := ParseDependency(strings.Repeat("a,", maxRelations)); !errors.As(err, &limit) {
		t.Errorf("error %v, want a LimitError", err)
	}
}

func TestReduce(t *testing.T) {
	for _, tc := range []struct {
		in       string
		arch     string
		profiles string
		want     string
	}{
		{"a, b [amd64], c [i386]", "amd64", "", "a, b"},
		{"a [linux-any]", "armhf", "", "a"},
		{"a [!linux-any]", "armhf", "", ""},
		{"a [!amd64 !i386]", "amd64", "", ""},
		{"a [!amd64 !i386]", "arm64", "", "a"},
		{"a [i386] | b [amd64] | c", "amd64", "", "b | c"},
		{"a [i386] | b [armhf], c", "amd64", "", "c"},
		{"a <!nocheck>, b <nocheck>", "amd64", "", "a"},
		{"a <!nocheck>, b <nocheck>", "amd64", "nocheck", "b"},
		{"a <cross stage1>", "amd64", "cross", ""},
		{"a <cross stage1>", "amd64", "stage1 cross", "a"},
		{"a <!nocheck> <!nodoc>", "amd64", "nocheck", "a"},
		{"a <!nocheck> <!nodoc>", "amd64", "nocheck nodoc", ""},
		{"a <!nocheck !nodoc>", "amd64", "nocheck", ""},
		{"a:any (>= 1) [amd64] <!nocheck>", "amd64", "", "a:any (>= 1)"},
		{"a [i386] <!nocheck>", "amd64", "", ""},
	} {
		d, err := ParseDependency(tc.in)
		if err != nil {
			t.Fatal(err)
		}
		if got := d.Reduce(tc.arch, strings.Fields(tc.profiles)).String(); got != tc.want {
			t.Errorf("%s on %s with %q: %q, want %q", tc.in, tc.arch, tc.profiles, got, tc.want)
		}
		if d.String() != tc.in {
			t.Errorf("Reduce changed its receiver to %q", d)
		}
	}
}

// TestReduceWithDpkg compares parsing, printing and evaluating with
// Dpkg::Deps.
func TestReduceWithDpkg(t *testing.T) {
	type question struct{ field, arch, profiles string }
	var questions []question
	var input []string
	for _, tc := range acceptedRelations {
		for _, arch := range []string{"amd64", "i386", "armhf", "hurd-i386"} {
			for _, profiles := range []string{"", "nocheck", "cross stage1", "nocheck nodoc pkg.foo.bar"} {
				// The fields travel on one line; white space is all the same.
				field := strings.ReplaceAll(tc.in, "\n", " ")
				questions = append(questions, question{field, arch, profiles})
				input = append(input, strings.Join([]string{arch, profiles, field}, ";"))
			}
		}
	}
	got := perl(t, `use Dpkg::Deps; $SIG{__WARN__} = sub {};
while (<STDIN>) {
	chomp; my ($arch, $profiles, $field) = split /;/, $_, 3;
	my $whole = deps_parse($field, build_dep => 1);
	my $reduced = deps_parse($field, build_dep => 1, reduce_restrictions => 1, host_arch => $arch,
		build_arch => $arch, build_profiles => [ split ' ', $profiles ]);
	print defined $whole ? $whole->output() : "error", ";", defined $reduced ? $reduced->output() : "error", "\n";
}`, input)
	if len(got) != len(questions) {
		t.Fatalf("%d answers for %d questions", len(got), len(questions))
	}
	for i, q := range questions {
		d, err := ParseDependency(q.field)
		if err != nil {
			t.Fatal(err)
		}
		have := fmt.Sprintf("%s;%s", d, d.Reduce(q.arch, strings.Fields(q.profiles)))
		if have != got[i] {
			t.Errorf("%+v\n have %s\n dpkg %s", q, have, got[i])
		}
	}
}

func TestFirst(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"a | b, c", "a, c"},
		{"a (>> 2) | a (<< 1) | b", "a (>> 2) | a (<< 1)"},
		{"a | b | a (= 1)", "a | a (= 1)"},
		{"", ""},
	} {
		d, err := ParseDependency(tc.in)
		if err != nil {
			t.Fatal(err)
		}
		if got := d.First().String(); got != tc.want {
			t.Errorf("%q: %q, want %q", tc.in, got, tc.want)
		}
	}
}

func TestSatisfiedBy(t *testing.T) {
	for _, tc := range []struct {
		relation string
		yes, no  []string
	}{
		{"a", []string{"1", "not a version"}, nil},
		{"a (<< 1.0)", []string{"1.0~rc1", "0.9"}, []string{"1.0", "1.0-1", "bad version", ""}},
		{"a (<= 1.0)", []string{"1.0", "1.00"}, []string{"1.0-1", "1:0"}},
		{"a (= 1.0-0)", []string{"1.0"}, []string{"1.0-1"}},
		{"a (>= 1.0)", []string{"1.0", "1:0"}, []string{"1.0~"}},
		{"a (>> 1.0)", []string{"1.0-1"}, []string{"1.0", "1.0-0"}},
	} {
		d, err := ParseDependency(tc.relation)
		if err != nil {
			t.Fatal(err)
		}
		r := d[0][0]
		for _, v := range tc.yes {
			if !r.SatisfiedBy(v) {
				t.Errorf("%s is not satisfied by %q", r, v)
			}
		}
		for _, v := range tc.no {
			if r.SatisfiedBy(v) {
				t.Errorf("%s is satisfied by %q", r, v)
			}
		}
	}
	if (Relation{Name: "a", Op: "=", Version: "bad version"}).SatisfiedBy("1") {
		t.Error("an invalid constraint is satisfied")
	}
}
