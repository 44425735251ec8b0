package archive_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dbuild/archive"
	"dbuild/archive/archivetest"
	"dbuild/internal/fault"
	"dbuild/sign"
)

// TestUpdateRefuses serves each bad Release of the tables of bad inputs (1.5,
// B32 to B39) to a fresh copy. Framing and key states are the business of
// package sign; here at least one of each must end in the right class.
func TestUpdateRefuses(t *testing.T) {
	stranger, err := sign.Generate("stranger", archivetest.Epoch)
	if err != nil {
		t.Fatal(err)
	}
	replace := func(old, by string) func(*testing.T, *archivetest.Archive) {
		return func(t *testing.T, a *archivetest.Archive) {
			text := a.ReleaseText("bookworm")
			if !strings.Contains(text, old) {
				t.Fatalf("no %q in the Release", old)
			}
			a.Sign("bookworm", strings.Replace(text, old, by, 1))
		}
	}
	raw := func(change func(doc []byte) []byte) func(*testing.T, *archivetest.Archive) {
		return func(_ *testing.T, a *archivetest.Archive) {
			a.PutRelease("bookworm", change(bytes.Clone(a.Get("dists/bookworm/InRelease"))))
		}
	}
	dates := func(date, until time.Duration) func(*testing.T, *archivetest.Archive) {
		return func(_ *testing.T, a *archivetest.Archive) {
			now := time.Now()
			a.SetDates("bookworm", now.Add(date), now.Add(until))
			a.Publish("bookworm")
		}
	}
	tests := []struct {
		name  string
		spoil func(*testing.T, *archivetest.Archive)
		want  fault.Class
	}{
		{"good", func(*testing.T, *archivetest.Archive) {}, fault.OK},
		{"text before", raw(func(d []byte) []byte { return append([]byte("Origin: x\n"), d...) }), fault.Trust},
		{"text after", raw(func(d []byte) []byte { return append(d, "Origin: x\n"...) }), fault.Trust},
		{"blank line before", raw(func(d []byte) []byte { return append([]byte("\n"), d...) }), fault.Trust},
		{"byte-order mark", raw(func(d []byte) []byte { return append([]byte("\ufeff"), d...) }), fault.Trust},
		{"twice", raw(func(d []byte) []byte { return append(d, d...) }), fault.Trust},
		{"one byte changed", raw(func(d []byte) []byte { return bytes.Replace(d, []byte("Label: Test"), []byte("Label: Tent"), 1) }), fault.Trust},
		{"CRLF", raw(func(d []byte) []byte { return bytes.ReplaceAll(d, []byte("\n"), []byte("\r\n")) }), fault.OK},
		{"NUL added", raw(func(d []byte) []byte { return bytes.Replace(d, []byte("Label"), []byte("La\x00bel"), 1) }), fault.Trust},
		{"truncated", raw(func(d []byte) []byte { return d[:len(d)/2] }), fault.Trust},
		{"empty", raw(func([]byte) []byte { return []byte{} }), fault.Trust},
		{"not signed", func(_ *testing.T, a *archivetest.Archive) {
			a.PutRelease("bookworm", []byte(a.ReleaseText("bookworm")))
		}, fault.Trust},
		{"unknown key", func(t *testing.T, a *archivetest.Archive) {
			doc, err := stranger.Clearsign([]byte(a.ReleaseText("bookworm")), time.Now())
			if err != nil {
				t.Fatal(err)
			}
			a.PutRelease("bookworm", doc)
		}, fault.Trust},
		{"expired 7 days ago", dates(-14*24*time.Hour, -7*24*time.Hour), fault.Trust},
		{"12 hours ahead", dates(12*time.Hour, 24*time.Hour), fault.Trust},
		{"half an hour ahead", dates(30*time.Minute, 24*time.Hour), fault.OK},
		{"400 days old without Valid-Until", func(_ *testing.T, a *archivetest.Archive) {
			a.SetDates("bookworm", time.Now().AddDate(0, 0, -400), time.Time{})
			a.Publish("bookworm")
		}, fault.OK},
		{"Valid-Until before Date", dates(-time.Hour, -2*time.Hour), fault.Trust},
		{"Date missing", replace("Date:", "X-Date:"), fault.Trust},
		{"Date not a date", replace("Date: ", "Date: yesterday "), fault.Trust},
		{"Date not in UTC", replace(" UTC\n", " +0200\n"), fault.Trust},
		{"two Dates", replace("Date:", "Date: Thu, 01 Jan 2026 00:00:00 UTC\nDate:"), fault.Trust},
		{"other suite", replace("Suite: bookworm\nCodename: bookworm", "Suite: trixie\nCodename: trixie"), fault.Trust},
		{"other codename", replace("Codename: bookworm", "Codename: trixie"), fault.Trust},
		{"other suite name, right codename", replace("Suite: bookworm", "Suite: oldstable"), fault.OK},
		{"only weak hashes", replace("SHA256:", "MD5Sum:"), fault.Trust},
		{"no rows", func(_ *testing.T, a *archivetest.Archive) {
			text, _, _ := strings.Cut(a.ReleaseText("bookworm"), "SHA256:")
			a.Sign("bookworm", text)
		}, fault.Trust},
		{"two hashes for one path", replace("SHA256:\n", "SHA256:\n "+strings.Repeat("0", 64)+" 7 main/binary-amd64/Packages\n"), fault.Trust},
		{"negative size", replace("SHA256:\n", "SHA256:\n "+strings.Repeat("0", 64)+" -7 main/x\n"), fault.Trust},
		{"size of 20 digits", replace("SHA256:\n", "SHA256:\n "+strings.Repeat("0", 64)+" 99999999999999999999 main/x\n"), fault.Trust},
		{"path leaves the suite", replace("SHA256:\n", "SHA256:\n "+strings.Repeat("0", 64)+" 7 main/../../x\n"), fault.Trust},
		{"20 MiB", func(_ *testing.T, a *archivetest.Archive) {
			a.PutRelease("bookworm", bytes.Repeat([]byte("Origin: x\n"), 2<<20))
		}, fault.Network},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a, server := small(t, archivetest.Suite{})
			tt.spoil(t, a)
			c := open(t, t.TempDir(), archive.Options{})
			st, err := updateOne(t, c, server.Source("bookworm"))
			wantClass(t, err, tt.want)
			if err == nil && st.SignedBy != a.Key.Fingerprint() {
				t.Errorf("signed by %q, want %q", st.SignedBy, a.Key.Fingerprint())
			}
		})
	}
}

