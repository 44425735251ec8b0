package buildenv

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dbuild/archive"
	"dbuild/cache"
	"dbuild/deb"
	"dbuild/internal/fault"
	"dbuild/internal/state"
	"dbuild/sign"
)

// Origins is what a file is traced with.
type Origins struct {
	State *state.State
	// Keys are the image keys that this machine signs and signed with.
	Keys *sign.Keyring
	// Repo are the keys that sign and signed for this machine's repository.
	Repo *sign.Keyring
	// Maintainers hold keys that may have signed a .changes; may be nil.
	Maintainers *sign.Keyring
	// Keyrings hold the archives' keys; empty: those installed for the suite.
	Keyrings []string
}

// Link is one link of the chain from a file to the key of an archive.
type Link struct {
	Link    string    `json:"link"` // "file", "origin", "changes", "build", "deps", "base", "archive"
	Name    string    `json:"name"` // of the file; of the build; suite of an image; URL and suite of an archive
	SHA256  string    `json:"sha256"`
	Signer  string    `json:"signer,omitempty"` // fingerprint of the key that vouches
	Date    time.Time `json:"date,omitzero"`    // when the link was made
	OK      bool      `json:"ok"`
	Problem string    `json:"problem,omitempty"`
	Note    string    `json:"note,omitempty"` // what was not looked at
}

// Traced is the chain of one file, up to the link that failed.
type Traced struct {
	File  string `json:"file"`
	Links []Link `json:"links"`
	// Switches are the checks that were off when the file was made.
	Switches []string `json:"switches"`
}

// statementsDir keeps the statement of every build, for as long as what was
// built may be around: for ever.
const statementsDir = "statements"

// Trace walks from a .deb or .udeb that this machine built to the key of the
// archive that its base image was made of. The chain ends with the link that is
// missing or wrong, and then the error, of class trust, names it. What was added
// to the file later is not part of what was built, but a signature of its origin
// (_gpgorigin) must be good.
func Trace(ctx context.Context, o Origins, path string) (t Traced, err error) {
	t = Traced{File: path, Switches: []string{}}
	name, sum, origin, err := o.readPackage(path)
	if err != nil {
		return t, fault.Wrap(fault.Input, err)
	}
	t.Links = append(t.Links, Link{Link: "file", Name: name, SHA256: sum, OK: true})
	if origin != nil {
		if origin.err != nil {
			return t, t.broken(origin.Link, origin.err)
		}
		t.Links = append(t.Links, origin.Link)
	}
	found, err := o.builds(sum)
	if err != nil {
		return t, err
	}
	if len(found) == 0 {
		return t, t.broken(Link{Link: "build"}, fault.New(fault.Trust, "no build of this state made it"))
	}
	return t.follow(ctx, o, found, name, sum)
}

// follow goes on from a file to the builds that made it. The same bytes may have
// been built several times: one whole chain is enough.
func (t Traced) follow(ctx context.Context, o Origins, found []signedBuild, name, sum string) (first Traced, firstErr error) {
	for i, build := range found {
		next := Traced{File: t.File, Switches: []string{}, Links: slices.Clone(t.Links)}
		var err error
		if err = next.walk(ctx, o, build, name, sum); err == nil || ctx.Err() != nil {
			return next, err
		}
		if i == 0 {
			first, firstErr = next, err
		}
	}
	return first, firstErr
}

// broken ends the chain with a link that does not hold.
func (t *Traced) broken(l Link, err error) error {
	l.OK, l.Problem = false, err.Error()
	t.Links = append(t.Links, l)
	return fault.Wrap(fault.Trust, fmt.Errorf("verify %q: link %s: %w", t.File, l.Link, err))
}

// originLink is the link of a signature inside of a package.
type originLink struct {
	Link
	err error // why it is broken
}

// readPackage returns the name of a package, its SHA-256 as it was built, and
// what is to be said of the signature of its origin, if there is one.
func (o Origins) readPackage(path string) (name, sum string, origin *originLink, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", "", nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return "", "", nil, err
	}
	if !fi.Mode().IsRegular() {
		return "", "", nil, fmt.Errorf("%q is not a regular file", path)
	}
	b, err := deb.OpenDeb(f, fi.Size())
	if err != nil {
		return "", "", nil, fmt.Errorf("read %q: %w", path, err)
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, b.BuiltSize)); err != nil {
		return "", "", nil, err
	}
	sig, err := b.Origin(f)
	if err != nil {
		return "", "", nil, fmt.Errorf("read %q: %w", path, err)
	}
	if sig != nil {
		origin = o.judgeOrigin(sig, func() io.Reader { return deb.ReadParts(f, b.Signed()) })
	}
	return filepath.Base(path), hex.EncodeToString(h.Sum(nil)), origin, nil
}

