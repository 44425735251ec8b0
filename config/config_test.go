package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dbuild/config"
	"dbuild/internal/fault"
)

var known = map[string]bool{"dist": true, "keyring": true, "jobs": true, "no-repo": true, "allow-expired": false}

func write(t *testing.T, text string, perm os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(text), perm); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, perm); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadOrder(t *testing.T) {
	machine := write(t, "dist = \"sid\"\njobs = 3\nkeyring = [\"a\", \"b\"]\n", 0o644)
	user := write(t, "dist = \"trixie\"\nno.repo = true\n", 0o600)
	env := map[string]string{"DBUILD_JOBS": "5"}
	got, err := config.Load(config.Sources{
		Getenv: func(k string) string { return env[k] },
		Files:  []string{machine, "", filepath.Join(t.TempDir(), "missing"), user},
	}, known)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]config.Value{
		"dist":    {Text: []string{"trixie"}, Origin: "file " + user},
		"jobs":    {Text: []string{"5"}, Origin: "environment DBUILD_JOBS"},
		"keyring": {Text: []string{"a", "b"}, Origin: "file " + machine},
		"no-repo": {Text: []string{"true"}, Origin: "file " + user},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLoadRefuses(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		perm       os.FileMode
		env        map[string]string
		want       string
	}{
		{"unknown key", "dsit = 1", 0o600, nil, `unknown setting "dsit"`},
		{"underscore", "no_repo = true", 0o600, nil, "did you mean no-repo"},
		{"check switch", "allow-expired = true", 0o600, nil, "only be given as a flag"},
		{"check switch in environment", "", 0o600, map[string]string{"DBUILD_ALLOW_EXPIRED": "1"}, "only be given as a flag"},
		{"wrong type", "dist = 1.5", 0o600, nil, "is expected"},
		{"unknown key of a table", "dist = {a = 1}", 0o600, nil, `unknown setting "dist-a"`},
		{"check switch in a table", "allow.expired = true", 0o600, nil, "only be given as a flag"},
		{"twice in two forms", "no-repo = true\nno.repo = true", 0o600, nil, "given twice"},
		{"duplicate", "dist = 'a'\ndist = 'b'", 0o600, nil, "dist"},
		{"no TOML", "\x00\x01", 0o600, nil, "read settings"},
		{"writable by others", "", 0o666, nil, "others can write it"},
		{"large", strings.Repeat("#", 2<<20), 0o600, nil, "larger than"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := config.Load(config.Sources{
				Getenv: func(k string) string { return tc.env[k] },
				Files:  []string{write(t, tc.text, tc.perm)},
			}, known)
			if err == nil || !strings.Contains(err.Error(), tc.want) || fault.ClassOf(err) != fault.Usage {
				t.Errorf("got %v (class %s), want a usage error with %q", err, fault.ClassOf(err), tc.want)
			}
		})
	}
}

func TestRequiredFileMustExist(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.toml")
	_, err := config.Load(config.Sources{Getenv: func(string) string { return "" }, Files: []string{missing}, Required: missing}, known)
	if fault.ClassOf(err) != fault.Usage {
		t.Errorf("got %v, want a usage error", err)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add("dist = \"sid\"")
	f.Add("keyring = [1, true, [\"x\"]]")
	f.Add("[table]\nx = 1979-05-27T07:32:00Z")
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "c")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := config.Load(config.Sources{Getenv: func(string) string { return "" }, Files: []string{path}}, known)
		if err != nil && fault.ClassOf(err) != fault.Usage {
			t.Errorf("class %s: %v", fault.ClassOf(err), err)
		}
	})
}
