package archive_test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"dbuild/archive"
	"dbuild/internal/fault"
	"dbuild/internal/testenv"
)

// needMirror skips unless tests may use the mirror of the host's apt.
func needMirror(t *testing.T) {
	t.Helper()
	testenv.NeedNetwork(t)
}

// realSources are the sources of a suite as a build would find them here.
func realSources(t *testing.T, suite string) []archive.Source {
	t.Helper()
	s, err := archive.FindSuite(suite)
	if err != nil {
		t.Fatal(err)
	}
	srcs, err := s.Sources(archive.SourceOptions{})
	if err != nil {
		t.Skipf("sources of %s: %v", suite, err)
	}
	return srcs
}

func TestNetworkBookworm(t *testing.T) {
	needMirror(t)
	dir := t.TempDir()
	c, err := archive.Open(dir, archive.Options{AllowExpired: true})
	if err != nil {
		t.Fatal(err)
	}
	srcs := realSources(t, "bookworm")
	start := time.Now()
	sts, err := c.Update(t.Context(), srcs)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("update of %d suites: %v", len(sts), time.Since(start))
	start = time.Now()
	if err := c.Prefetch(t.Context(), sts, []string{"amd64"}); err != nil {
		t.Fatal(err)
	}
	t.Logf("indexes: %v", time.Since(start))
	start = time.Now()
	if _, err := c.Update(t.Context(), srcs); err != nil {
		t.Fatal(err)
	}
	t.Logf("second update: %v", time.Since(start))

	index, err := c.Packages(t.Context(), sts[0], "main", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	var files []archive.File
	start = time.Now()
	for _, name := range []string{"hello", "libstdc++6", "libgcc-s1", "gcc-12-base"} {
		p, err := archive.FindPackage(index, name, "", "amd64")
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, sts[0].Source.File(p))
	}
	t.Logf("find %d packages: %v", len(files), time.Since(start))
	start = time.Now()
	if _, err := archive.FindPackage(index, "zzz-no-such-package", "", ""); err == nil {
		t.Error("found a package that does not exist")
	}
	t.Logf("find none: %v", time.Since(start))
	start = time.Now()
	n, size, err := c.Fetch(t.Context(), files)
	if err != nil || n != len(files) {
		t.Fatalf("fetched %d of %d: %v", n, len(files), err)
	}
	t.Logf("fetch %d files, %d bytes: %v", n, size, time.Since(start))

	offline, err := archive.Open(dir, archive.Options{Offline: true, AllowExpired: true})
	if err != nil {
		t.Fatal(err)
	}
	if sts, err = offline.Update(t.Context(), srcs); err != nil {
		t.Fatal(err)
	}
	if n, _, err := offline.Fetch(t.Context(), files); n != 0 || err != nil {
		t.Errorf("offline: fetched %d, %v", n, err)
	}
	start = time.Now()
	v, err := offline.View(t.Context(), sts, "amd64", files)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("view of %d files: %v", len(files), time.Since(start))
	if err := v.Close(); err != nil {
		t.Error(err)
	}
}

// TestNetworkSuites reads the Release of every suite of the table that the
// mirror has, with its pockets: names, codenames and keys must be right.
func TestNetworkSuites(t *testing.T) {
	needMirror(t)
	c, err := archive.Open(t.TempDir(), archive.Options{AllowExpired: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"oldoldstable", "bookworm", "stable", "testing", "unstable", "experimental",
		"bookworm-backports", "trixie-backports", "bookworm-proposed-updates", "trixie-security", "forky-security",
	} {
		t.Run(name, func(t *testing.T) {
			sts, err := c.Update(t.Context(), realSources(t, name))
			if err != nil {
				t.Fatal(err)
			}
			for _, st := range sts {
				t.Logf("%s %s, %s, expired %v, %v, signed by %s", st.Source.Suite, st.Release.Codename, st.Date.Format(time.DateOnly),
					st.Expired, st.Release.Components, st.SignedBy)
			}
		})
	}
}

// TestNetworkExpired relies on nothing but the dates of the mirror's unstable
// suite: past its Valid-Until it must be refused.
func TestNetworkExpired(t *testing.T) {
	needMirror(t)
	srcs := realSources(t, "sid")
	lax, err := archive.Open(t.TempDir(), archive.Options{AllowExpired: true})
	if err != nil {
		t.Fatal(err)
	}
	sts, err := lax.Update(t.Context(), srcs)
	if err != nil {
		t.Fatal(err)
	}
	if !sts[0].Expired {
		t.Skip("unstable is fresh on this mirror")
	}
	c, err := archive.Open(t.TempDir(), archive.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Update(t.Context(), srcs)
	wantClass(t, err, fault.Trust)
}

// TestNetworkAptOracle lets the real apt read a view, in a root of its own, and
// plan an installation from it.
func TestNetworkAptOracle(t *testing.T) {
	needMirror(t)
	c, err := archive.Open(t.TempDir(), archive.Options{AllowExpired: true})
	if err != nil {
		t.Fatal(err)
	}
	sts, err := c.Update(t.Context(), realSources(t, "bookworm"))
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
	apt := newApt(t, v)
	start := time.Now()
	apt.run(t, "update")
	t.Logf("apt-get update: %v", time.Since(start))
	start = time.Now()
	files, err := archive.FilesFromURIs(sts, apt.printed(t, "install", "debhelper"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("plan of %d files: %v", len(files), time.Since(start))
	if len(files) < 30 {
		t.Fatalf("apt plans only %d files", len(files))
	}
	start = time.Now()
	n, size, err := c.Fetch(t.Context(), files)
	if err != nil || n != len(files) {
		t.Fatalf("fetched %d of %d: %v", n, len(files), err)
	}
	t.Logf("fetch %d files, %d bytes: %v", n, size, time.Since(start))
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	start = time.Now()
	if v, err = c.View(t.Context(), sts, "amd64", files); err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	t.Logf("view of %d files: %v", len(files), time.Since(start))
	apt.mount(t, v)
	apt.run(t, "install", "--download-only", "--yes", "--no-install-recommends", "debhelper")
	if got := apt.archived(t); got != 0 && got != len(files) {
		t.Errorf("apt took %d files of %d", got, len(files))
	}
}

// BenchmarkNetworkIndex fetches the index of bookworm's main component again
// and again; see DBUILD_TEST_NETWORK.
func BenchmarkNetworkIndex(b *testing.B) {
	if os.Getenv("DBUILD_TEST_NETWORK") != "1" {
		b.Skip("set DBUILD_TEST_NETWORK=1 to use the mirror of the host's apt")
	}
	s, err := archive.FindSuite("bookworm")
	if err != nil {
		b.Fatal(err)
	}
	srcs, err := s.Sources(archive.SourceOptions{})
	if err != nil {
		b.Fatal(err)
	}
	for i := range b.N {
		c, err := archive.Open(filepath.Join(b.TempDir(), strconv.Itoa(i)), archive.Options{AllowExpired: true})
		if err != nil {
			b.Fatal(err)
		}
		sts, err := c.Update(b.Context(), srcs[:1])
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Prefetch(b.Context(), sts, []string{"amd64"}); err != nil {
			b.Fatal(err)
		}
	}
}
