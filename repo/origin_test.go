package repo

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dbuild/deb"
	"dbuild/sign"
)

// signingEnv opens a repository that signs packages.
func signingEnv(t *testing.T, state string, own *sign.Key) *env {
	t.Helper()
	return openSigning(t, state, own, true)
}

// nextKey is the key of a repository after a rotation.
func nextKey(t *testing.T) *sign.Key {
	t.Helper()
	k, err := sign.Generate("dbuild test repository", time.Now().Add(-24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// opened is a .deb taken apart.
type opened struct {
	unsigned []byte
	signer   string // fingerprint; "" if it is not signed
}

func openSigned(t *testing.T, file []byte, keys ...sign.Signer) (o opened) {
	t.Helper()
	in := bytes.NewReader(file)
	b, err := deb.OpenDeb(in, int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	if o.unsigned, err = io.ReadAll(deb.ReadParts(in, b.Unsigned())); err != nil {
		t.Fatal(err)
	}
	sig, err := b.Origin(in)
	if err != nil {
		t.Fatal(err)
	}
	if sig == nil {
		return o
	}
	ring, err := sign.ParseKeyring(sign.PublicArmored(keys))
	if err != nil {
		t.Fatal(err)
	}
	by, err := ring.VerifyStream(func() io.Reader { return deb.ReadParts(in, b.Signed()) }, sig, sign.Policy{Now: time.Now()})
	if err != nil {
		t.Fatalf("signature of the origin: %v", err)
	}
	o.signer = by.Fingerprint
	return o
}

// pooled reads the pool's copy of a published file.
func (e *env) pooled(t *testing.T, p Published, name string) []byte {
	t.Helper()
	for _, f := range p.Files {
		if f.Name == name {
			return readFile(t, e.path(f.Path))
		}
	}
	t.Fatalf("%q was not published", name)
	return nil
}

// whole fails the test unless the repository, read as by a client, verifies,
// before and after the database is made again and all that can go has gone.
func (e *env) whole(t *testing.T, suites ...string) {
	t.Helper()
	before := map[string]listing{}
	for _, s := range suites {
		before[s] = look(t, e.dir, s)
	}
	if err := e.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Collect(t.Context(), e.clock.now().Add(48*time.Hour)); err != nil {
		t.Fatal(err)
	}
	v, err := e.Verify(t.Context())
	if err != nil || len(v.Findings) > 0 {
		t.Fatalf("verify: %v, findings %v", err, v.Findings)
	}
	for _, s := range suites {
		if diff := cmp.Diff(before[s], look(t, e.dir, s)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestSignDebs(t *testing.T) {
	e := signingEnv(t, t.TempDir(), key(t))
	files := append(source(t, "2.10-3", "orig", "debian"), pkg{}.build(t), pkg{name: "hello-udeb", source: "hello", ext: "udeb"}.build(t))
	files[3].Link = true // of which nothing may come, since the pool's copy is another
	u := upload(t, "2.10-3", files...)
	u.Changes.Data = bytes.Replace(u.Changes.Data, []byte("Architecture: amd64"), []byte("Architecture: amd64 source"), 1)
	var dsc strings.Builder
	writeRows(t, &dsc, "Checksums-Sha256", "", files[0])
	row := strings.TrimPrefix(dsc.String(), "Checksums-Sha256:\n")
	u.Changes.Data = bytes.Replace(u.Changes.Data, []byte("Checksums-Sha256:\n"), []byte("Checksums-Sha256:\n"+row), 1)
	u.Changes.Data = u.Changes.Data[:bytes.Index(u.Changes.Data, []byte("Files:"))]
	var list strings.Builder
	writeRows(t, &list, "Files", "devel optional ", append(files[:1:1], files[3:]...)...)
	u.Changes.Data = append(u.Changes.Data, list.String()...)

	ready, err := e.Prepare(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	p, err := e.PublishPrepared(t.Context(), ready)
	if err != nil {
		t.Fatal(err)
	}
	copied := e.pooled(t, p, files[3].Name)
	if diff := cmp.Diff(map[string]string{files[3].Name: sha(copied)}, ready.Signed()); diff != "" {
		t.Errorf("what the caller is told: %s", diff)
	}
	got := openSigned(t, copied, key(t))
	if got.signer != key(t).Fingerprint() || sha(got.unsigned) != files[3].SHA256 {
		t.Errorf("the pool's copy is signed by %q and unsigned is %s, not %s", got.signer, sha(got.unsigned), files[3].SHA256)
	}
	for _, i := range []int{0, 4} { // neither sources nor udebs
		if got := sha(e.pooled(t, p, files[i].Name)); got != files[i].SHA256 {
			t.Errorf("%s is changed", files[i].Name)
		}
	}
	for _, f := range files {
		if sha(readFile(t, f.Path)) != f.SHA256 {
			t.Errorf("the given %s is changed", f.Name)
		}
	}
	if !bytes.Equal(readFile(t, e.path("builds/build-1/"+u.Changes.Name)), u.Changes.Data) {
		t.Error("the .changes is changed")
	}
	e.whole(t, "bookworm")
}

// TestSignDebsOnce publishes a package again and again. What the suite has stays
// as it is, whoever signed it, and nothing is written.
func TestSignDebsOnce(t *testing.T) {
	next := nextKey(t)
	for name, tt := range map[string]struct {
		first, later *sign.Key
		signFirst    bool
		signLater    bool
	}{
		"again":           {key(t), key(t), true, true},
		"after rotation":  {key(t), next, true, true},
		"no longer asked": {key(t), key(t), true, false},
		"asked for later": {key(t), key(t), false, true},
	} {
		for _, immutable := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				state := t.TempDir()
				hello := pkg{}.build(t)
				u := upload(t, "2.10-3", hello)
				u.Immutable = immutable
				first := openSigning(t, state, tt.first, tt.signFirst).publish(t, u)

				e := openSigning(t, state, tt.later, tt.signLater)
				before := snapshot(t, e.dir)
				ready, err := e.Prepare(t.Context(), u)
				if err != nil {
					t.Fatal(err)
				}
				told := ready.Signed()[hello.Name]
				p, err := e.PublishPrepared(t.Context(), ready)
				if err != nil {
					t.Fatal(err)
				}
				if !p.Unchanged {
					t.Error("the suite has changed")
				}
				if diff := cmp.Diff(first.Files, p.Files); diff != "" {
					t.Error(diff)
				}
				if diff := cmp.Diff(before, snapshot(t, e.dir)); diff != "" {
					t.Error(diff)
				}
				copied := sha(e.pooled(t, p, hello.Name))
				if tt.signFirst && told != copied || !tt.signFirst && told != "" {
					t.Errorf("the caller is told %q, the pool has %s", told, copied)
				}
				// The pool's own copy is the same package, too.
				if tt.signLater || tt.signFirst {
					own := filepath.Join(t.TempDir(), hello.Name)
					if err := os.WriteFile(own, e.pooled(t, p, hello.Name), 0o644); err != nil {
						t.Fatal(err)
					}
					uploads, err := ReadUploads("bookworm", []string{own})
					if err != nil {
						t.Fatal(err)
					}
					if p := e.publish(t, uploads[0]); !p.Unchanged {
						t.Error("its own copy changed the suite")
					}
				}
				e.whole(t, "bookworm")
			})
		}
	}
}

func TestSignDebsOtherBytes(t *testing.T) {
	e := signingEnv(t, t.TempDir(), key(t))
	u := upload(t, "2.10-3", pkg{}.build(t))
	u.Immutable = true
	e.publish(t, u)
	_, err := e.Publish(t.Context(), upload(t, "2.10-3", pkg{content: "other"}.build(t)))
	var rejected *RejectedError
	if !errors.As(err, &rejected) || len(rejected.Problems) != 1 || rejected.Problems[0].Code != CodeImmutable {
		t.Errorf("other bytes under the same name: %v", err)
	}
	// What the .changes lists is what was built.
	hello := pkg{version: "2.10-4"}.build(t)
	u = upload(t, "2.10-4", hello)
	b := readFile(t, hello.Path)
	signed := append(b, deb.OriginBytes([]byte("no signature"))...)
	u.Files = []File{writeFile(t, hello.Name, signed)}
	_, err = e.Publish(t.Context(), u)
	if !errors.As(err, &rejected) || rejected.Problems[0].Code != CodeFileSize {
		t.Errorf("not what the .changes lists: %v", err)
	}
	e.whole(t, "bookworm")
}

// TestSignDebsForeign adds a package that somebody else signed: the signature of
// the origin is this repository's, and other members stay.
func TestSignDebsForeign(t *testing.T) {
	hello := pkg{}.build(t)
	built := readFile(t, hello.Path)
	maintainer := bytes.Replace(deb.OriginBytes([]byte("maintainer")), []byte("_gpgorigin"), []byte("_gpgmaint "), 1)
	file := writeFile(t, hello.Name, bytes.Join([][]byte{built, deb.OriginBytes([]byte("theirs")), maintainer}, nil))
	e := signingEnv(t, t.TempDir(), key(t))
	p := e.publish(t, Upload{Suite: "bookworm", Files: []File{file}})
	got := openSigned(t, e.pooled(t, p, hello.Name), key(t))
	if got.signer != key(t).Fingerprint() || !bytes.Equal(got.unsigned, append(built, maintainer...)) {
		t.Errorf("signed by %q, %d bytes of %d", got.signer, len(got.unsigned), len(built)+len(maintainer))
	}
	// A repository that does not sign takes it as it is, also in place of the
	// package without a signature.
	file = writeFile(t, hello.Name, append(built, deb.OriginBytes([]byte("theirs"))...))
	plain := openSigning(t, t.TempDir(), key(t), false)
	plain.publish(t, Upload{Suite: "bookworm", Files: []File{hello}})
	if p := plain.publish(t, Upload{Suite: "bookworm", Files: []File{file}}); sha(plain.pooled(t, p, hello.Name)) != file.SHA256 {
		t.Error("the file was changed")
	}
}

// TestSignDebsCopy brings a package into another suite which has it with another
// signature, or not yet.
func TestSignDebsCopy(t *testing.T) {
	state := t.TempDir()
	u := upload(t, "2.10-3", pkg{}.build(t))
	first := signingEnv(t, state, key(t))
	first.publish(t, u)
	next := nextKey(t)
	e := signingEnv(t, state, next)
	u.Suite, u.Immutable = "trixie", true
	p := e.publish(t, u)
	if got := openSigned(t, e.pooled(t, p, "hello_2.10-3_amd64.deb"), key(t), next).signer; got != next.Fingerprint() {
		t.Errorf("in a second suite it is signed by %s, not the new key", got)
	}
	before := look(t, e.dir, "trixie")
	if _, err := e.Copy(t.Context(), Copying{Selection: Selection{Suite: "bookworm", Names: []string{"hello"}}, To: "trixie"}); err != nil {
		t.Fatalf("copy of what is there: %v", err)
	}
	if diff := cmp.Diff(before, look(t, e.dir, "trixie")); diff != "" {
		t.Error(diff)
	}
	if err := e.CreateSuite(t.Context(), DefaultSuite("sid")); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Copy(t.Context(), Copying{Selection: Selection{Suite: "bookworm", Names: []string{"hello"}}, To: "sid"}); err != nil {
		t.Fatal(err)
	}
	want, got := maps.Clone(look(t, e.dir, "bookworm")), look(t, e.dir, "sid")
	if diff := cmp.Diff(want, got); diff != "" || len(got) == 0 {
		t.Errorf("copied: %s", diff)
	}
	e.whole(t, "bookworm", "trixie", "sid")
}

// TestSignDebsAfterKill signs the same bytes again after a publish that died.
func TestSignDebsAfterKill(t *testing.T) {
	e := signingEnv(t, t.TempDir(), key(t))
	died := errors.New("died")
	e.before = func(op, _ string) error {
		if op == "sync" {
			return died
		}
		return nil
	}
	u := upload(t, "2.10-3", pkg{}.build(t))
	if _, err := e.Publish(t.Context(), u); !errors.Is(err, died) {
		t.Fatal(err)
	}
	e.before = nil
	e.clock.time = e.clock.time.Add(time.Minute)
	if p := e.publish(t, u); p.Files[0].Path != "pool/bookworm/main/h/hello/hello_2.10-3_amd64.deb" {
		t.Errorf("published as %s", p.Files[0].Path)
	}
	e.whole(t, "bookworm")
}

// TestSignDebsDebugSuite signs what goes into the suite of debug packages.
func TestSignDebsDebugSuite(t *testing.T) {
	e := signingEnv(t, t.TempDir(), key(t))
	s := DefaultSuite("bookworm")
	s.Debug = DebugSuite
	if err := e.CreateSuite(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	symbols := pkg{name: "hello-dbgsym", source: "hello", section: "debug"}.build(t)
	u := upload(t, "2.10-3", pkg{}.build(t), symbols)
	for range 2 {
		p := e.publish(t, u)
		if got := openSigned(t, e.pooled(t, p, symbols.Name), key(t)).signer; got != key(t).Fingerprint() {
			t.Errorf("signed by %q", got)
		}
	}
	e.whole(t, "bookworm", "bookworm-debug")
}
