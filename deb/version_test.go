package deb

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dbuild/internal/testenv"
)

func TestParseVersion(t *testing.T) {
	for _, tc := range []struct {
		in      string
		want    Version
		print   string
		noEpoch string
	}{
		{"1", Version{0, "1", ""}, "1", "1"},
		{"1.0-1", Version{0, "1.0", "1"}, "1.0-1", "1.0-1"},
		{"1.0-2-1", Version{0, "1.0-2", "1"}, "1.0-2-1", "1.0-2-1"},
		{"2:1.0-1", Version{2, "1.0", "1"}, "2:1.0-1", "1.0-1"},
		{"0:1.0", Version{0, "1.0", ""}, "1.0", "1.0"},
		{"0:1:2", Version{0, "1:2", ""}, "0:1:2", "1:2"},
		{"1:2:3-4", Version{1, "2:3", "4"}, "1:2:3-4", "2:3-4"},
		{"2147483647:1", Version{2147483647, "1", ""}, "2147483647:1", "1"},
		{"1.0~rc1+dfsg-0+b1~bpo12", Version{0, "1.0~rc1+dfsg", "0+b1~bpo12"}, "1.0~rc1+dfsg-0+b1~bpo12", "1.0~rc1+dfsg-0+b1~bpo12"},
	} {
		t.Run(tc.in, func(t *testing.T) {
			got, err := ParseVersion(tc.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			if got.String() != tc.print || got.NoEpoch() != tc.noEpoch {
				t.Errorf("prints %q and %q", got.String(), got.NoEpoch())
			}
			if got.Native() != (tc.want.Revision == "") {
				t.Errorf("native %v", got.Native())
			}
		})
	}
}

func TestParseVersionRefuses(t *testing.T) {
	for _, in := range []string{
		"", " ", " 1", "1 ", "1 2", "1\n", "-1", "1.0-", "1.0-1-", "1:", ":1", "a:1", "1:-1", "-1:1", "+1:1",
		"2147483648:1", "99999999999999999999:1", "1_0", "a1", "~1", ".1", "1:a", "1/2", "1.0-1:2", "1.0-a_b",
		"1.0-1é", "1²", "1\x00", "${binary:Version}",
	} {
		v, err := ParseVersion(in)
		var typed *VersionError
		if !errors.As(err, &typed) {
			t.Errorf("%q: %v, error %v", in, v, err)
		}
	}
}

// recordedVersions yields the lines of testdata/versions.txt: two versions
// and the sign of their comparison, as dpkg --compare-versions answered.
func recordedVersions(t testing.TB) [][3]string {
	t.Helper()
	text, err := os.ReadFile("testdata/versions.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all [][3]string
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] != "#" {
			all = append(all, [3]string{f[0], f[1], f[2]})
		}
	}
	if len(all) < 500 {
		t.Fatalf("only %d recorded pairs", len(all))
	}
	return all
}

var signs = map[string]int{"<": -1, "=": 0, ">": 1}

func sign(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}

func TestCompareVersionsAsRecorded(t *testing.T) {
	for _, pair := range recordedVersions(t) {
		a, op, b := pair[0], pair[1], pair[2]
		if got := sign(CompareVersions(a, b)); got != signs[op] {
			t.Errorf("%s %s %s: got %d", a, op, b, got)
		}
		if got := sign(CompareVersions(b, a)); got != -signs[op] {
			t.Errorf("%s %s %s turned around: got %d", a, op, b, got)
		}
	}
}

func TestCompareVersionsWithDpkg(t *testing.T) {
	dpkg := needProgram(t, "dpkg")
	long := "1" + strings.Repeat("~a1", 20000) // 60 kB
	pairs := [][2]string{
		{long, long + "~"}, {long, long + "1"}, {"1:" + long, long}, {long, strings.Repeat("0", 30000) + long},
		{strings.Repeat("9", 60000), "1" + strings.Repeat("0", 60000)},
	}
	for i, p := range recordedVersions(t) {
		if i%9 == 0 {
			pairs = append(pairs, [2]string{p[0], p[2]})
		}
	}
	for _, p := range pairs {
		for op, want := range map[string]bool{
			"lt": CompareVersions(p[0], p[1]) < 0,
			"eq": CompareVersions(p[0], p[1]) == 0,
		} {
			err := exec.Command(dpkg, "--compare-versions", p[0], op, p[1]).Run()
			if got := err == nil; got != want {
				t.Errorf("dpkg: %.60s %s %.60s is %v", p[0], op, p[1], got)
			}
		}
	}
}

// TestParseVersionStricterThanDpkg holds that whatever is accepted here is
// accepted there.
func TestParseVersionStricterThanDpkg(t *testing.T) {
	dpkg := needProgram(t, "dpkg")
	for _, v := range []string{"1", "0", "1.0-1", "0:1", "1:1:1-1", "2147483647:1", "1~", "1+", "1.", "1-~", "1-+", "1--1", "1.A-z"} {
		if _, err := ParseVersion(v); err != nil {
			t.Error(err)
		}
		if out, err := exec.Command(dpkg, "--validate-version", v).CombinedOutput(); err != nil {
			t.Errorf("dpkg refuses %q: %s", v, out)
		}
	}
	for _, v := range []string{"", "-1", "1.0-", ":1", "a:1", "2147483648:1", "1 2", "-1:1"} {
		if _, err := ParseVersion(v); err == nil {
			t.Errorf("%q is accepted", v)
		}
		if err := exec.Command(dpkg, "--validate-version", v).Run(); err == nil {
			t.Errorf("dpkg accepts %q", v)
		}
	}
}

func TestCompareInvalidVersionsIsTotal(t *testing.T) {
	order := []string{"", "-1", "1.0-", "a", "0~", "0", "1", "1:0"} // invalid by bytes, then valid
	for i, a := range order {
		for j, b := range order {
			if got := sign(CompareVersions(a, b)); got != sign(i-j) {
				t.Errorf("%q and %q: %d", a, b, got)
			}
		}
	}
}

// needProgram skips the test if an oracle is not installed.
func needProgram(t testing.TB, name string) string {
	t.Helper()
	path := testenv.NeedProgram(t, name)
	return path
}
