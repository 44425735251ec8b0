package tests

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"dbuild/archive"
	"dbuild/archive/archivetest"
	"dbuild/deb"
)

// localSuite is the suite that a local mirror signs anew; all else comes from
// the real one.
const localSuite = "sid"

// localMirrors are the mirrors of running scripts by their URL.
var localMirrors sync.Map

// cmdLocalMirror starts a mirror on loopback that is the real one with packages
// added to sid, or, when the script has one, adds to that. PACKAGE=VERSION
// is an empty package; a "!" at the end gives it a postinst. The real packages
// are redirected to where they are; only the index of sid is signed anew, with
// the key in $MIRRORKEY. The real Release is not looked at: this is for tests of
// what dbuild does when an archive changes.
func cmdLocalMirror(t *testing.T) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		want(ts, neg, len(args) > 0, "localmirror PACKAGE=VERSION[!]…")
		a, ok := localMirrors.Load(ts.Getenv("MIRROR"))
		if !ok {
			a = newLocalMirror(t, ts)
		}
		local, _ := a.(*archivetest.Archive) // nothing else is stored
		for _, arg := range args {
			name, version, _ := strings.Cut(arg, "=")
			p := archivetest.Package{Name: name, Architecture: deb.HostArch()}
			if p.Version, ok = strings.CutSuffix(version, "!"); ok {
				p.Scripts = map[string]string{"postinst": "#!/bin/sh\nexit 0\n"}
			}
			p.Files = map[string]string{"usr/share/" + name: p.Version}
			local.AddPackage(localSuite, "main", p)
		}
		local.SetDates(localSuite, time.Now().Add(-time.Second), time.Time{})
		local.Publish(localSuite)
	}
}

func newLocalMirror(t *testing.T, ts *testscript.TestScript) *archivetest.Archive {
	m, err := startMirror(t, ts.Getenv("WORK"))
	ts.Check(err)
	ts.Defer(m.server.Close)
	ts.Setenv("MIRROR", m.url)
	ts.Setenv("MIRRORKEYS", m.keys)
	localMirrors.Store(m.url, m.archive)
	return m.archive
}

// mirror is a local mirror that runs.
type mirror struct {
	archive   *archivetest.Archive
	server    *httptest.Server
	url, keys string
}

// startMirror starts a mirror; its key is written into dir. The caller closes
// the server.
func startMirror(t *testing.T, dir string) (*mirror, error) {
	s, err := archive.FindSuite(localSuite)
	if err != nil {
		return nil, err
	}
	sources, err := s.Sources(archive.SourceOptions{Arch: deb.HostArch()})
	if err != nil {
		return nil, err
	}
	packages, err := realPackages(sources[0].URL)
	if err != nil {
		return nil, err
	}
	local := archivetest.New(t)
	local.AddSuite(archivetest.Suite{
		Name: localSuite, Suite: "unstable", Architectures: []string{deb.HostArch()}, Forms: []string{""}, NoByHash: true,
	})
	local.AddStanza(localSuite, "main", deb.HostArch(), packages)
	key := filepath.Join(dir, ".mirror.asc")
	if err := os.WriteFile(key, local.Key.PublicArmored(), 0o644); err != nil {
		return nil, err
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := path.Clean(strings.TrimPrefix(r.URL.Path, "/debian/"))
		if data := local.Get(name); data != nil {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
			return
		}
		http.Redirect(w, r, sources[0].URL+"/"+name, http.StatusFound)
	}))
	return &mirror{local, server, server.URL + "/debian", strings.Join(append(sources[0].Keyrings, key), ",")}, nil
}

// realPackages downloads the index of the real mirror's main component.
func realPackages(root string) (text string, err error) {
	url := root + "/dists/" + localSuite + "/main/binary-" + deb.HostArch() + "/Packages.xz"
	resp, err := http.Get(url)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("get index: %s", resp.Status)
	}
	plain, err := deb.Decompress("Packages.xz", resp.Body)
	if err != nil {
		return "", err
	}
	data, err := io.ReadAll(plain)
	return string(data), errors.Join(err, plain.Close())
}
