package archive

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"dbuild/deb"
	"dbuild/internal/fault"
	"dbuild/sign"
)

// State is one source at one moment: its verified Release and how that was
// come by.
type State struct {
	Source    Source
	Release   *deb.Release
	InRelease []byte    // nil for an extra source that has only Release and Release.gpg
	Text      []byte    // the signed text, as Release was parsed from it
	Signature []byte    // Release.gpg when InRelease is nil
	SHA256    string    // of InRelease, else of Text; lower-case hex
	SignedBy  string    // primary fingerprint
	Date      time.Time // of the Release
	Expired   bool      // past its Valid-Until, used because of AllowExpired

	// Fresh says how: "checked" (a new Release), "unchanged" (asked, the same
	// as before), "kept" (the mirror has an older one), "max-age" and
	// "offline" (not asked).
	Fresh string
}

// How far the clocks of an archive and this machine may disagree.
const maxAhead = time.Hour

// maxRelease bounds a Release file, as apt does.
const maxRelease = 10_000_000

// signed is a Release file with its signature, in one document or two.
type signed struct {
	inRelease          []byte
	release, signature []byte // when inRelease is nil
}

func (d signed) sha256() string {
	doc := d.inRelease
	if doc == nil {
		doc = d.release
	}
	sum := sha256.Sum256(doc)
	return hex.EncodeToString(sum[:])
}

// verify checks signature, suite and dates of a Release file and returns the
// state. It does not compare with what was seen before.
func (c *Copy) verify(src Source, ring *sign.Keyring, d signed) (*State, error) {
	now := c.opt.Now()
	pol := sign.Policy{Allowed: src.AllowedKeys, Now: now}
	st := &State{Source: src, InRelease: d.inRelease, Signature: d.signature, SHA256: d.sha256()}
	var sig sign.Signature
	var err error
	if d.inRelease != nil {
		st.Text, sig, err = ring.VerifyClearsigned(d.inRelease, pol)
	} else {
		st.Text = d.release
		sig, err = ring.VerifyDetached(d.release, d.signature, pol)
	}
	if err != nil {
		return nil, signatureError(src, err)
	}
	st.SignedBy = sig.Fingerprint
	if st.Release, err = deb.ParseRelease(st.Text); err != nil {
		return nil, fault.New(fault.Trust, "read Release of %s: %w", src.label(), err)
	}
	st.Date = st.Release.Date
	if err := c.checkSuite(st); err != nil {
		return nil, err
	}
	return st, c.checkDates(st, now)
}

func signatureError(src Source, err error) error {
	err = fault.Wrap(fault.Trust, fmt.Errorf("verify Release of %s: %w", src.label(), err))
	switch {
	case errors.Is(err, sign.ErrUnknownKey), errors.Is(err, sign.ErrKeyExpired), errors.Is(err, sign.ErrKeyRevoked):
		return fault.WithHint(err, "keys were read from %s; upgrade the package that has it, or name another with --keyring",
			strings.Join(src.Keyrings, ", "))
	case errors.Is(err, sign.ErrUnsigned), errors.Is(err, sign.ErrFraming):
		return fault.WithHint(err, "what answers at %s may not be a Debian archive", RedactURL(src.URL))
	}
	return err
}

// checkSuite refuses the Release of another suite, which a hostile mirror can
// serve with a perfect signature. The name asked for must be the Suite or the
// Codename, since either may be used below dists/; a Codename that is known
// must agree too, since stable is another suite every two years.
func (c *Copy) checkSuite(st *State) error {
	src, rel := st.Source, st.Release
	want := strings.Trim(path.Clean("/"+src.Suite), "/")
	named := rel.Suite == want || rel.Codename == want
	if src.Flat && src.Codename == "" {
		return nil
	}
	if (named || src.Flat) && (src.Codename == "" || rel.Codename == src.Codename) {
		return nil
	}
	if src.Extra {
		c.opt.Report.Warn("%s calls itself suite %q, codename %q", src.label(), rel.Suite, rel.Codename)
		return nil
	}
	err := fault.New(fault.Trust, "check Release of %s: it is of suite %q, codename %q, expected %q", src.label(),
		rel.Suite, rel.Codename, cmp.Or(src.Codename, want))
	return fault.WithHint(err, "the mirror serves a wrong file; try another with --mirror")
}

// checkDates is the freshness rule: not from the future, not past Valid-Until
// unless that is allowed for this run.
func (c *Copy) checkDates(st *State, now time.Time) error {
	rel, label := st.Release, st.Source.label()
	if rel.Date.After(now.Add(maxAhead)) {
		err := fault.New(fault.Trust, "check Release of %s: its date %s is %s ahead", label,
			rel.Date.UTC().Format(time.RFC3339), rel.Date.Sub(now).Round(time.Minute))
		return fault.WithHint(err, "check the clock of this machine")
	}
	if rel.ValidUntil.IsZero() || !now.After(rel.ValidUntil) {
		return nil
	}
	until := rel.ValidUntil.UTC().Format(time.RFC3339)
	if !c.opt.AllowExpired {
		err := fault.New(fault.Trust, "check Release of %s: it expired on %s", label, until)
		return fault.WithHint(err, "try another mirror with --mirror, or --allow-expired for this run")
	}
	st.Expired = true
	c.opt.Report.Warn("%s expired on %s and is used because that was allowed", label, until)
	return nil
}

// check refuses a source whose parts could not be put into URLs, paths and
// sources.list(5) as they are.
func (s Source) check() error {
	if err := s.checkRoot(); err != nil {
		return err
	}
	suite := s.Suite
	if s.Flat {
		suite = cmp.Or(s.dir(), "root")
	}
	for _, part := range append([]string{suite}, s.Components...) {
		if err := deb.CheckPath(part); err != nil {
			return fault.New(fault.Usage, "source %s: suite or component: %w", RedactURL(s.URL), err)
		}
	}
	return nil
}

// allArch says whether apt reads the index of architecture-independent
// packages beside that of an architecture: when the Release names the
// architecture all and does not say that its other indexes have them too.
func (st *State) allArch() bool {
	return slices.Contains(st.Release.Architectures, "all") &&
		!slices.Contains(strings.Fields(st.Release.NoSupportForAll), "Packages")
}
