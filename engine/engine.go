// Package engine is the contract between dbuild and whatever runs its
// containers: an [Engine] holds images and makes containers, a [Container] runs
// steps and hands out files. The implementations live in engine/native and
// engine/docker and pass the suite in engine/enginetest.
//
// Rules that hold for every engine:
//
//   - Nothing in a container reaches the host: no host path, descriptor,
//     device, process or (unless asked for) network.
//   - Files go in and come out over the agent's own streams, resolved inside
//     the container by the agent. No host tool opens them.
//   - A container's writable layer is its own; two containers never share one.
//   - The end of an output stream is not the end of a process, and exit code 0
//     counts only with the agent's own end record.
//   - Everything made outside this process carries the state's id, so that
//     [Engine.Reap] finds what a killed dbuild left behind.
//
// The Go API is not stable yet.
package engine

import (
	"context"
	"errors"
	"io"
	"time"

	"dbuild/internal/fault"
	"dbuild/internal/tree"
)

// Sentinel errors. Callers use errors.Is.
var (
	ErrNotFound    = errors.New("not found")            // no such image, tree or kept container
	ErrInUse       = errors.New("in use")               // the image is the parent of another or a container runs from it
	ErrUnsupported = errors.New("not supported")        // this engine or kernel cannot do it
	ErrNoSpace     = errors.New("no space left")        // on the engine's store
	ErrLost        = errors.New("container lost")       // the agent's stream ended before the end record
	ErrDamaged     = errors.New("image is damaged")     // stored files differ from the seal or digest
	ErrNotQuiet    = errors.New("container is running") // GetFiles or Commit before Quiesce
	ErrTooMuch     = errors.New("limit exceeded")       // a GetFiles limit
)

// Unusable is err with a hint that also names the verb which looks for all that
// an engine needs and mostly knows the command that mends it.
func Unusable(err error) error {
	const verb = "dbuild doctor shows what works here"
	hint := fault.HintOf(err)
	switch {
	case fault.ClassOf(err) != fault.Engine:
		return err
	case hint == "":
		return fault.WithHint(err, verb)
	}
	return fault.WithHint(err, "%s; %s", hint, verb)
}

// ImageID names an image within one engine; opaque, and never a tag.
type ImageID string

// TreeID names a read-only directory known to the engine.
type TreeID string

// Info describes an engine.
type Info struct {
	Kind     string            // "native", "docker"
	ID       string            // stable id of the store or daemon
	Version  string            // of the engine
	Arch     string            // Debian architecture that runs without emulation
	Features []string          // "userns", "seccomp", "cgroup-pids", …
	Limits   []string          // the limits it can enforce: "pids", "memory", "disk"
	Partly   map[string]string // further limits that it enforces in part, and how
}

// Config is kept with an image; it never influences what runs.
type Config struct {
	Tag    string            // decoration for people, "base:bookworm-amd64"
	Labels map[string]string // "dbuild.state" and the like
}

// Image is a stored root file system.
type Image struct {
	ID      ImageID
	Parent  ImageID // the image that this one was committed on, or ""
	Layers  int     // length of the chain, 1 for an imported image
	Size    int64   // bytes of content of its own layer
	Created time.Time
	Config  Config
}

