package cache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dbuild/internal/fault"
	"dbuild/internal/tree"
)

// exported is an image of one machine in a file, with its base and an image
// between.
func exported(t *testing.T) (from *fixture, e *Entry, path string) {
	t.Helper()
	from = newFixture(t, true)
	base := from.addBase("usr/bin/su")
	deps := from.addDeps(from.addDeps(base, "cmake"), "debhelper")
	e, err := from.Entry(ctx, deps.Hash)
	must(t, err)
	t.Cleanup(func() { must(t, e.Close()) })
	var b bytes.Buffer
	must(t, from.Export(ctx, e, t.TempDir(), &b))
	path = filepath.Join(t.TempDir(), "image")
	must(t, os.WriteFile(path, b.Bytes(), 0o600))
	return from, e, path
}

func ordinary(*Statement) (Policy, error) { return policy(), nil }

// take imports a file.
func (f *fixture) take(path, signer string, p func(*Statement) (Policy, error)) (*Entry, error) {
	file, err := OpenBundle(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return f.Import(ctx, Incoming{Bundle: file.Bundle, Signer: signer, Open: file.Open, Policy: p})
}

func TestExportAndImport(t *testing.T) {
	for name, sealed := range map[string]bool{"plain engine": false, "sealing engine": true} {
		t.Run(name, func(t *testing.T) {
			from, e, path := exported(t)
			to := newFixture(t, sealed)
			to.o.Keys = Keys(t.TempDir())
			got, err := to.take(path, from.key.Fingerprint(), ordinary)
			must(t, err)
			must(t, check(got), got.Verify(ctx), got.Close())
			if got.Statement.Tree != e.Statement.Tree || got.depsKey() != e.depsKey() || got.Statement.Signer != to.key.Fingerprint() || len(got.Chain) != 1 {
				t.Errorf("got %+v", got.Statement)
			}
			if o := got.Statement.Imported; o == nil || o.Signer != from.key.Fingerprint() || o.Statement != e.Hash {
				t.Errorf("origin is %+v", o)
			}
			if !got.Statement.Created.Equal(e.Statement.Created) {
				t.Error("it became younger")
			}
			found, err := to.Deps(ctx, policy(), e.depsKey())
			must(t, err, found.Close())
			// The chain goes on beyond this machine.
			original, err := to.Statement(ctx, e.Hash)
			must(t, err)
			if original.Signer != from.key.Fingerprint() {
				t.Errorf("original by %s", original.Signer)
			}
			// Once more: the base is there already.
			again, err := to.take(path, from.key.Fingerprint(), ordinary)
			must(t, err, again.Close())
			if items, err := to.List(ctx); err != nil || len(items) != 3 {
				t.Errorf("%d images, %v", len(items), err)
			}
			// And back.
			var b bytes.Buffer
			must(t, to.Export(ctx, got, t.TempDir(), &b))
			back := filepath.Join(t.TempDir(), "back")
			must(t, os.WriteFile(back, b.Bytes(), 0o600))
			home, err := from.take(back, to.key.Fingerprint(), ordinary)
			must(t, err, home.Close())
			if home.Statement.Tree != e.Statement.Tree {
				t.Errorf("came back as %s", home.Statement.Tree)
			}
		})
	}
}

// TestImportRefuses checks that whatever is wrong leaves nothing behind.
func TestImportRefuses(t *testing.T) {
	from, _, path := exported(t)
	good, err := os.ReadFile(path)
	must(t, err)
	signer := from.key.Fingerprint()
	altered := func(change func([]byte) []byte) string {
		name := filepath.Join(t.TempDir(), "altered")
		must(t, os.WriteFile(name, change(bytes.Clone(good)), 0o600))
		return name
	}
	replaced := func(old, new string) func([]byte) []byte {
		return func(b []byte) []byte {
			if !bytes.Contains(b, []byte(old)) {
				t.Fatalf("no %q", old)
			}
			return bytes.ReplaceAll(b, []byte(old), []byte(new))
		}
	}
	limited := func(change func(*Policy)) func(*Statement) (Policy, error) {
		return func(*Statement) (Policy, error) {
			p := policy()
			change(&p)
			return p, nil
		}
	}
	for name, test := range map[string]struct {
		path, signer string
		policy       func(*Statement) (Policy, error)
		want         fault.Class
	}{
		"another signer":       {path, newKey(t).Fingerprint(), ordinary, fault.Trust},
		"short fingerprint":    {path, signer[24:], ordinary, fault.Usage},
		"altered statement":    {altered(replaced(`\"debhelper\"`, `\"debhelpar\"`)), signer, ordinary, fault.Trust},
		"altered signature":    {altered(replaced(`BEGIN PGP SIGNATURE`, `BEGIN PGP SIGNATURA`)), signer, ordinary, fault.Trust},
		"key of another":       {altered(replaced(string(jsonText(t, from.key.PublicArmored())), string(jsonText(t, newKey(t).PublicArmored())))), signer, ordinary, fault.Trust},
		"not of this suite":    {path, signer, limited(func(p *Policy) { p.Suite = "trixie" }), fault.Trust},
		"not from this key":    {path, signer, limited(func(p *Policy) { p.Keys = []string{signer} }), fault.Trust},
		"no image":             {altered(func([]byte) []byte { return []byte("hello") }), signer, ordinary, fault.Input},
		"empty":                {altered(func([]byte) []byte { return nil }), signer, ordinary, fault.Input},
		"something at the end": {altered(func(b []byte) []byte { return append(b[:len(b)-1024], b[:2048]...) }), signer, ordinary, fault.Input},
	} {
		t.Run(name, func(t *testing.T) {
			to := newFixture(t, true)
			to.o.Keys = Keys(t.TempDir())
			e, err := to.take(test.path, test.signer, test.policy)
			if got := fault.ClassOf(err); got != test.want {
				t.Errorf("got %v, %v of class %s, want %s", e, err, got, test.want)
			}
			to.isEmpty()
		})
	}
	t.Run("cut off", func(t *testing.T) {
		to := newFixture(t, true)
		for size := range slices.Values([]int{100, 511, 512, 1000, 4000, len(good) / 2, len(good) - 4000, len(good) - 1600}) {
			if _, err := to.take(altered(func(b []byte) []byte { return b[:size] }), signer, ordinary); err == nil {
				t.Errorf("%d of %d bytes: accepted", size, len(good))
			}
		}
		to.isEmpty()
	})
	t.Run("another tree", func(t *testing.T) {
		to := newFixture(t, true)
		file, err := OpenBundle(path)
		must(t, err)
		defer file.Close()
		digests, err := file.Bundle.Trees()
		must(t, err)
		// The right one when it is looked at, another when it is stored.
		opened := 0
		in := Incoming{Bundle: file.Bundle, Signer: signer, Policy: ordinary, Open: func(ctx context.Context, d tree.Digest) (io.ReadCloser, error) {
			if opened++; opened > len(digests) {
				return file.Open(ctx, digests[len(digests)-1])
			}
			return file.Open(ctx, d)
		}}
		if _, err := to.Import(ctx, in); fault.ClassOf(err) != fault.Trust {
			t.Errorf("got %v", err)
		}
		to.isEmpty()
	})
}

func jsonText(t *testing.T, b []byte) []byte {
	t.Helper()
	text, err := canonical(string(b))
	must(t, err)
	return bytes.Trim(text, "\"\n")
}

func (f *fixture) isEmpty() {
	f.t.Helper()
	items, err := f.List(ctx)
	must(f.t, err)
	retired, err := os.ReadDir(filepath.Join(f.dir, "retired"))
	must(f.t, err)
	if len(items) > 0 || len(f.fake.images) > 0 || len(retired) > 0 {
		f.t.Errorf("left: images %v, engine %v, statements %v", items, f.fake.images, retired)
	}
}

func TestPinnedKey(t *testing.T) {
	from, e, path := exported(t)
	to := newFixture(t, false)
	to.o.Keys = Keys(t.TempDir())
	if err := to.o.Keys.Pin(from.key.PublicArmored(), newKey(t).Fingerprint()); fault.ClassOf(err) != fault.Trust {
		t.Errorf("pinned as another: %v", err)
	}
	must(t, to.o.Keys.Pin(from.key.PublicArmored(), from.key.Fingerprint()))
	if got, err := to.o.Keys.Pinned(); err != nil || !slices.Equal(got, []string{from.key.Fingerprint()}) {
		t.Errorf("pinned %v, %v", got, err)
	}
	got, err := to.take(path, from.key.Fingerprint(), ordinary)
	must(t, err, got.Close(), to.o.Keys.Unpin(from.key.Fingerprint()))
	if err := to.o.Keys.Unpin(from.key.Fingerprint()); !errors.Is(err, ErrNotFound) {
		t.Errorf("unpinned twice: %v", err)
	}
	if _, err := to.Statement(ctx, e.Hash); err != nil {
		t.Errorf("the original: %v", err)
	}
}

func TestRotate(t *testing.T) {
	f := newFixture(t, true)
	f.o.Keys = Keys(t.TempDir())
	base := f.addBase()
	deps := f.addDeps(base, "debhelper")
	built, sig, err := f.SignBuild(Statement{Suite: "bookworm", Deps: deps.Hash})
	must(t, err)
	oldHead, err := os.ReadFile(f.headPath())
	must(t, err)
	old, next := f.key, newKey(t)
	must(t, f.o.Keys.Retire(old))
	if SignedBy(f.dir, next) || !SignedBy(f.dir, old) {
		t.Error("who signed the list?")
	}
	keys := f.o.Keys
	must(t, f.Rotate(ctx, next, false))
	if !SignedBy(f.dir, next) || SignedBy(f.dir, old) {
		t.Error("who signed the list now?")
	}
	f.open(f.dir, true, next, "boot-1")
	f.o.Keys = keys
	got, err := f.Deps(ctx, policy(), deps.depsKey())
	must(t, err)
	means, err := got.Check(ctx)
	must(t, err, got.Close())
	if means != MeansSeal || got.Statement.Signer != next.Fingerprint() || got.Hash == deps.Hash || got.Image.ID != deps.Image.ID {
		t.Errorf("by %q: %+v", means, got.Statement)
	}
	if f.notes.has("altered") {
		t.Errorf("notes %q", f.notes.text)
	}
	// What was published still leads here.
	if _, err := f.VerifyBuild(built, sig); err != nil {
		t.Error(err)
	}
	if st, err := f.Statement(ctx, deps.Hash); err != nil || st.Signer != old.Fingerprint() {
		t.Errorf("got %s, %v", st.Signer, err)
	}
	// But nothing that the old key signed is in force.
	now, err := os.ReadFile(f.headPath())
	must(t, err, os.WriteFile(f.headPath(), oldHead, 0o600))
	if _, err := f.Deps(ctx, policy(), deps.depsKey()); fault.ClassOf(err) != fault.Trust {
		t.Errorf("the old list: %v", err)
	}
	must(t, os.WriteFile(f.headPath(), now, 0o600))
	if n, err := f.Reap(ctx); n != 0 || err != nil {
		t.Errorf("reaped %d, %v", n, err)
	}
}

func TestRotateAndForget(t *testing.T) {
	f := newFixture(t, true)
	f.o.Keys = Keys(t.TempDir())
	base := f.addBase()
	next := newKey(t)
	must(t, f.Rotate(ctx, next, true))
	if _, err := f.Base(ctx, policy()); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if _, err := f.Statement(ctx, base.Hash); fault.ClassOf(err) != fault.Trust {
		t.Errorf("the old statement: %v", err)
	}
	if !strings.HasSuffix(f.headPath(), "head") || !SignedBy(f.dir, next) {
		t.Error("the list is not the new key's")
	}
}