// judgeOrigin verifies the signature inside of a package, which may be older
// than the key lasted.
func (o Origins) judgeOrigin(sig []byte, signed func() io.Reader) *originLink {
	l := &originLink{Link: Link{Link: "origin", Name: deb.OriginMember}}
	by, err := o.Repo.VerifyStream(signed, sig, sign.Policy{LaxExpiry: true})
	l.OK, l.Date, l.Signer, l.err = err == nil, by.Created, cmp.Or(by.Fingerprint, by.KeyID), err
	if errors.Is(err, sign.ErrUnknownKey) {
		l.err = fault.WithHint(err, "this machine's repository did not sign it; ask debsig-verify, with the policy of who did")
	}
	return l
}

// signedBuild is the statement of a build, not verified.
type signedBuild struct {
	id        string
	data, sig []byte
}

// builds are the statements that have a hash in them, the newest first.
func (o Origins) builds(sum string) (found []signedBuild, err error) {
	files, err := filepath.Glob(o.State.Path(statementsDir, "*.json"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files) // a build's id begins with its time
	for _, path := range slices.Backward(files) {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if !bytes.Contains(data, []byte(sum)) {
			continue
		}
		b := signedBuild{id: strings.TrimSuffix(filepath.Base(path), ".json"), data: data}
		if b.sig, err = os.ReadFile(path + ".asc"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		found = append(found, b)
	}
	return found, nil
}

// walk follows the chain from one build on.
func (t *Traced) walk(ctx context.Context, o Origins, build signedBuild, name, sum string) error {
	chain := cache.OpenChain(o.State.Path("images"), o.Keys)
	digest := sha256.Sum256(build.data)
	l := Link{Link: "build", Name: build.id, SHA256: hex.EncodeToString(digest[:])}
	st, err := chain.Build(build.data, build.sig)
	made := func(f cache.File) bool { return f.SHA256 == sum }
	if err == nil && !slices.ContainsFunc(st.Artifacts, made) {
		err = fault.New(fault.Trust, "build %s did not make %q", build.id, name)
	}
	if err != nil {
		return t.broken(l, err)
	}
	t.good(l, st)
	archives := slices.Clone(st.Archive)
	suite := st.Suite
	for hash := st.Deps; hash != ""; hash = st.Parent {
		l := Link{Link: "image", SHA256: hash}
		if st, err = chain.Image(hash); err != nil {
			return t.broken(l, err)
		}
		l.Link, l.Name = string(st.Kind), st.Suite+"/"+st.Arch
		t.good(l, st)
		archives = append(archives, st.Archive...)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if st.Kind != cache.KindBase {
		return t.broken(Link{Link: "base"}, fault.New(fault.Trust, "no base image is named"))
	}
	return t.archives(o, suite, archives)
}

// good adds a link that a statement makes.
func (t *Traced) good(l Link, st cache.Statement) {
	l.Signer, l.Date, l.OK = st.Signer, st.Created, true
	t.Links = append(t.Links, l)
	for _, s := range st.Switches {
		if !slices.Contains(t.Switches, s) {
			t.Switches = append(t.Switches, s)
		}
	}
}

// own reports whether packages came from this state: they were given one by one,
// or are from the local repository.
func (o Origins) own(a cache.Archive) bool {
	return a.URL == archive.OneShotRoot || a.URL == (&url.URL{Scheme: "file", Path: o.State.Path("repo")}).String()
}

// archives follows the last links: the Release of each archive, and the key that
// signed it.
func (t *Traced) archives(o Origins, suite string, all []cache.Archive) error {
	keyrings := o.Keyrings
	if len(keyrings) == 0 {
		s, err := archive.FindSuite(suite)
		if err != nil {
			return t.broken(Link{Link: "archive"}, err)
		}
		sources, err := s.Sources(archive.SourceOptions{})
		if err != nil {
			return t.broken(Link{Link: "archive"}, err)
		}
		keyrings = sources[0].Keyrings
	}
	ring, err := sign.OpenKeyring(keyrings...)
	if err != nil {
		return t.broken(Link{Link: "archive"}, err)
	}
	seen := map[string]bool{}
	for _, a := range all {
		if seen[a.InRelease] {
			continue
		}
		seen[a.InRelease] = true
		ring := ring
		if o.own(a) { // this machine's repository key signed it
			ring = o.Repo
		}
		l := Link{Link: "archive", Name: a.URL + " " + a.Suite, SHA256: a.InRelease, Signer: a.SignedBy, Date: a.Date, OK: true}
		rel, err := archive.VerifyPast(o.State.Path("archive"), a.InRelease, ring, a.SignedBy)
		if err == nil && !rel.Date.Equal(a.Date) {
			err = fault.New(fault.Trust, "its Date is %s", rel.Date.UTC().Format(time.RFC3339))
		}
		if errors.Is(err, sign.ErrUnknownKey) {
			err = fault.WithHint(err, "keys were read from %s; name another with --keyring", strings.Join(keyrings, ", "))
		}
		if err != nil {
			return t.broken(l, err)
		}
		t.Links = append(t.Links, l)
	}
	if len(seen) == 0 {
		return t.broken(Link{Link: "archive"}, fault.New(fault.Trust, "no archive is named"))
	}
	return nil
}
