package dsc

import (
	"time"

	"dbuild/deb"
	"dbuild/sign"
)

// Source is one source package: a verified .dsc with its files, or a tree.
type Source struct {
	Name         string
	Version      deb.Version
	Format       string   // "1.0", "3.0 (native)" or "3.0 (quilt)"
	Architecture []string // of the binaries it can build: "all", "any", "amd64", "linux-any", …
	Binary       []string // names of the binary packages

	// Paragraph is the .dsc, or the source stanza of a tree's debian/control.
	// Both carry the same relationship fields, see [Source.BuildDepends].
	Paragraph *deb.Paragraph

	Dsc       File   // zero for a tree
	Files     []File // what the .dsc lists, in its order
	Signature Signed // of the .dsc
	Origin    string // the path or URL that was read, without credentials
	Component string // "main", "contrib", …: from the archive, else from the Section, else "main"

	// The following are set for a tree. For a .dsc, [Source.ReadPackaging]
	// gets them from inside the package.
	Tree string // absolute path of the directory that holds debian/
	Packaging
}

// Packaging is what can be learnt from the debian directory alone.
type Packaging struct {
	Control   *deb.Paragraph       // source stanza of debian/control
	Binaries  []*deb.Paragraph     // its binary stanzas
	Changelog []deb.ChangelogEntry // the newest entries of debian/changelog, at least one
}

// Entry returns the newest changelog entry, or nil if it was not read.
func (p *Packaging) Entry() *deb.ChangelogEntry {
	if len(p.Changelog) == 0 {
		return nil
	}
	return &p.Changelog[0]
}

// RulesRequiresRoot returns the field of that name (Policy 5.6.31), or "" if it
// is absent or debian/control was not read.
func (p *Packaging) RulesRequiresRoot() string {
	if p.Control == nil {
		return ""
	}
	return p.Control.Get("Rules-Requires-Root")
}

// Options of reading a .dsc. The zero value reads without judging signatures.
type Options struct {
	// Keyring has the keys of those who may sign. Without it a signature
	// is reported as unverified.
	Keyring *sign.Keyring
	// Allowed lists the primary fingerprints that count, as in [sign.Policy].
	Allowed []string
	// RequireSignature refuses a .dsc without a good signature.
	RequireSignature bool
	Now              time.Time // zero: the current time
	Offline          bool      // refuse to ask for a URL
}

// AllFiles returns the .dsc and its files.
func (s *Source) AllFiles() []File {
	if s.Dsc.Name == "" {
		return s.Files
	}
	return append([]File{s.Dsc}, s.Files...)
}

// ID is "name_version" without epoch, as file names begin.
func (s *Source) ID() string { return s.Name + "_" + s.Version.NoEpoch() }
