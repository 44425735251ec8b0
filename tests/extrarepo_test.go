package tests

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"dbuild/archive/archivetest"
	"dbuild/deb"
)

// cmdExtraRepo serves a small repository of empty packages on loopback. SHAPE is
// "suite" (dists, InRelease, by hash) or "flat" (Release with Release.gpg beside
// the packages, nothing by hash).
func cmdExtraRepo(t *testing.T) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		want(ts, neg, len(args) > 2 && slices.Contains([]string{"suite", "flat"}, args[1]), "extrarepo NAME suite|flat PKG=VERSION…")
		name, flat := args[0], args[1] == "flat"
		repo := archivetest.New(t)
		suite := archivetest.Suite{Name: "extra", Architectures: []string{deb.HostArch()}}
		if flat {
			suite = archivetest.Suite{Name: "./", Suite: "extra", Codename: "extra", Architectures: suite.Architectures, Flat: true, Detached: true, NoByHash: true}
		}
		repo.AddSuite(suite)
		for _, arg := range args[2:] {
			pkg, version, _ := strings.Cut(arg, "=")
			repo.AddPackage(suite.Name, "main", archivetest.Package{
				Name: pkg, Version: version, Architecture: deb.HostArch(), Files: map[string]string{"usr/share/" + pkg: name},
			})
		}
		repo.Publish(suite.Name)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			data := repo.Get(path.Clean(strings.TrimPrefix(r.URL.Path, "/")))
			if data == nil {
				http.NotFound(w, r)
				return
			}
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
		}))
		ts.Defer(server.Close)
		key := filepath.Join(ts.Getenv("WORK"), "."+name+".asc")
		ts.Check(os.WriteFile(key, repo.Key.PublicArmored(), 0o644))
		ts.Setenv(name+"_URL", server.URL)
		ts.Setenv(name+"_KEY", key)
	}
}
