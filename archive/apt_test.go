package archive_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dbuild/archive"
	"dbuild/archive/archivetest"
	"dbuild/internal/testenv"
)

// apt is the real apt with a private root.
type apt struct{ root, conf string }

func newApt(t *testing.T, v *archive.View) apt {
	t.Helper()
	testenv.NeedProgram(t, "apt-get")
	a := apt{root: t.TempDir()}
	for _, dir := range []string{
		"etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/trusted.gpg.d",
		"var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "var/lib/dpkg",
	} {
		if err := os.MkdirAll(filepath.Join(a.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	a.write(t, "var/lib/dpkg/status", "")
	a.conf = a.write(t, "private.conf", `Dir "`+a.root+`";
Dir::State::status "`+a.root+`/var/lib/dpkg/status";
APT::Architecture "amd64";
APT::Architectures "amd64";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Check-Valid-Until "true";
Acquire::Check-Date "true";
`)
	a.mount(t, v)
	return a
}

// mount stands in for the bind mount: what names the mount point names a link
// to the view's directory instead.
func (a apt) mount(t *testing.T, v *archive.View) {
	t.Helper()
	at := filepath.Join(a.root, "view")
	if err := os.RemoveAll(at); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(v.Dir, at); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sources.list", "preferences", "apt.conf"} {
		text, err := os.ReadFile(filepath.Join(v.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		a.write(t, name, strings.ReplaceAll(string(text), archive.ViewMount+"/sources.list", filepath.Join(a.root, "sources.list")))
		a.write(t, name, strings.ReplaceAll(a.read(t, name), archive.ViewMount, at))
	}
}

func (a apt) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(a.root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (a apt) write(t *testing.T, name, text string) string {
	t.Helper()
	name = filepath.Join(a.root, name)
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func (a apt) run(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-q", "-c", filepath.Join(a.root, "apt.conf")}, args...)...)
	cmd.Env = append(os.Environ(), "APT_CONFIG="+a.conf, "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("apt-get %q: %v\n%.4000s", args, err, out)
	}
	return string(out)
}

// printed is apt's list of URIs, as it would look in a container.
func (a apt) printed(t *testing.T, args ...string) []byte {
	t.Helper()
	out := a.run(t, append([]string{"--print-uris", "--yes", "--no-install-recommends"}, args...)...)
	return []byte(strings.ReplaceAll(out, filepath.Join(a.root, "view"), archive.ViewMount))
}

// archived counts the .debs in apt's cache; apt uses those of file: URIs in
// place unless told otherwise.
func (a apt) archived(t *testing.T) int {
	t.Helper()
	debs, err := filepath.Glob(filepath.Join(a.root, "var/cache/apt/archives/*.deb"))
	if err != nil {
		t.Fatal(err)
	}
	return len(debs)
}

// TestAptReadsView lets the real apt verify and use a view of two small
// archives, one of them flat, another expired.
func TestAptReadsView(t *testing.T) {
	a, server := small(t, archivetest.Suite{Forms: []string{".gz", ".xz"}, ValidUntil: time.Now().Add(-time.Minute)})
	a.AddPackage("bookworm", "main", archivetest.Package{Name: "needs", Version: "1", Architecture: "amd64", Depends: "hello (>= 2), mine, libfoo++1"})
	a.Publish("bookworm")
	b := archivetest.New(t)
	b.AddSuite(archivetest.Suite{Name: "./", Flat: true, NoByHash: true})
	b.AddPackage("./", "main", archivetest.Package{Name: "mine", Version: "1~rc1+b1", Architecture: "amd64"})
	b.Publish("./")
	mine := b.Serve(t)

	c := open(t, t.TempDir(), archive.Options{AllowExpired: true})
	sts, err := c.Update(t.Context(), []archive.Source{server.Source("bookworm"), mine.Source("./")})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Prefetch(t.Context(), sts, []string{"amd64"}); err != nil {
		t.Fatal(err)
	}
	v, err := c.View(t.Context(), sts, "amd64", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	apt := newApt(t, v)
	apt.run(t, "update")
	files, err := archive.FilesFromURIs(sts, apt.printed(t, "install", "needs"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 4 {
		t.Fatalf("apt plans %+v, want 4 files", files)
	}
	if n, _, err := c.Fetch(t.Context(), files); n != 4 || err != nil {
		t.Fatalf("fetched %d files, %v", n, err)
	}
	full, err := c.View(t.Context(), sts, "amd64", files)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	apt.mount(t, full)
	apt.run(t, "install", "--download-only", "--yes", "needs")
}
