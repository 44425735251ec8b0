package testenv

import (
	"fmt"
	"testing"
)

// recorder is a testing.TB that notes how a test would have ended.
type recorder struct {
	testing.TB
	verdict string
}

func (r *recorder) Helper()                           {}
func (r *recorder) Fatalf(format string, args ...any) { r.end("fail: "+format, args...) }
func (r *recorder) Skipf(format string, args ...any)  { r.end("skip: "+format, args...) }

func (r *recorder) end(format string, args ...any) {
	if r.verdict == "" { // the real ones do not return
		r.verdict = fmt.Sprintf(format, args...)
	}
}

func TestSkip(t *testing.T) {
	tests := []struct {
		name, noSkip, want string
	}{
		{"nothing is required", "", "skip: needs the program no-such (see tests/setup)"},
		{"another is required", "gpgv,root", "skip: needs the program no-such (see tests/setup)"},
		{"a prefix is required", "no-such-thing", "skip: needs the program no-such (see tests/setup)"},
		{"it is required", "gpgv,no-such", "fail: needs the program no-such (see tests/setup) (DBUILD_TEST_NOSKIP lists no-such)"},
		{"all are required", "all", "fail: needs the program no-such (see tests/setup) (DBUILD_TEST_NOSKIP lists no-such)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(NoSkipVar, tt.noSkip)
			r := &recorder{TB: t}
			NeedProgram(r, "no-such")
			if r.verdict != tt.want {
				t.Errorf("ended with %q, want %q", r.verdict, tt.want)
			}
		})
	}
}

func TestNetworkNeedsTheVariable(t *testing.T) {
	t.Setenv(NoSkipVar, "")
	for value, want := range map[string]string{
		"":  "skip: needs the Debian mirror: set DBUILD_TEST_NETWORK=1",
		"0": "skip: needs the Debian mirror: set DBUILD_TEST_NETWORK=1",
		"1": "",
	} {
		t.Setenv(NetworkVar, value)
		r := &recorder{TB: t}
		if NeedNetwork(r); r.verdict != want {
			t.Errorf("%s=%q: ended with %q, want %q", NetworkVar, value, r.verdict, want)
		}
	}
}
