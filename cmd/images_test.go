package cmd

import (
	"strings"
	"testing"

	"dbuild/cache"
	"dbuild/internal/fault"
)

func TestFindImage(t *testing.T) {
	a := strings.Repeat("a", 60)
	items := []cache.Item{
		{Digest: "sha256:1234" + a, Statement: "abcd" + a, Tag: "base:bookworm-amd64"},
		{Digest: "sha256:1234" + a, Statement: "abce" + a, Tag: "base:bookworm-amd64"},
		{Digest: "sha256:5678" + a, Statement: "9999" + a, Tag: "deps:bookworm-amd64-hello"},
		{Statement: "7777" + a, Problem: "its signature is bad"},
	}
	for _, test := range []struct{ name, want string }{ // want: the statement's first digits
		{"5678", "9999"},
		{"sha256:5678", "9999"},
		{"deps:bookworm-amd64-hello", "9999"},
		{"abcd", "abcd"},
		{"7777", "7777"},
		{"567", ""},                 // too short
		{"1234", ""},                // two have this digest
		{"base:bookworm-amd64", ""}, // and this tag
		{"", ""},
		{"sha256:", ""},
	} {
		it, err := findImage(items, test.name)
		switch {
		case test.want == "" && fault.ClassOf(err) != fault.Usage:
			t.Errorf("%q: got %v, %v", test.name, it.Statement, err)
		case test.want != "" && (err != nil || !strings.HasPrefix(it.Statement, test.want)):
			t.Errorf("%q: got %q, %v", test.name, it.Statement, err)
		}
	}
	_, err := findImage(items, "1234")
	if hint := fault.HintOf(err); !strings.Contains(hint, "abcd") || !strings.Contains(hint, "abce") {
		t.Errorf("hint %q", hint)
	}
}

func TestBytesText(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 1023: "1023", 1024: "1.0k", 10 << 20: "10M", 451 << 20: "451M", 1000 << 20: "1.0G", 20 << 30: "20G", 5000 << 40: "5000T"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