func TestUpdateAllowedKeys(t *testing.T) {
	a, server := small(t, archivetest.Suite{})
	c := open(t, t.TempDir(), archive.Options{})
	src := server.Source("bookworm")
	src.AllowedKeys = []string{a.Key.Fingerprint()}
	mustUpdate(t, c, src)
	src.AllowedKeys = []string{strings.Repeat("0", 40)}
	_, err := updateOne(t, c, src)
	wantClass(t, err, fault.Trust)
}

// TestUpdateRollback is the freshness rule for a mirror that goes back in
// time: the newer verified copy stays, and without one nothing is accepted.
func TestUpdateRollback(t *testing.T) {
	a, server := small(t, archivetest.Suite{})
	src := server.Source("bookworm")
	old := a.Snapshot()
	newer := time.Now().Add(-time.Minute).Truncate(time.Second)
	a.SetDates("bookworm", newer, time.Now().Add(time.Hour))
	a.Publish("bookworm")

	dir, log := t.TempDir(), &notes{}
	c := open(t, dir, archive.Options{Report: log})
	first := mustUpdate(t, c, src)
	a.Restore(old)

	kept := mustUpdate(t, c, src)
	if kept.Fresh != "kept" || kept.SHA256 != first.SHA256 || !kept.Date.Equal(newer) {
		t.Errorf("got state %q of %v, want the newer copy", kept.Fresh, kept.Date)
	}
	if !log.has("note: ") {
		t.Error("the newer copy was kept without a note")
	}

	later := open(t, dir, archive.Options{Now: func() time.Time { return time.Now().Add(2 * time.Hour) }})
	_, err := updateOne(t, later, src)
	wantClass(t, err, fault.Trust)

	if err := os.Remove(filepath.Join(dir, "releases", first.SHA256)); err != nil {
		t.Fatal(err)
	}
	_, err = updateOne(t, c, src)
	wantClass(t, err, fault.Trust)
	lax := open(t, dir, archive.Options{AllowExpired: true})
	_, err = updateOne(t, lax, src)
	wantClass(t, err, fault.Trust)
}

func TestUpdateAllowExpired(t *testing.T) {
	a, server := small(t, archivetest.Suite{})
	a.SetDates("bookworm", time.Now().AddDate(0, 0, -14), time.Now().AddDate(0, 0, -7))
	a.Publish("bookworm")
	log := &notes{}
	c := open(t, t.TempDir(), archive.Options{AllowExpired: true, Report: log})
	st := mustUpdate(t, c, server.Source("bookworm"))
	if !st.Expired || !log.has("warn: ") {
		t.Errorf("expired %v, lines %q; want it marked and warned of", st.Expired, log.lines)
	}
}

