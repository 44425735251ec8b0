package cache

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"dbuild/internal/fault"
	"dbuild/internal/tree"
)

// Version is the version of the statement format that this package writes, and
// the only one it reads.
const Version = 1

// EngineFormat counts changes of how engines lay out or run images; images of
// another format are not used.
const EngineFormat = 1

// maxStatement bounds a statement's bytes: some 25,000 packages.
const maxStatement = 4 << 20

// Kind is what a statement is about.
type Kind string

// The kinds of statement.
const (
	KindBase  Kind = "base"  // a bootstrapped root file system
	KindDeps  Kind = "deps"  // a base or deps image with build dependencies added
	KindBuild Kind = "build" // the files that one build made
)

// Package is one installed binary package.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Arch    string `json:"arch"`
	SHA256  string `json:"sha256"` // of the .deb, 64 hex digits
}

// Archive is the state of one suite that packages came from.
type Archive struct {
	URL       string    `json:"url"`
	Suite     string    `json:"suite"`            // name below dists/
	Date      time.Time `json:"date"`             // of the Release file
	InRelease string    `json:"inrelease_sha256"` // 64 hex digits
	SignedBy  string    `json:"signed_by"`        // fingerprint of the primary key
}

// Stored says where the image of a statement is.
type Stored struct {
	Kind  string `json:"kind"`  // of the engine
	ID    string `json:"id"`    // of the engine
	Image string `json:"image"` // [engine.ImageID]
	Seal  string `json:"seal"`  // SHA-256 of the seal, 64 hex digits; "" for engines that do not seal
}

// File is a file that a build used or made.
type File struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
	// Published is the SHA-256 of the repository's copy, if a signature was
	// added to that.
	Published string `json:"published,omitempty"`
}

// Origin is the statement of another machine that an imported image came with.
// It is kept among the retired ones.
type Origin struct {
	Statement string `json:"statement"` // hash
	Signer    string `json:"signer"`    // fingerprint
}

// Statement is a signed claim of this machine. Fields that do not fit the kind
// are empty. [Store.AddBase], [Store.AddDeps] and [Store.SignBuild] fill in
// what they know: V, EngineFormat, Kind, Seq, Tree, Parent, Created, SetID,
// Engine and Signer.
type Statement struct {
	V            int         `json:"v"`
	EngineFormat int         `json:"engine_format"`
	Kind         Kind        `json:"kind"`
	Seq          int64       `json:"seq"`    // of the head that first lists it; 0 for builds
	Tree         tree.Digest `json:"tree"`   // "" for builds
	Parent       string      `json:"parent"` // hash of the statement of the image below; "" for a base
	Suite        string      `json:"suite"`
	Components   []string    `json:"components"`
	Arch         string      `json:"arch"`
	HostArch     string      `json:"host_arch"`
	Variant      string      `json:"variant"`
	Recipe       string      `json:"recipe"` // version of the way the base was made
	Archive      []Archive   `json:"archive"`
	Packages     []Package   `json:"packages"` // all that are installed, sorted
	Steps        []string    `json:"steps"`    // what was done on top of the base, one line each
	Created      time.Time   `json:"created"`
	Tool         string      `json:"tool"`     // name and version of dbuild
	Switches     []string    `json:"switches"` // checks that were off, other keyring or mirror; sorted
	SetID        []string    `json:"setid"`    // files that raise their caller's rights
	Engine       Stored      `json:"engine"`
	Source       []File      `json:"source,omitempty"`    // of a build: the .dsc and its files
	Deps         string      `json:"deps,omitempty"`      // of a build: hash of the statement of its image
	Artifacts    []File      `json:"artifacts,omitempty"` // of a build
	Imported     *Origin     `json:"imported,omitempty"`  // of an image that another machine made
	Signer       string      `json:"signer"`              // fingerprint
}

// Marshal returns the canonical form: compact JSON in the order of the fields,
// empty lists as [], times in UTC and whole seconds, one newline at the end.
func (st Statement) Marshal() ([]byte, error) {
	st.Components, st.Steps = list(st.Components), list(st.Steps)
	st.Switches, st.SetID = list(st.Switches), list(st.SetID)
	st.Packages = list(st.Packages)
	st.Archive = append([]Archive{}, st.Archive...)
	for i := range st.Archive {
		st.Archive[i].Date = whole(st.Archive[i].Date)
	}
	st.Created = whole(st.Created)
	return canonical(st)
}

// list turns nil into an empty list, which JSON tells apart.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

func whole(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// canonical encodes v as one line.
func canonical(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return b.Bytes(), nil
}

var errNotCanonical = errors.New("not in canonical form")

// ParseStatement reads the canonical form and nothing else; the error is of
// class input. It does not verify a signature.
func ParseStatement(data []byte) (Statement, error) {
	var st Statement
	if len(data) > maxStatement {
		return st, fault.New(fault.Input, "read statement: %d bytes are too many", len(data))
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&st); err != nil {
		return st, fault.New(fault.Input, "read statement: %w", err)
	}
	if st.V != Version {
		return st, fault.New(fault.Input, "read statement: version %d is not known", st.V)
	}
	again, err := st.Marshal()
	if err != nil || !bytes.Equal(again, data) {
		return st, fault.New(fault.Input, "read statement: %w", errNotCanonical)
	}
	switch st.Kind {
	case KindBase, KindDeps, KindBuild:
	default:
		return st, fault.New(fault.Input, "read statement: kind %q is not known", st.Kind)
	}
	if (st.Kind == KindDeps) != (st.Parent != "") {
		return st, fault.New(fault.Input, "read statement: a %s statement with parent %q", st.Kind, st.Parent)
	}
	return st, nil
}

// hashOf names bytes: 64 hex digits.
func hashOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
