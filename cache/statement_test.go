package cache

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dbuild/internal/fault"
)

func fullStatement() Statement {
	st := baseStatement()
	st.V, st.EngineFormat, st.Kind, st.Seq = Version, EngineFormat, KindDeps, 7
	st.Tree, st.Parent, st.Signer = "sha256:1", strings.Repeat("d", 64), "AB"
	st.Steps, st.Created, st.SetID = []string{"a <b> & c"}, time.Unix(1_700_000_000, 0), []string{"usr/bin/su"}
	return st
}

func TestStatementRoundTrip(t *testing.T) {
	st := fullStatement()
	data, err := st.Marshal()
	must(t, err)
	got, err := ParseStatement(data)
	must(t, err)
	again, err := got.Marshal()
	must(t, err)
	if diff := cmp.Diff(string(data), string(again)); diff != "" {
		t.Error(diff)
	}
	if !bytes.HasPrefix(data, []byte(`{"v":1,"engine_format":1,"kind":"deps","seq":7,"tree":"sha256:1","parent":"dddd`)) ||
		!bytes.Contains(data, []byte(`"steps":["a <b> & c"]`)) || !bytes.Contains(data, []byte(`"date":"2023-11-14T22:13:20Z"`)) || !bytes.HasSuffix(data, []byte("}\n")) {
		t.Errorf("form is %s", data)
	}
}

func TestParseStatementRefuses(t *testing.T) {
	data, err := fullStatement().Marshal()
	must(t, err)
	good := string(data)
	for name, bad := range map[string]string{
		"empty":             "",
		"null":              "null\n",
		"array":             "[]\n",
		"unknown field":     strings.Replace(good, `"seq":7`, `"seq":7,"x":1`, 1),
		"repeated field":    strings.Replace(good, `"seq":7`, `"seq":6,"seq":7`, 1),
		"other case":        strings.Replace(good, `"seq"`, `"Seq"`, 1),
		"other order":       strings.Replace(good, `{"v":1,"engine_format":1`, `{"engine_format":1,"v":1`, 1),
		"blank":             strings.Replace(good, `"seq":7`, `"seq": 7`, 1),
		"float":             strings.Replace(good, `"seq":7`, `"seq":7.0`, 1),
		"NaN":               strings.Replace(good, `"seq":7`, `"seq":NaN`, 1),
		"string for number": strings.Replace(good, `"seq":7`, `"seq":"7"`, 1),
		"null list":         strings.Replace(good, `"switches":[]`, `"switches":null`, 1),
		"escaped letter":    strings.Replace(good, `bookworm`, `\u0062ookworm`, 1),
		"invalid UTF-8":     strings.Replace(good, `bookworm`, "book\xffworm", 1),
		"other zone":        strings.Replace(good, `22:13:20Z`, `22:13:20+00:00`, 1),
		"parts of seconds":  strings.Replace(good, `22:13:20Z`, `22:13:20.5Z`, 1),
		"trailing data":     good + good,
		"no newline":        strings.TrimSuffix(good, "\n"),
		"CRLF":              strings.TrimSuffix(good, "\n") + "\r\n",
		"cut off":           good[:len(good)/2],
		"unknown version":   strings.Replace(good, `"v":1`, `"v":2`, 1),
		"unknown kind":      strings.Replace(good, `"deps"`, `"other"`, 1),
		"base with parent":  strings.Replace(good, `"deps"`, `"base"`, 1),
		"too big":           strings.Replace(good, `a <b> & c`, strings.Repeat("x", maxStatement), 1),
		"deep nesting":      strings.Repeat(`{"v":`, 100_000),
	} {
		t.Run(name, func(t *testing.T) {
			if bad == good {
				t.Fatal("nothing was changed")
			}
			if _, err := ParseStatement([]byte(bad)); fault.ClassOf(err) != fault.Input {
				t.Errorf("got %v", err)
			}
		})
	}
}

func FuzzParseStatement(f *testing.F) {
	data, err := fullStatement().Marshal()
	must(f, err)
	f.Add(data)
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		st, err := ParseStatement(b)
		if err != nil {
			return
		}
		again, err := st.Marshal()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%q came back as %q, %v", b, again, err)
		}
	})
}

func TestDepsKey(t *testing.T) {
	a, b := pkg("a"), pkg("b")
	key := DepsKey([]Package{a, b}, "1")
	if want := "sha256:b4cea0174da2543909c63ca047bc7593d308483812072b64b5eaf7f70f794a2e"; key != want {
		t.Errorf("key is %q, want %q", key, want)
	}
	if DepsKey([]Package{b, a, b}, "1") != key {
		t.Error("order or repetition counts")
	}
	b.SHA256 = strings.Repeat("d", 64)
	if DepsKey([]Package{a, b}, "1") == key || DepsKey([]Package{a, pkg("b")}, "2") == key || DepsKey([]Package{a}, "1") == key {
		t.Error("hash, recipe or number do not count")
	}
}
