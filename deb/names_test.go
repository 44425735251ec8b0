package deb

import (
	"strings"
	"testing"
)

func TestCheckPackageName(t *testing.T) {
	for _, s := range []string{"hello", "g++", "0ad", "libfoo2.0-dev", "python3.11", strings.Repeat("a", 255)} {
		if err := CheckPackageName(s); err != nil {
			t.Error(err)
		}
	}
	for _, s := range []string{"", "a", "-a", "+a", ".a", "..", "Hello", "a_b", "a/b", "../a", "a b", "a\n", "a\x00", "aé", "a:any", strings.Repeat("a", 256)} {
		if CheckPackageName(s) == nil {
			t.Errorf("%q is accepted", s)
		}
	}
}

func TestCheckFileName(t *testing.T) {
	for _, s := range []string{"hello_2.10-3.dsc", "a", "0", "x_1.0+dfsg~rc1.orig.tar.xz.asc", "R_1.deb", strings.Repeat("a", 255)} {
		if err := CheckFileName(s); err != nil {
			t.Error(err)
		}
	}
	for _, s := range []string{"", ".", "..", ".a", "-a", "_a", "~a", "a/b", "/a", "../x", "a\\b", "a b", "a\nb", "a\x00", "a\x1b[m", "aé", "a%2fb", "a:b", "a*", "a?", "$(a)", "a;b", strings.Repeat("a", 300)} {
		if CheckFileName(s) == nil {
			t.Errorf("%q is accepted", s)
		}
	}
}

func TestCheckPath(t *testing.T) {
	for _, s := range []string{"a", "pool/main/h/hello/hello_2.10-3_amd64.deb", "main/dep11/icons-48x48@2.tar.gz", "dists/bookworm/main", ".disk/info"} {
		if err := CheckPath(s); err != nil {
			t.Error(err)
		}
	}
	for _, s := range []string{"", "/", "/a", "a/", "a//b", ".", "..", "./a", "a/.", "a/../b", "../a", "a/..", "-a", "a/-b", "~a", "a/~b",
		"a b", "a\nb", "a\x00b", "a%2fb", "a?b", "a#b", "a:b", "http://a/b", `a\b`, "a'b", "a$b", "é", strings.Repeat("a", 256), strings.Repeat("ab/", 400) + "a"} {
		if CheckPath(s) == nil {
			t.Errorf("%q is accepted", s)
		}
	}
}
