package buildenv

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"dbuild/archive"
	"dbuild/cache"
	"dbuild/deb"
	"dbuild/dsc"
	"dbuild/internal/fault"
)

func TestParseRemovals(t *testing.T) {
	text := `NOTE: This is only a simulation!
The following packages will be REMOVED:
  old-tool
Remv old-tool [1.0-1]
Remv libbar1:i386 [2:1.0] [foo:amd64 ]
Inst libfoo1:i386 (1:2.0-1+b2 Debian:12.15/oldstable [i386])
Conf foo-data (2.0-1 Debian:12.15/oldstable [all])
`
	got, err := parseRemovals(text)
	if err != nil {
		t.Fatal(err)
	}
	want := []change{{Name: "old-tool", Remove: true}, {Name: "libbar1", Arch: "i386", Remove: true}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := parseRemovals("Remv foo\n"); err == nil {
		t.Error("a line without a version: no error")
	}
}

func TestKeyOf(t *testing.T) {
	for name, want := range map[string]archive.PackageKey{
		"hello_2.10-3_amd64.deb":         {Name: "hello", Version: "2.10-3", Arch: "amd64"},
		"libfoo1_1%3a2.0~rc1+b2_all.deb": {Name: "libfoo1", Version: "1:2.0~rc1+b2", Arch: "all"},
		"g++-12_12.2.0-14+deb12u1_x.deb": {Name: "g++-12", Version: "12.2.0-14+deb12u1", Arch: "x"},
	} {
		got, err := keyOf(name)
		if err != nil || got != want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for _, bad := range []string{"", "foo.deb", "a_b_c_d.deb", "a_%zz_c.deb"} {
		if _, err := keyOf(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestApplyPlan(t *testing.T) {
	base := []cache.Package{
		{Name: "dpkg", Version: "1", Arch: "amd64", SHA256: "d"},
		{Name: "data", Version: "1", Arch: "amd64", SHA256: "e"},
		{Name: "old", Version: "1", Arch: "all", SHA256: "o"},
	}
	r := &resolver{arch: "amd64", baseSet: base, packages: map[archive.PackageKey]*deb.Package{
		{Name: "data", Version: "2", Arch: "all"}:  {SHA256: "f"},
		{Name: "new", Version: "3", Arch: "amd64"}: {SHA256: "n"},
	}}
	got := r.apply([]change{
		{Name: "old", Remove: true}, {Name: "data", Version: "2", Arch: "all"}, {Name: "new", Version: "3", Arch: "amd64"},
	})
	want := []cache.Package{
		{Name: "data", Version: "2", Arch: "all", SHA256: "f"},
		{Name: "dpkg", Version: "1", Arch: "amd64", SHA256: "d"},
		{Name: "new", Version: "3", Arch: "amd64", SHA256: "n"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]cache.Package{want[0], want[2]}, added(base, got)); diff != "" {
		t.Error(diff)
	}
}

func TestDependencies(t *testing.T) {
	for _, tc := range []struct {
		name   string
		fields map[string]string
		dpkg   string
		change func(*Request, *archive.Suite)
		want   dependencies
		class  fault.Class
	}{
		{"first alternative, common and arch", map[string]string{
			"Build-Depends": "debhelper-compat (= 13), a | b, c [!amd64], d <!nocheck>", "Build-Depends-Arch": "e", "Build-Depends-Indep": "f",
			"Build-Conflicts": "g", "Rules-Requires-Root": "no",
		}, "1.21.22", func(r *Request, _ *archive.Suite) { r.ArchAll = false },
			dependencies{"build-essential, debhelper-compat (= 13), a, d, e", "g"}, fault.OK},
		{"indep and profile", map[string]string{
			"Build-Depends": "a | b, d <!nocheck>", "Build-Depends-Arch": "e", "Build-Depends-Indep": "f", "Rules-Requires-Root": "no",
		}, "1.21.22", func(r *Request, s *archive.Suite) {
			r.ArchAny, r.Profiles, s.ResolveAlternatives = false, []string{"nocheck"}, true
		}, dependencies{"build-essential, a | b, f", ""}, fault.OK},
		{"fakeroot on bookworm", map[string]string{"Build-Depends": "a"}, "1.21.22", nil,
			dependencies{"build-essential, fakeroot, a", ""}, fault.OK},
		{"no fakeroot with a new dpkg", map[string]string{"Build-Depends": "a"}, "1.22.13", nil,
			dependencies{"build-essential, a", ""}, fault.OK},
		{"fakeroot by keyword", map[string]string{"Rules-Requires-Root": "binary-targets"}, "1.22.21", nil,
			dependencies{"build-essential, fakeroot", ""}, fault.OK},
		{"added", map[string]string{"Rules-Requires-Root": "no"}, "1", func(r *Request, _ *archive.Suite) {
			r.AddDepends, r.AddConflicts = []string{"x (>> 1)"}, []string{"y"}
		}, dependencies{"build-essential, x (>> 1)", "y"}, fault.OK},
		{"broken field", map[string]string{"Build-Depends": "a ("}, "1", nil, dependencies{}, fault.Input},
		{"broken flag", nil, "1", func(r *Request, _ *archive.Suite) { r.AddDepends = []string{"a ("} }, dependencies{}, fault.Usage},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := &build{req: Request{Arch: "amd64", ArchAny: true, ArchAll: true}, src: &dsc.Source{Name: "x", Paragraph: &deb.Paragraph{}}}
			b.src.Control = b.src.Paragraph
			for k, v := range tc.fields {
				b.src.Paragraph.Set(k, v)
			}
			b.baseSet = []cache.Package{{Name: "dpkg", Version: tc.dpkg}}
			if tc.change != nil {
				tc.change(&b.req, &b.suite)
			}
			got, err := b.dependencies()
			if fault.ClassOf(err) != tc.class {
				t.Fatalf("%v: class %s, want %s", err, fault.ClassOf(err), tc.class)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
