package buildenv

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"

	"dbuild/dsc"
	"dbuild/internal/fault"
	"dbuild/sign"
)

// TraceChanges traces a .changes, and every package that it lists after comparing
// it with its row. It returns all chains, that of the .changes first; the error
// joins those of the broken ones.
func TraceChanges(ctx context.Context, o Origins, path string) (all []Traced, err error) {
	doc, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.Wrap(fault.Input, err)
	}
	changes, err := dsc.ReadChanges(doc)
	if err != nil {
		return nil, err
	}
	t, err := traceUpload(ctx, o, path, doc, changes.Signed)
	all, errs := []Traced{t}, []error{err}
	for _, f := range changes.Files {
		if !isBinary(f.Name) {
			continue
		}
		beside := filepath.Join(filepath.Dir(path), f.Name)
		size, sum, err := hashFile(beside)
		if err != nil {
			return all, fault.Wrap(fault.Input, err)
		}
		if size != f.Size || sum != f.SHA256 {
			t := Traced{File: beside, Switches: []string{}}
			errs = append(errs, t.broken(Link{Link: "file", Name: f.Name, SHA256: sum}, fault.New(fault.Trust, "the .changes lists SHA-256 %s", f.SHA256)))
			all = append(all, t)
			continue
		}
		t, err := Trace(ctx, o, beside)
		all, errs = append(all, t), append(errs, err)
	}
	if len(all) == 1 {
		return nil, fault.New(fault.Usage, "%q lists no package", path)
	}
	return all, errors.Join(errs...)
}

// traceUpload follows the chain of a .changes itself: a build made it as it is,
// with the maintainer's signature if that was asked for, or it was signed later by
// a known key. A signature that does not fit ends the chain in any case.
func traceUpload(ctx context.Context, o Origins, path string, doc []byte, signed bool) (Traced, error) {
	t := Traced{File: path, Switches: []string{}}
	digest := sha256.Sum256(doc)
	sum := hex.EncodeToString(digest[:])
	l := Link{Link: "changes", Name: filepath.Base(path), SHA256: sum, OK: true}
	vouched := false
	if signed {
		_, by, err := o.maintainers().VerifyClearsigned(doc, sign.Policy{LaxExpiry: true})
		switch {
		case err == nil:
			l.Signer, l.Date, vouched = by.Fingerprint, by.Created, true
		case errors.Is(err, sign.ErrUnknownKey):
			l.Note = "who signed it is not known, " + cmp.Or(by.Fingerprint, by.KeyID)
		default:
			return t, t.broken(l, err)
		}
	}
	t.Links = append(t.Links, l)
	found, err := o.builds(sum)
	switch {
	case err != nil:
		return t, err
	case len(found) > 0:
		return t.follow(ctx, o, found, l.Name, sum)
	case vouched:
		return t, nil
	}
	err = fault.New(fault.Trust, "no build of this state made it, and no known key signed it")
	if signed {
		err = fault.WithHint(err, "name the keyring of who did with --maintainer-keyring")
	}
	return t, t.broken(Link{Link: "build"}, err)
}

// maintainers are the keys that may have signed a .changes.
func (o Origins) maintainers() *sign.Keyring {
	if o.Maintainers == nil {
		return &sign.Keyring{}
	}
	return o.Maintainers
}
