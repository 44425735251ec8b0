package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"dbuild/internal/testenv"
)

// apt is a client with a configuration root of its own, so that neither the
// settings nor the sources of the machine matter: hosts often switch off the
// checks that these tests are about.
type apt struct{ root string }

// newApt makes a client of a repository whose files any web server serves.
func newApt(t testing.TB, e *env, options string) apt {
	t.Helper()
	server := httptest.NewServer(http.FileServer(http.Dir(e.Dir())))
	t.Cleanup(server.Close)
	return newAptOf(t, e, server.URL, options)
}

// newAptOfServer makes a client of the repository's own server.
func newAptOfServer(t testing.TB, e *env, options string) apt {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	server.Config = e.Server()
	server.Start()
	t.Cleanup(server.Close)
	return newAptOf(t, e, server.URL, options)
}

func newAptOf(t testing.TB, e *env, url, options string) apt {
	t.Helper()
	testenv.NeedProgram(t, "apt-get")
	a := apt{t.TempDir()}
	for _, dir := range []string{"etc/apt/preferences.d", "etc/apt/apt.conf.d", "state/lists/partial", "cache/archives/partial", "log"} {
		if err := os.MkdirAll(filepath.Join(a.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	key := filepath.Join(e.Dir(), "key.asc")
	a.put(t, "etc/apt/sources.list", fmt.Sprintf("deb [signed-by=%s] %s bookworm main\ndeb-src [signed-by=%s] %s bookworm main\n", key, url, key, url))
	a.put(t, "status", "")
	a.put(t, "apt.conf", strings.ReplaceAll(`
Dir "ROOT";
Dir::State "ROOT/state";
Dir::State::status "ROOT/status";
Dir::Cache "ROOT/cache";
Dir::Etc "ROOT/etc/apt";
Dir::Log "ROOT/log";
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Sandbox::User "";
Acquire::Check-Valid-Until "true";
Acquire::Check-Date "true";
Acquire::Languages { "en"; };
Acquire::Retries "0";
Acquire::http::Proxy "DIRECT";
quiet "0";
`, "ROOT", a.root)+options)
	return a
}

func (a apt) put(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(a.root, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// run runs one of apt's programs; a warning or notice is an error too.
func (a apt) run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = a.root
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "APT_CONFIG=" + filepath.Join(a.root, "apt.conf")}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	all := strings.ReplaceAll(stdout.String()+stderr.String(), "\r", "\n")
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, all)
	}
	for line := range strings.Lines(all) {
		for _, bad := range []string{"W:", "E:", "N:", "Err:", "Ign:", "Warning:", "Error:", "Notice:"} {
			if strings.HasPrefix(line, bad) {
				return "", fmt.Errorf("%s %s complains: %s", name, strings.Join(args, " "), all)
			}
		}
	}
	return stdout.String(), nil
}

func (a apt) must(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := a.run(t.Context(), name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// forget removes a downloaded package: apt takes a file that it has under the
// right name for the right one when only the size fits.
func (a apt) forget(t testing.TB, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(a.root, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func (a apt) hash(t testing.TB, name string) string {
	t.Helper()
	return sha(readFile(t, filepath.Join(a.root, name)))
}

func TestAptReadsTheRepository(t *testing.T) {
	for _, tt := range []struct{ name, options string }{
		{"by hash", ""},
		{"by name", `Acquire::By-Hash "no";` + "\n"},
		{"gzip only", `Acquire::CompressionTypes::Order { "gz"; };` + "\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEnv(t)
			a := newApt(t, e, tt.options)
			first := pkg{content: "first"}.build(t)
			doc := pkg{name: "hello-doc", source: "hello", arch: "all"}.build(t)
			src := source(t, "2.10-3", "orig", "debian")
			if err := e.CreateSuite(t.Context(), DefaultSuite("bookworm")); err != nil {
				t.Fatal(err)
			}
			a.must(t, "apt-get", "update") // an empty suite is fine
			e.publish(t, upload(t, "2.10-3", append(src, first, doc)...))
			a.must(t, "apt-get", "update")
			a.must(t, "apt-get", "download", "hello", "hello-doc")
			if a.hash(t, first.Name) != first.SHA256 || a.hash(t, doc.Name) != doc.SHA256 {
				t.Error("downloaded other bytes")
			}
			a.must(t, "apt-get", "source", "--download-only", "hello")
			for _, f := range src {
				if a.hash(t, f.Name) != f.SHA256 {
					t.Errorf("%s: downloaded other bytes", f.Name)
				}
			}
			a.must(t, "apt-get", "install", "--download-only", "--yes", "hello", "hello-doc")
			for _, name := range []string{"hello", "hello-doc"} {
				if out := a.must(t, "apt-cache", "pkgnames", name); strings.Count(out, name+"\n") != 1 {
					t.Errorf("pkgnames %s: %q", name, out)
				}
				out := a.must(t, "apt-cache", "madison", name)
				if got := strings.Count(out, "Packages"); got != 1 {
					t.Errorf("%s is there %d times:\n%s", name, got, out)
				}
			}
			if out := a.must(t, "apt-cache", "show", "hello"); !strings.Contains(out, "test package hello") {
				t.Errorf("no description:\n%s", out)
			}
			// Names that a URL must quote.
			odd := pkg{name: "libhello++1", version: "1:2.0~rc1+b1", source: "hello (2.10-3)"}.build(t)
			e.publish(t, Upload{Suite: "bookworm", Files: []File{odd}})
			a.must(t, "apt-get", "update")
			a.must(t, "apt-get", "install", "--download-only", "--yes", "libhello++1")
			if got := a.hash(t, "cache/archives/libhello++1_1%3a2.0~rc1+b1_amd64.deb"); got != odd.SHA256 {
				t.Error("downloaded other bytes")
			}
			// A rebuild is seen, and its bytes are what comes.
			second := pkg{content: "second"}.build(t)
			e.publish(t, upload(t, "2.10-3", second, doc))
			a.must(t, "apt-get", "update")
			if out := a.must(t, "apt-cache", "show", "hello"); !strings.Contains(out, "SHA256: "+second.SHA256) {
				t.Errorf("another package than the rebuilt one:\n%s", out)
			}
			a.forget(t, second.Name)
			a.must(t, "apt-get", "download", "hello")
			if a.hash(t, second.Name) != second.SHA256 {
				t.Error("downloaded the bytes that were replaced")
			}
		})
	}
}

// A client that updated before a rebuild can still download what it knows.
func TestAptDownloadsFromTheGenerationBefore(t *testing.T) {
	e := newEnv(t)
	a := newApt(t, e, "")
	first := pkg{content: "first"}.build(t)
	e.publish(t, upload(t, "2.10-3", first))
	a.must(t, "apt-get", "update")
	e.publish(t, upload(t, "2.10-3", pkg{content: "second"}.build(t)))
	if _, err := e.Collect(t.Context(), e.clock.now()); err != nil {
		t.Fatal(err)
	}
	a.must(t, "apt-get", "download", "hello")
	if a.hash(t, first.Name) != first.SHA256 {
		t.Error("downloaded other bytes")
	}
}

// apt takes everything that a suite's rules may add, without a word.
func TestAptReadsAllIndexes(t *testing.T) {
	testenv.NeedProgram(t, "xz")
	for _, tt := range []struct{ name, options string }{
		{"by hash", ""},
		{"by name", `Acquire::By-Hash "no";` + "\n"},
		{"xz only", `Acquire::CompressionTypes::Order { "xz"; };` + "\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEnv(t)
			s := DefaultSuite("bookworm")
			s.Rules = Rules{Contents: true, Translations: true, XZ: true, ValidDays: 2, Debug: DebugComponent}
			if err := e.CreateSuite(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			// As the package apt-file sets it up.
			a := newApt(t, e, tt.options+`Acquire::IndexTargets::deb::Contents-deb {
	MetaKey "$(COMPONENT)/Contents-$(ARCHITECTURE)";
	ShortDescription "Contents-$(ARCHITECTURE)";
	Description "$(RELEASE)/$(COMPONENT) $(ARCHITECTURE) Contents (deb)";
	flatMetaKey "Contents-$(ARCHITECTURE)";
	KeepCompressed "true";
	DefaultEnabled "true";
	Identifier "Contents-deb";
};
`)
			a.must(t, "apt-get", "update")
			e.publish(t, upload(t, "2.10-3", pkg{long: " It does\n .\n things.\n"}.build(t),
				pkg{name: "hello-doc", source: "hello", arch: "all"}.build(t),
				pkg{name: "hello-dbgsym", source: "hello", section: "debug"}.build(t)))
			a.must(t, "apt-get", "update")
			if out := a.must(t, "apt-cache", "show", "hello"); !strings.Contains(out, "Description-en: test package hello\n It does\n .\n things.\n") {
				t.Errorf("no long description:\n%s", out)
			}
			for _, name := range []string{"hello", "hello-doc"} {
				out := a.must(t, "apt-cache", "madison", name)
				if got := strings.Count(out, "Packages"); got != 1 {
					t.Errorf("%s is there %d times:\n%s", name, got, out)
				}
			}
			list := strings.Fields(a.must(t, "apt-get", "indextargets", "--format", "$(FILENAME)", "Identifier: Contents-deb"))
			if len(list) != 2 {
				t.Fatalf("Contents: %q", list)
			}
			out := a.must(t, "/usr/lib/apt/apt-helper", append([]string{"cat-file"}, list...)...)
			for _, want := range []string{"usr/share/doc/hello/content ", " devel/hello\n", "usr/share/doc/hello-doc/content ", " devel/hello-doc\n"} {
				if !strings.Contains(out, want) {
					t.Errorf("Contents lack %q:\n%s", want, out)
				}
			}
			a.must(t, "apt-get", "install", "--download-only", "--yes", "hello", "hello-doc")
		})
	}
}

// Clients update and download in a loop while the suite is published again and
// again: by hash from any web server, and by name from the repository's own.
// DBUILD_TEST_PUBLISHES is how often; the goal is 500.
func TestAptWhilePublishing(t *testing.T) {
	t.Run("by hash", func(t *testing.T) { aptWhilePublishing(t, newApt, "") })
	t.Run("by name", func(t *testing.T) { aptWhilePublishing(t, newAptOfServer, `Acquire::By-Hash "no";`+"\n") })
}

func aptWhilePublishing(t *testing.T, client func(testing.TB, *env, string) apt, options string) {
	publishes := 30
	if n, err := strconv.Atoi(os.Getenv("DBUILD_TEST_PUBLISHES")); err == nil {
		publishes = n
	}
	e := newEnv(t)
	e.publish(t, upload(t, "1", pkg{version: "1"}.build(t)))
	var clients []apt
	for range 8 {
		clients = append(clients, client(t, e, options))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	rounds := make([]int, len(clients))
	for i, a := range clients {
		wg.Go(func() {
			for ctx.Err() == nil {
				_, err := a.run(ctx, "apt-get", "update")
				if err == nil {
					a.forget(t, "hello_1_amd64.deb")
					_, err = a.run(ctx, "apt-get", "download", "hello")
				}
				if err != nil && ctx.Err() == nil {
					t.Errorf("client %d in round %d: %v", i, rounds[i], err)
				}
				rounds[i]++
			}
		})
	}
	for i := range publishes {
		// Each replaces the package, with other bytes under the same name.
		e.publish(t, upload(t, "1", pkg{version: "1", content: itoa(int64(i))}.build(t)))
		time.Sleep(50 * time.Millisecond)
	}
	cancel()
	wg.Wait()
	t.Logf("%d publishes, rounds of the clients: %v", publishes, rounds)
	if slices.Min(rounds) < 1 {
		t.Error("the clients hardly ran")
	}
}
