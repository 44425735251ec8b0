// Package native is the embedded engine: no daemon and no helper program, only
// a Linux kernel (5.12 or newer) with user namespaces and overlayfs.
//
// Every container runs in a user namespace of its own that maps ids 0..65535
// to one range of host ids. Layers are unpacked inside such a namespace and
// stored with the host's side of that map, which the store records. All mounts
// of a container exist in its mount namespace only, so when its agent is gone
// nothing is left but a directory below containers/; that directory is locked
// by the process that owns it, which is how [Engine.Reap] knows the dead.
//
// An ordinary user has no such range, and no right to mount: dbuild then runs as
// root of an outer user namespace (package userns), in which ids 1 and up are the
// user's subordinate ids, and everything else is as for root.
//
// The store:
//
//	store.json          id and id map of the store
//	records/ID.json     an image; written last, so an image exists or does not
//	layers/ID/root      the files of an image's own layer
//	containers/ID/      root, work, tmp of a live (or lost) container
package native

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

	"dbuild/engine"
	"dbuild/internal/report"
)

// DefaultIDBase is the first of the 65536 host user and group ids that the ids
// of containers are mapped to when dbuild runs as root. It lies above what
// useradd, systemd-nspawn and LXD give out and below systemd's foreign range.
const DefaultIDBase = 2_000_000_000

// IDCount is how many ids a container has.
const IDCount = 65536

// version of this engine, in [engine.Info].
const version = "1"

// Options configure [Open].
type Options struct {
	Dir    string          // the store; made if missing, on a local file system
	State  string          // the state's random id, [a-z0-9-]
	IDBase int             // first host id; 0: what the store records, else [DefaultIDBase]
	Report report.Reporter // nil: [report.Discard]
}

// Engine implements [engine.Engine] and [engine.Sealer].
type Engine struct {
	dir     string
	state   string
	store   storeRecord
	report  report.Reporter
	starter *starter
	cgroups cgroups

	mu     sync.Mutex
	open   map[*container]bool
	trees  map[engine.TreeID]string
	closed bool
}

var (
	_ engine.Engine = (*Engine)(nil)
	_ engine.Sealer = (*Engine)(nil)
)

// Open opens the store below o.Dir, making it if needed. It needs root, of the
// host or of a namespace that [userns.Enter] made. The caller closes the engine.
func Open(ctx context.Context, o Options) (*Engine, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := checkHost(); err != nil {
		return nil, err
	}
	if o.Report == nil {
		o.Report = report.Discard
	}
	store, err := openStore(o.Dir, o.IDBase)
	if err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	return &Engine{
		dir:     o.Dir,
		state:   o.State,
		store:   store,
		report:  o.Report,
		starter: newStarter(),
		cgroups: findCgroups(),
		open:    map[*container]bool{},
		trees:   map[engine.TreeID]string{},
	}, nil
}

// Info needs no container and no network.
func (e *Engine) Info(context.Context) (engine.Info, error) {
	info := engine.Info{
		Kind:     "native",
		ID:       e.store.ID,
		Version:  version,
		Arch:     debianArch(runtime.GOARCH),
		Features: []string{"userns", "seccomp", "network-none"},
		Limits:   append(e.cgroups.limits(), "disk"),
	}
	if e.cgroups.pids == "" {
		info.Partly = map[string]string{"pids": "of each user in the container, without telling when it was reached"}
	}
	return info, nil
}

// Close ends the containers that are still open and releases the engine. It is
// idempotent.
func (e *Engine) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	var left []*container
	for c := range e.open {
		left = append(left, c)
	}
	e.mu.Unlock()
	var err error
	for _, c := range left {
		err = errors.Join(err, c.Close(context.Background()))
	}
	return errors.Join(err, e.starter.close())
}

// debianArch is Debian's name for a GOARCH.
func debianArch(goarch string) string {
	switch goarch {
	case "386":
		return "i386"
	case "arm":
		return "armhf"
	case "ppc64le":
		return "ppc64el"
	case "mips64le":
		return "mips64el"
	}
	return goarch
}

// compat names the second system call table that a foreign architecture of
// the same machine needs.
func compat(arch string) string {
	switch {
	case runtime.GOARCH == "amd64" && arch == "i386":
		return "386"
	case runtime.GOARCH == "arm64" && (arch == "armhf" || arch == "armel"):
		return "arm"
	}
	return ""
}

// checkHost refuses what cannot work, with the remedy.
func checkHost() error {
	if os.Geteuid() != 0 {
		return unsupported("run as root", "the native engine needs root, or a user namespace with root in it: see package userns")
	}
	if _, err := os.Stat("/proc/self/ns/user"); err != nil {
		return unsupported("find user namespaces", "this kernel has no user namespaces: use --engine docker")
	}
	return nil
}
