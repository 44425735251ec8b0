package repo

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// versions are what bookworm lists of hello: kind, architecture, versions.
func (e *env) versions(t testing.TB, suite string) map[string]string {
	t.Helper()
	found, err := e.List(t.Context(), Query{Suite: suite})
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, p := range found {
		key := p.Name + " " + p.Arch
		all[key] = strings.TrimSpace(all[key] + " " + p.Version)
	}
	return all
}

// A suite keeps as many versions as its rules say, for each architecture, and a
// source as long as something that was built from it.
func TestKeep(t *testing.T) {
	e := newEnv(t)
	if err := e.CreateSuite(t.Context(), Suite{Name: "bookworm", Rules: Rules{Keep: 2}}); err != nil {
		t.Fatal(err)
	}
	add := func(v string, arches ...string) {
		t.Helper()
		files := source(t, v, "orig", "debian "+v)
		for _, a := range arches {
			files = append(files, pkg{version: v, arch: a}.build(t))
		}
		u := upload(t, v, files...)
		u.Build = "build-" + v
		e.publish(t, u)
	}
	add("1-1", "amd64", "arm64")
	add("1-2", "amd64")
	add("1-3", "amd64")
	want := map[string]string{"hello amd64": "1-3 1-2", "hello arm64": "1-1", "hello source": "1-3 1-2 1-1"}
	if diff := cmp.Diff(want, e.versions(t, "bookworm")); diff != "" {
		t.Errorf("versions (-want +got):\n%s", diff)
	}
	add("1-4", "amd64", "arm64")
	add("1-5", "amd64", "arm64")
	want = map[string]string{"hello amd64": "1-5 1-4", "hello arm64": "1-5 1-4", "hello source": "1-5 1-4"}
	if diff := cmp.Diff(want, e.versions(t, "bookworm")); diff != "" {
		t.Errorf("versions (-want +got):\n%s", diff)
	}
	// An older version is not refused, and goes with the next.
	add("1-0", "amd64")
	want["hello amd64"], want["hello source"] = "1-5 1-4 1-0", "1-5 1-4 1-0"
	if diff := cmp.Diff(want, e.versions(t, "bookworm")); diff != "" {
		t.Errorf("versions (-want +got):\n%s", diff)
	}
	if renewed, err := e.Renew(t.Context(), "bookworm"); err != nil || !renewed {
		t.Errorf("renewed %v, %v", renewed, err)
	}
	want["hello amd64"], want["hello source"] = "1-5 1-4", "1-5 1-4"
	if diff := cmp.Diff(want, e.versions(t, "bookworm")); diff != "" {
		t.Errorf("versions (-want +got):\n%s", diff)
	}
	look(t, e.Dir(), "bookworm")
	if renewed, err := e.Renew(t.Context(), "bookworm"); err != nil || renewed {
		t.Errorf("renewed once more: %v, %v", renewed, err)
	}
}

// A version below the highest stays for its days, of which a new database knows.
func TestKeepDays(t *testing.T) {
	e := newEnv(t)
	e.clock.time = time.Now().Add(-47 * time.Hour)
	if err := e.CreateSuite(t.Context(), Suite{Name: "bookworm", Rules: Rules{KeepDays: 1}}); err != nil {
		t.Fatal(err)
	}
	for i, tt := range []struct {
		later   time.Duration
		version string
		want    string
	}{
		{0, "1", "1"}, {20 * time.Hour, "2", "2 1"}, {5 * time.Hour, "3", "3 2"}, {20 * time.Hour, "4", "4 3"},
	} {
		e.clock.time = e.clock.time.Add(tt.later)
		e.publish(t, versionUpload(t, tt.version))
		if got := e.versions(t, "bookworm")["hello amd64"]; got != tt.want {
			t.Errorf("publish %d: %q, want %q", i, got, tt.want)
		}
	}
	// Files are copied into the pool now, not at the time of the clock.
	e.Repo.db = openDB(t, t.TempDir()+"/other.db")
	if err := e.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.clock.time = e.clock.time.Add(25 * time.Hour)
	if _, err := e.Renew(t.Context(), "bookworm"); err != nil {
		t.Fatal(err)
	}
	if got := e.versions(t, "bookworm")["hello amd64"]; got != "4" {
		t.Errorf("in the end: %q", got)
	}
}

// Debug packages go where the rules say, with their package or not at all.
func TestDebugPackages(t *testing.T) {
	dbgsym := func(content string) File {
		return pkg{name: "hello-dbgsym", source: "hello", section: "debug", content: content}.build(t)
	}
	for _, tt := range []struct {
		rule        Debug
		main, debug string
	}{
		{DebugSame, "pool/bookworm/main/h/hello/hello-dbgsym_2.10-3_amd64.deb", ""},
		{DebugComponent, "pool/bookworm/main-debug/h/hello/hello-dbgsym_2.10-3_amd64.deb", ""},
		{DebugSuite, "", "pool/bookworm-debug/main/h/hello/hello-dbgsym_2.10-3_amd64.deb"},
	} {
		t.Run("rule "+string(tt.rule), func(t *testing.T) {
			e := newEnv(t)
			if err := e.CreateSuite(t.Context(), Suite{Name: "bookworm", Rules: Rules{Debug: tt.rule}}); err != nil {
				t.Fatal(err)
			}
			u := upload(t, "2.10-3", pkg{content: "first"}.build(t), dbgsym("first"))
			p := e.publish(t, u)
			if len(p.Files) != 2 {
				t.Errorf("published: %+v", p)
			}
			found, err := e.List(t.Context(), Query{Names: []string{"hello-dbgsym"}})
			if err != nil || len(found) != 1 || found[0].Path != tt.main+tt.debug {
				t.Fatalf("found %+v, %v", found, err)
			}
			look(t, e.Dir(), "bookworm")
			if again := e.publish(t, u); !again.Unchanged {
				t.Errorf("published again: %+v", again)
			}
			if tt.rule != DebugSuite {
				return
			}
			if l := look(t, e.Dir(), "bookworm-debug"); len(l) != 1 {
				t.Errorf("the debug suite lists %v", l)
			}
			// A rebuild without debug symbols takes the old ones away.
			e.publish(t, upload(t, "2.10-3", pkg{content: "second"}.build(t)))
			if l := look(t, e.Dir(), "bookworm-debug"); len(l) != 0 {
				t.Errorf("the debug suite lists %v", l)
			}
			// What the suite refuses does not come into the debug suite either.
			e.rules(t, func(s *Suite) { s.Immutable = true })
			_, err = e.Publish(t.Context(), upload(t, "2.10-3", pkg{content: "third"}.build(t), dbgsym("third")))
			wantCodes(t, err, []Code{CodeImmutable})
			if l := look(t, e.Dir(), "bookworm-debug"); len(l) != 0 {
				t.Errorf("the debug suite lists %v", l)
			}
		})
	}
}
