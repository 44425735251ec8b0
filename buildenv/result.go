package buildenv

import (
	"time"

	"dbuild/internal/fault"
)

// Status is the last word on a build, as sbuild spells it.
type Status string

// The statuses.
const (
	Successful Status = "successful"
	Failed     Status = "failed"
	Skipped    Status = "skipped" // nothing to do for this architecture
)

// Result is the outcome of a build: the last line of --json and
// builds/ID/result.json. Its JSON form is described in docs/formats.md; fields
// are only ever added.
type Result struct {
	V         int         `json:"v"`
	Time      time.Time   `json:"time"`
	Event     string      `json:"event"` // "result"
	Build     string      `json:"build"`
	Status    Status      `json:"status"`
	Class     fault.Class `json:"class"`
	FailStage string      `json:"fail_stage"`
	Exit      int         `json:"exit"`
	Source    string      `json:"source"`
	Version   string      `json:"version"`
	Suite     string      `json:"suite"`
	Arch      string      `json:"arch"`
	Engine    string      `json:"engine"`

	Base BaseResult `json:"base"`
	Deps DepsResult `json:"deps"`

	// Reused is the id of the earlier build whose result this is; "" for one
	// that was built now.
	Reused string `json:"reused,omitempty"`

	Signature string             `json:"signature"` // of the .dsc: "good", "none", "unknown-key", …
	Checked   []string           `json:"checked"`   // which image checks ran
	Limits    map[string]string  `json:"limits"`    // limit → "enforced" or why not
	Stages    map[string]float64 `json:"stages"`    // seconds
	Timings   map[string]float64 `json:"timings"`   // seconds of what lies within a stage, see the constants
	Log       string             `json:"log"`
	Artifacts []Artifact         `json:"artifacts"`
	Repo      *RepoResult        `json:"repo,omitempty"`
	Error     *ErrorResult       `json:"error,omitempty"`
}

// The parts of a stage that are timed.
const (
	TimingArchive   = "archive-check" // whether the archives changed, and their signatures
	TimingImage     = "image-check"   // of the image to build in, beside the next
	TimingContainer = "container"     // to build in: its start, and sending the source
)

// BaseResult says which base image was used.
type BaseResult struct {
	Digest      string    `json:"digest"`
	Created     time.Time `json:"created"`
	ArchiveDate time.Time `json:"archive_date"`
	Hit         bool      `json:"hit"` // false: it was made for this build
}

// DepsResult says which image with build dependencies was used and what it cost.
type DepsResult struct {
	Key             string `json:"key"`
	Digest          string `json:"digest"`
	Packages        int    `json:"packages"` // beyond the base
	Hit             bool   `json:"hit"`
	Match           Match  `json:"match"`
	Ancestor        string `json:"ancestor,omitempty"` // of a near match: digest of the image it was made on
	Why             string `json:"why,omitempty"`      // of a miss: why no cached image was near
	Memo            bool   `json:"memo"`               // the resolver did not have to run
	Installed       int    `json:"installed"`
	Downloaded      int    `json:"downloaded"`
	DownloadedBytes int64  `json:"downloaded_bytes"`

	Extra []string `json:"extra,omitempty"` // packages of the set that are not of the suite: "foo 1.0 (extra-package)"

	Changes []DepsChange `json:"changes,omitempty"` // of a near match
}

// Match says how near a cached image was.
type Match string

// The matches.
const (
	MatchHit  Match = "hit"  // an image with exactly the wanted set was there, or the base is one
	MatchNear Match = "near" // packages were added to an image that holds a part of the set
	MatchMiss Match = "miss" // it was made on the base
)

// DepsChange is one package that was added to a cached image, or replaced in
// it.
type DepsChange struct {
	Name     string `json:"name"`
	Arch     string `json:"arch"`
	Version  string `json:"version"`
	Replaces string `json:"replaces,omitempty"` // the version that was there
	Why      string `json:"why"`
}

// Artifact is one file that was handed out.
type Artifact struct {
	Name   string `json:"name"`
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// RepoResult says where the binaries were published.
type RepoResult struct {
	Path  string `json:"path"`
	Suite string `json:"suite"`
}

// ErrorResult is the error for programs.
type ErrorResult struct {
	Message string   `json:"message"`
	Hint    string   `json:"hint"`
	Excerpt []string `json:"excerpt"` // the last lines of the log, control characters escaped
}
