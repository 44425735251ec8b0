package repo

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dbuild/internal/testenv"
)

// text returns an index of bookworm, from each of its forms.
func (e *env) text(t testing.TB, p string) string {
	t.Helper()
	cur := e.cur(t)
	b, err := e.indexBytes("bookworm", cur, p)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What a suite's rules add to its indexes is there, in all forms, however it
// came to be; and it goes again.
func TestIndexesOfRules(t *testing.T) {
	testenv.NeedProgram(t, "xz")
	e := newEnv(t)
	long := func(name, arch string) Upload {
		u := upload(t, "1", pkg{name: name, source: "hello", arch: arch, version: "1", long: " It does\n .\n things.\n"}.build(t))
		u.Changes = Document{} // with one they would supersede each other
		return u
	}
	e.publish(t, long("one", "amd64"))
	e.publish(t, long("two", "all"))
	plain := e.text(t, "main/binary-amd64/Packages")
	e.rules(t, func(s *Suite) { s.Contents, s.Translations, s.XZ = true, true, true })
	e.publish(t, long("one", "arm64"))
	e.publish(t, long("three", "amd64"))
	listed := look(t, e.Dir(), "bookworm")
	if len(listed) != 5 {
		t.Errorf("listing: %v", listed)
	}
	const packages = `Package: one
Version: 1
Architecture: amd64
`
	got := e.text(t, "main/binary-amd64/Packages")
	if !strings.HasPrefix(got, packages) || strings.Contains(got, "things") || strings.Count(got, "\nDescription: test package one\nDescription-md5: ") != 1 {
		t.Errorf("Packages:\n%s", got)
	}
	got = e.text(t, "main/i18n/Translation-en")
	if !strings.Contains(got, "Package: two\nDescription-md5: "+md5sum("test package two\n It does\n .\n things.\n")+"\nDescription-en: test package two\n It does\n .\n things.\n\n") || strings.Count(got, "Package: ") != 3 {
		t.Errorf("Translation-en:\n%s", got)
	}
	for p, want := range map[string]string{
		"main/Contents-amd64": "usr/share/doc/one/content devel/one\nusr/share/doc/three/content devel/three\n",
		"main/Contents-arm64": "usr/share/doc/one/content devel/one\n",
		"main/Contents-all":   "usr/share/doc/two/content devel/two\n",
	} {
		got := strings.Join(strings.Fields(strings.ReplaceAll(e.text(t, p), "\n", " | ")), " ")
		if want = strings.TrimSpace(strings.ReplaceAll(want, "\n", " | ")); got != want {
			t.Errorf("%s: %q, want %q", p, got, want)
		}
	}
	cur := e.cur(t)
	if a := strings.Join(cur.release.Architectures, " "); a != "all amd64 arm64" || cur.release.NoSupportForAll != "Packages" {
		t.Errorf("Architectures: %s, no support for all: %q", a, cur.release.NoSupportForAll)
	}
	e.unxz(t)

	// Made anew from rebuilt rows, all of it is the same.
	before := cur.release.Files
	rows := e.rowsText(t)
	e.Repo.db = openDB(t, filepath.Join(t.TempDir(), "other.db"))
	if err := e.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(rows, e.rowsText(t)); diff != "" {
		t.Errorf("rows (-before +rebuilt):\n%s", diff)
	}
	u := long("four", "amd64")
	e.publish(t, u)
	if _, err := e.Remove(t.Context(), Selection{Suite: "bookworm", Names: []string{"four"}}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, e.cur(t).release.Files); diff != "" {
		t.Errorf("rows of Release (-before +after):\n%s", diff)
	}
	if v, err := e.Verify(t.Context()); err != nil || len(v.Findings) != 0 {
		t.Errorf("%+v, %v", v, err)
	}

	e.rules(t, func(s *Suite) { s.Contents, s.Translations, s.XZ = false, false, false })
	if got := e.text(t, "main/binary-amd64/Packages"); !strings.HasPrefix(got, plain) {
		t.Errorf("without the rules Packages is\n%s", got)
	}
	if n := len(e.cur(t).release.Files); n != 9 {
		t.Errorf("%d rows", n)
	}
	look(t, e.Dir(), "bookworm")
}

func md5sum(text string) string { return fmt.Sprintf("%x", md5.Sum([]byte(text))) }

// unxz reads every xz form of bookworm with the program that it is for.
func (e *env) unxz(t *testing.T) {
	t.Helper()
	for p, row := range e.cur(t).release.Files {
		plain, ok := strings.CutSuffix(p, ".xz")
		if !ok {
			continue
		}
		path := filepath.Join(e.Dir(), byHashPath("bookworm", row.SHA256))
		link := filepath.Join(t.TempDir(), "index.xz")
		if err := os.Symlink(path, link); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), "xz", "--single-stream", "--decompress", "--stdout", link).Output()
		if err != nil || string(out) != e.text(t, plain) {
			t.Errorf("%s: %v, %d bytes", p, err, len(out))
		}
	}
}

// An xz index of many shards is one stream, at its beginning as after changes
// to its end and its middle.
func TestXZIsOneStream(t *testing.T) {
	testenv.NeedProgram(t, "xz")
	e := newEnv(t)
	var all []entry
	for _, name := range shardNames(30) {
		all = append(all, sample(name, "1"))
	}
	e.change(t, nil, all)
	e.rules(t, func(s *Suite) { s.XZ = true })
	e.unxz(t)
	if len(e.shards(t)) < 3 {
		t.Errorf("only %d shards", len(e.shards(t)))
	}
	e.change(t, nil, []entry{sample("one-more", "1")})
	e.unxz(t)
	e.change(t, all[12:13], nil)
	e.unxz(t)
	e.change(t, append(all[:12:12], all[13:]...), nil)
	e.unxz(t)
}

func TestXZBlockRefusesOtherFiles(t *testing.T) {
	testenv.NeedProgram(t, "xz")
	good, err := compressXZ(t.Context(), []byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := xzBlock(good); err != nil {
		t.Fatal(err)
	}
	for n := range good {
		if _, _, err := xzBlock(good[:n]); err == nil && n < len(good) {
			t.Errorf("cut after %d bytes it is fine", n)
		}
	}
	if _, _, err := xzBlock(bytes.Repeat([]byte("x"), 100)); err == nil {
		t.Error("no xz file is fine")
	}
}