// TestUpdateStaleCache has a cache on the way that holds an expired Release
// and honours no-cache.
func TestUpdateStaleCache(t *testing.T) {
	a, server := small(t, archivetest.Suite{})
	a.SetDates("bookworm", time.Now().AddDate(0, 0, -14), time.Now().AddDate(0, 0, -7))
	a.Publish("bookworm")
	stale := a.Get("dists/bookworm/InRelease")
	a.SetDates("bookworm", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	a.Publish("bookworm")
	server.Fault(archivetest.Fault{Path: "InRelease", Times: 1, Body: stale})
	c := open(t, t.TempDir(), archive.Options{})
	mustUpdate(t, c, server.Source("bookworm"))
	asked := server.Requests("InRelease")
	if len(asked) != 2 || asked[1].Header.Get("Cache-Control") != "no-cache" {
		t.Errorf("asked %d times, want a second time past caches", len(asked))
	}
}

func TestUpdateConditional(t *testing.T) {
	_, server := small(t, archivetest.Suite{})
	server.Validators()
	c := open(t, t.TempDir(), archive.Options{})
	src := server.Source("bookworm")
	if st := mustUpdate(t, c, src); st.Fresh != "checked" {
		t.Errorf("first: %q, want checked", st.Fresh)
	}
	if st := mustUpdate(t, c, src); st.Fresh != "unchanged" {
		t.Errorf("second: %q, want unchanged", st.Fresh)
	}
	if asked := server.Requests("InRelease"); len(asked) != 2 || asked[1].Status != 304 {
		t.Errorf("got %+v, want a second answer 304", asked)
	}
}

// TestUpdateWithoutValidators has a mirror that sends neither ETag nor
// Last-Modified: equal bytes are recognised all the same.
func TestUpdateWithoutValidators(t *testing.T) {
	_, server := small(t, archivetest.Suite{})
	c := open(t, t.TempDir(), archive.Options{})
	mustUpdate(t, c, server.Source("bookworm"))
	if st := mustUpdate(t, c, server.Source("bookworm")); st.Fresh != "unchanged" {
		t.Errorf("got %q, want unchanged", st.Fresh)
	}
}

// TestUpdateNotModifiedLies answers 304 to a question without a condition.
func TestUpdateNotModifiedLies(t *testing.T) {
	_, server := small(t, archivetest.Suite{})
	server.Fault(archivetest.Fault{Path: "InRelease", Status: 304})
	c := open(t, t.TempDir(), archive.Options{})
	_, err := updateOne(t, c, server.Source("bookworm"))
	wantClass(t, err, fault.Network)
}

func TestUpdateMaxAgeAndOffline(t *testing.T) {
	a, server := small(t, archivetest.Suite{})
	src, dir := server.Source("bookworm"), t.TempDir()

	_, err := updateOne(t, open(t, dir, archive.Options{Offline: true}), src)
	wantClass(t, err, fault.Network)
	if fault.HintOf(err) == "" {
		t.Error("offline without a copy: no hint")
	}

	first := mustUpdate(t, open(t, dir, archive.Options{}), src)
	server.ClearRequests()
	for fresh, o := range map[string]archive.Options{
		"max-age": {MaxAge: time.Hour},
		"offline": {Offline: true},
	} {
		st := mustUpdate(t, open(t, dir, o), src)
		if st.Fresh != fresh || st.SHA256 != first.SHA256 {
			t.Errorf("got %q, want %q", st.Fresh, fresh)
		}
	}
	if asked := server.Requests(""); len(asked) != 0 {
		t.Errorf("asked the network %d times", len(asked))
	}

	a.SetDates("bookworm", time.Now().Add(-time.Minute), time.Now().Add(time.Hour))
	a.Publish("bookworm")
	mustUpdate(t, open(t, dir, archive.Options{}), src)
	later := func() time.Time { return time.Now().Add(2 * time.Hour) }
	_, err = updateOne(t, open(t, dir, archive.Options{Offline: true, Now: later}), src)
	wantClass(t, err, fault.Trust)
}

// TestUpdateDown has a mirror that fails after a first good run: the copy is
// not used without being asked for, and the message says how.
func TestUpdateDown(t *testing.T) {
	_, server := small(t, archivetest.Suite{})
	src, dir := server.Source("bookworm"), t.TempDir()
	mustUpdate(t, open(t, dir, archive.Options{}), src)
	server.Fault(archivetest.Fault{Status: 503})
	_, err := updateOne(t, open(t, dir, archive.Options{}), src)
	wantClass(t, err, fault.Network)
	if !strings.Contains(fault.HintOf(err), "--offline") {
		t.Errorf("hint %q does not name --offline", fault.HintOf(err))
	}
}

func TestUpdateDetached(t *testing.T) {
	a, server := small(t, archivetest.Suite{Name: "mine", Detached: true, NoByHash: true})
	src := server.Source("mine")
	src.Codename = ""
	c := open(t, t.TempDir(), archive.Options{})
	st := mustUpdate(t, c, src)
	if st.InRelease != nil || st.Signature == nil {
		t.Error("want a detached state")
	}
	if st = mustUpdate(t, c, src); st.Fresh != "unchanged" {
		t.Errorf("got %q, want unchanged", st.Fresh)
	}
	helloFile(t, c, st)

	strict := src
	strict.Extra = false
	_, err := updateOne(t, c, strict)
	wantClass(t, err, fault.Network)

	a.Put("dists/mine/Release", append(a.Get("dists/mine/Release"), "X: y\n"...))
	_, err = updateOne(t, c, src)
	wantClass(t, err, fault.Trust)
	a.Remove("dists/mine/Release.gpg")
	_, err = updateOne(t, c, src)
	wantClass(t, err, fault.Trust)
}

func TestUpdateExtraSuiteMismatchWarns(t *testing.T) {
	_, server := small(t, archivetest.Suite{Suite: "other", Codename: "other"})
	src := server.Source("bookworm")
	src.Extra, src.Codename = true, ""
	log := &notes{}
	mustUpdate(t, open(t, t.TempDir(), archive.Options{Report: log}), src)
	if !log.has("warn: ") {
		t.Error("no warning")
	}
}

func TestUpdateFlat(t *testing.T) {
	for _, dir := range []string{"./", "sub/dir/"} {
		t.Run(dir, func(t *testing.T) {
			_, server := small(t, archivetest.Suite{Name: dir, Flat: true, NoByHash: true})
			c := open(t, t.TempDir(), archive.Options{})
			st := mustUpdate(t, c, server.Source(dir))
			f := helloFile(t, c, st)
			if n, _, err := c.Fetch(t.Context(), []archive.File{f}); n != 1 || err != nil {
				t.Errorf("fetched %d: %v", n, err)
			}
		})
	}
}

// TestUpdateDamagedRecord truncates the record, as a power loss can where the
// file system lies about fsync.
func TestUpdateDamagedRecord(t *testing.T) {
	_, server := small(t, archivetest.Suite{})
	dir, log := t.TempDir(), &notes{}
	c := open(t, dir, archive.Options{Report: log})
	mustUpdate(t, c, server.Source("bookworm"))
	records, err := filepath.Glob(filepath.Join(dir, "suites", "*.json"))
	if err != nil || len(records) != 1 {
		t.Fatalf("records %q: %v", records, err)
	}
	if err := os.Truncate(records[0], 0); err != nil {
		t.Fatal(err)
	}
	if st := mustUpdate(t, c, server.Source("bookworm")); st.Fresh != "checked" || !log.has("damaged") {
		t.Errorf("got %q, lines %q", st.Fresh, log.lines)
	}
}

func TestUpdateBadSources(t *testing.T) {
	_, server := small(t, archivetest.Suite{})
	good := server.Source("bookworm")
	tests := []struct {
		name   string
		change func(*archive.Source)
		want   fault.Class
	}{
		{"no keyring", func(s *archive.Source) { s.Keyrings = nil }, fault.Trust},
		{"missing keyring", func(s *archive.Source) { s.Keyrings = []string{"/nonexistent"} }, fault.Trust},
		{"suite with a blank", func(s *archive.Source) { s.Suite = "book worm" }, fault.Usage},
		{"suite with dots", func(s *archive.Source) { s.Suite = "../x" }, fault.Usage},
		{"component with a line break", func(s *archive.Source) { s.Components = []string{"main\ndeb"} }, fault.Usage},
		{"file URL", func(s *archive.Source) { s.URL = "file:///srv" }, fault.Usage},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src := good
			tt.change(&src)
			_, err := updateOne(t, open(t, t.TempDir(), archive.Options{}), src)
			wantClass(t, err, tt.want)
		})
	}
}