// Engine holds images and makes containers. Its methods are safe for
// concurrent use, also by several processes on one store.
type Engine interface {
	// Info needs no container and no network.
	Info(ctx context.Context) (Info, error)

	// Import stores the canonical tar (see internal/tree) as an image. It is
	// atomic: on error nothing is left. Entries outside the root, device nodes
	// and unknown types are refused.
	Import(ctx context.Context, tar io.Reader, cfg Config) (Image, error)

	// Export writes the image's merged tree as canonical tar.
	Export(ctx context.Context, id ImageID, w io.Writer) error

	// Digest reads every byte of the image's merged tree again and returns its
	// canonical digest, which is the same on every engine. See also [Sealer].
	Digest(ctx context.Context, id ImageID) (tree.Digest, error)

	// Image returns one image, Images all of them; ErrNotFound.
	Image(ctx context.Context, id ImageID) (Image, error)
	Images(ctx context.Context) ([]Image, error)

	// Remove deletes an image. ErrInUse while another image or a container
	// stands on it; removing a missing image is ErrNotFound.
	Remove(ctx context.Context, id ImageID) error

	// Tag changes the decoration only.
	Tag(ctx context.Context, id ImageID, tag string) error

	// Tree makes a host directory available under a name as a read-only tree:
	// bound if the engine is local, else sent once. The directory must not
	// change while containers use it, except that files may be added. Calling
	// it again with equal arguments is cheap; afterwards containers that have
	// the tree see the files that were added before the call.
	Tree(ctx context.Context, name, dir string) (TreeID, error)

	// Create makes a container in which only the agent runs. The caller closes
	// it. If Create fails nothing is left.
	Create(ctx context.Context, spec Spec) (Container, error)

	// Reap removes what killed processes left: containers, staged layers. Only
	// things of this state, and only those whose owner is dead. It returns
	// how many there were.
	Reap(ctx context.Context) (int, error)

	// Close releases the engine; containers that are still open are closed.
	Close() error
}

// Sealer is the optional power of engines whose store is a local file system:
// a seal lists inode, size, mode, owner and ctime of every stored file, so that
// a later change is found without reading contents.
type Sealer interface {
	// Seal returns the digest of the image's merged tree together with its
	// seal, in one pass over the image's own layer (a parent's part is taken
	// from parentSeal, which must have been checked; nil for none).
	Seal(ctx context.Context, id ImageID, parentSeal []byte) (tree.Digest, []byte, error)
	// CheckSeal compares the stored files with the seal. A file whose ctime
	// alone differs is hashed again. ErrDamaged names the first difference.
	CheckSeal(ctx context.Context, id ImageID, seal []byte) error
}

// Purpose decides what a container may do.
type Purpose string

// The purposes. Deps and build never share a container.
const (
	PurposeDeps  Purpose = "deps"  // root of the namespace: bootstrap, install build dependencies
	PurposeBuild Purpose = "build" // an ordinary user without capabilities, seccomp, no-new-privileges
	PurposeShell Purpose = "shell" // root of the namespace: login and execute
)

// Network says what a container can reach.
type Network string

// The networks.
const (
	NetworkNone Network = "none" // only lo, which is up
	NetworkHost Network = "host"
)

// Mount places a read-only tree in a container.
type Mount struct {
	Tree   TreeID
	Target string // absolute; made in the container's own /run if it lies there, else it must exist
}

// Limit is a bound on one resource.
type Limit struct {
	Value    int64 // 0: none
	Required bool  // refuse with ErrUnsupported when it cannot be enforced
}

// Limits bound a container as a whole.
type Limits struct {
	PIDs, Memory, Disk Limit // count, bytes, bytes
}

// Spec describes a container. It holds no host paths.
type Spec struct {
	Image   ImageID // "": an empty root, for the bootstrap (PurposeDeps only)
	Purpose Purpose
	Network Network
	Trees   []Mount
	// Areas are directories for many short-lived files. An engine may make them
	// and put them where writing is faster than in the writable layer; a Commit
	// may lack what is in them, Keep does not.
	Areas    []string
	Hostname string
	Arch     string // Debian architecture of the payload
	Limits   Limits
	Labels   map[string]string
}

// User is a numeric user inside the container.
type User struct{ UID, GID int }

// Root is the container's root.
var Root = User{0, 0}

// TTY asks for a fresh pseudo terminal in place of pipes; stderr then joins
// stdout.
type TTY struct {
	Rows, Cols uint16
	Resize     <-chan [2]uint16 // rows, columns; may be nil
}

// Step is one command.
type Step struct {
	Argv   []string
	Env    []string // the complete environment
	Dir    string   // "" is /
	User   User
	Umask  int       // 0 means 022
	Stdin  io.Reader // nil: /dev/null
	Stdout io.Writer // nil: dropped
	Stderr io.Writer // nil: joins Stdout
	TTY    *TTY

	Timeout time.Duration // whole step; 0: none
	Idle    time.Duration // silence on stdout and stderr; 0: none
}

