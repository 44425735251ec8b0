package archive_test

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dbuild/archive"
	"dbuild/archive/archivetest"
	"dbuild/internal/fault"
	"dbuild/internal/testenv"
)

// TestFetchKilled kills a process with SIGKILL in the middle of a download
// (F01): nothing is visible under the final name, nobody has to wait for the
// dead, and the next one goes on with what is there.
func TestFetchKilled(t *testing.T) {
	if dir := os.Getenv("DBUILD_TEST_FETCH_DIR"); dir != "" {
		fetchForTest(t, dir)
		return
	}
	c, server, f := withBig(t, archive.Options{})
	// Half of the file comes at once, the rest never.
	data := server.Archive.Get(f.Filename)
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = w.Write(data[:len(data)/2])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	defer slow.Close()
	defer slow.CloseClientConnections()
	dir := filepath.Dir(filepath.Dir(filepath.Dir(c.Path(f.SHA256))))
	cmd := exec.Command(os.Args[0], "-test.run=^TestFetchKilled$")
	cmd.Env = append(os.Environ(), "DBUILD_TEST_FETCH_DIR="+dir, "DBUILD_TEST_FETCH_URL="+slow.URL+"/x.deb",
		"DBUILD_TEST_FETCH_SHA256="+f.SHA256, "DBUILD_TEST_FETCH_SIZE="+strconv.Itoa(int(f.Size)))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	part := c.Path(f.SHA256) + ".part"
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if info, err := os.Stat(part); err == nil && info.Size() > 10_000 {
			break
		}
		if time.Now().After(deadline) {
			t.Error("the child does not fetch")
			break
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
	if _, err := os.Stat(c.Path(f.SHA256)); err == nil {
		t.Error("half a file is in the pool")
	}
	server.ClearRequests()
	if n, _, err := c.Fetch(t.Context(), []archive.File{f}); n != 1 || err != nil {
		t.Fatalf("fetched %d: %v", n, err)
	}
	check(t, c, f)
	if asked := server.Requests(".deb"); len(asked) != 1 || asked[0].Status != http.StatusPartialContent {
		t.Errorf("asked %+v, want one range", asked)
	}
}

// fetchForTest is the child, which will be killed.
func fetchForTest(t *testing.T, dir string) {
	c, err := archive.Open(dir, archive.Options{})
	if err != nil {
		t.Fatal(err)
	}
	size, err := strconv.ParseInt(os.Getenv("DBUILD_TEST_FETCH_SIZE"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = c.Fetch(t.Context(), []archive.File{{URL: os.Getenv("DBUILD_TEST_FETCH_URL"), Size: size,
		SHA256: os.Getenv("DBUILD_TEST_FETCH_SHA256"), Name: "big"}})
	t.Errorf("the child came to an end: %v", err)
}

// TestNoSpace has a file system that is too small for the file (F13).
func TestNoSpace(t *testing.T) {
	testenv.NeedRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=100k"); err != nil {
		t.Skipf("mount: %v", err)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	_, _, f := withBig(t, archive.Options{})
	c := open(t, filepath.Join(dir, "archive"), archive.Options{})
	_, _, err := c.Fetch(t.Context(), []archive.File{f})
	wantClass(t, err, fault.Resource)
}

// TestBadCertificate meets a server whose certificate nobody signed.
func TestBadCertificate(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	c := open(t, t.TempDir(), archive.Options{})
	start := time.Now()
	_, err := c.Get(t.Context(), server.URL+"/x", 10)
	wantClass(t, err, fault.Network)
	if !strings.Contains(err.Error(), "certificate") || time.Since(start) > 5*time.Second {
		t.Errorf("got %q after %v", err, time.Since(start))
	}
}

// TestReadableWhateverUmask makes sure that containers with other user ids can
// read what a view links, whatever the umask.
func TestReadableWhateverUmask(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	_, server := small(t, archivetest.Suite{})
	dir := filepath.Join(t.TempDir(), "archive")
	c := open(t, dir, archive.Options{})
	st := mustUpdate(t, c, server.Source("bookworm"))
	if _, _, err := c.Fetch(t.Context(), []archive.File{helloFile(t, c, st)}); err != nil {
		t.Fatal(err)
	}
	v, err := c.View(t.Context(), []*archive.State{st}, "amd64", []archive.File{helloFile(t, c, st)})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	paths(t, v)
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the copy itself: %v, %v; want it closed to others", info.Mode(), err)
	}
}