// Reason says why a step ended other than by itself.
type Reason string

// The reasons.
const (
	ReasonNone    Reason = ""
	ReasonOOM     Reason = "oom"
	ReasonPIDs    Reason = "pids"
	ReasonDisk    Reason = "disk"
	ReasonTimeout Reason = "timeout" // Step.Timeout
	ReasonIdle    Reason = "idle"    // Step.Idle
	ReasonLost    Reason = "lost"
)

// Exit is how a step ended. Code is -1 when a signal ended it.
type Exit struct {
	Code   int
	Signal int // number of the signal, or 0
	Reason Reason
}

// OK reports whether the step ended by itself with exit code 0.
func (e Exit) OK() bool { return e.Code == 0 && e.Signal == 0 && e.Reason == ReasonNone }

// PutOptions say how PutFiles treats its stream.
type PutOptions struct {
	// Dir is where in the container the tar is unpacked; "" is /.
	Dir string
	// Decoder, if set, is a command of the container (such as "/usr/bin/xz",
	// "-dc") that turns the stream into a plain tar. It runs as root of the
	// namespace, so it is for verified streams and scratch containers only.
	Decoder []string
	// KeepDirs leaves mode, owner and time of directories that exist already,
	// and treats a link to a directory as that directory, as dpkg does.
	KeepDirs bool
}

// PutEntry is one unpacked entry, in stream order.
type PutEntry struct {
	Name string // as in the tar, cleaned: no leading "./" or "/", no trailing "/"
	Type byte   // archive/tar type flag
	Link string // link target
	Mode int64
	UID  int
	GID  int
	Size int64
}

// GetLimits bound what GetFiles takes.
type GetLimits struct {
	Files int
	Bytes int64 // of all files together
}

// GotFile is the head of one regular file that GetFiles hands out.
type GotFile struct {
	Name  string // as asked for
	Mode  int64  // permission bits
	Size  int64
	MTime time.Time
}

// Container is one throwaway container. Methods are called one at a time,
// except that Run may be called while another Run is under way, PutFiles as it
// says, and Close at any time.
type Container interface {
	// ID is unique within the engine and safe as a file name.
	ID() string

	// PutFiles unpacks a plain tar (or one that opts.Decoder makes plain)
	// inside the container, with the owners that the tar names. Only before the
	// first Run, except in scratch containers, where a Run may even be under
	// way. Several calls may be under way at once when their entries do not
	// overlap. The entries come back in stream order.
	PutFiles(ctx context.Context, tar io.Reader, opts PutOptions) ([]PutEntry, error)

	// Run runs a step to its end; any number of times. The error is nil
	// whenever the step ran, whatever its exit. When ctx ends the step's
	// processes are killed and ctx.Err() is returned. ErrLost when the agent
	// vanished; where it is known that the kernel killed it for want of memory,
	// that is the step's exit, and ErrLost what comes of using the container on.
	Run(ctx context.Context, step Step) (Exit, error)

	// Quiesce kills and reaps every process but the agent.
	Quiesce(ctx context.Context) error

	// GetFiles calls fn for each named regular file below dir, in order, after
	// Quiesce. Names are base names. A file that is missing, not regular, has
	// more than one link, or lies behind a symlink is an error that names it.
	// A name of "*" asks for every regular file directly in dir. fn reads the whole content.
	GetFiles(ctx context.Context, dir string, names []string, lim GetLimits, fn func(GotFile, io.Reader) error) error

	// Commit makes an image of the container's root, after Quiesce; the
	// container can only be closed afterwards. What engines replace (/dev,
	// /proc, /sys, /run, /tmp) is left out. Atomic.
	Commit(ctx context.Context, cfg Config) (Image, error)

	// Keep ends the container but keeps its writable layer under the
	// container's ID for a later Create with Spec.Image = ImageID(ID).
	Keep(ctx context.Context) (ImageID, error)

	// Close kills what runs and removes the container. Idempotent; works with
	// any context; nothing is left afterwards.
	Close(ctx context.Context) error
}
