// Package docker is the engine that speaks the Docker Engine API, version 1.40
// and newer, through DOCKER_HOST or the usual socket.
//
// The agent is the first process of every container and is spoken to over the
// attached standard streams; no archive call ever touches a container in which
// something ran. An image is a docker image and a record of ours beside it:
//
//	docker/DAEMON/records/ID.json  an image; written last, so an image exists or does not
//	docker/DAEMON/owners/ID        locked by a live process; its ID labels what the process made
//	docker/DAEMON/agent-HASH       the agent's program
//	docker/DAEMON/programs/ID      its name for one process, mounted read-only into containers
//
// [Engine.Reap] finds by label what belongs to this state, and by the locks
// whose owner is dead.
//
// Trees and the agent are bind mounts if the daemon sees dbuild's file system,
// which the first container proves: it runs the agent from a file of a name that
// is made anew by each process. Else they are sent into volumes; nothing of
// what dbuild does needs more than the connection.
package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/client"

	"dbuild/agent"
	"dbuild/engine"
	"dbuild/internal/fault"
	"dbuild/internal/report"
)

// Labels of everything that this engine makes.
const (
	labelState = "dbuild.engine.state" // the state's id
	labelOwner = "dbuild.engine.owner" // the process that made it
)

// The daemons that speak the API.
const (
	KindDocker = "docker"
	KindPodman = "podman"
)

// Options configure [Open].
type Options struct {
	Kind   string                        // "" is [KindDocker]; [KindPodman] refuses what is not Podman
	Dir    string                        // where records are kept; made if missing
	State  string                        // the state's random id, [a-z0-9-]
	Host   string                        // as DOCKER_HOST, which it overrides; "" is [Host] or [PodmanHost]
	Agent  func() (io.ReadCloser, error) // the agent's program, static; nil: [agent.Program]
	Report report.Reporter               // nil: [report.Discard]
	Apart  bool                          // take the daemon for one that does not see our files
}

// Engine implements [engine.Engine] and the complete manifest for the cache.
type Engine struct {
	api    *client.Client
	dir    string
	state  string
	info   system.Info
	kind   string // what answers, which [KindDocker] does not ask for
	owner  *owner
	agent  func() (io.ReadCloser, error)
	report report.Reporter

	place   sync.Once
	program string // path of the agent's file, once placed
	placing error

	ipv6 atomic.Bool // the daemon's kernel knows it

	sending     sync.Mutex
	agentVolume string // where the daemon is apart

	mu      sync.Mutex
	seen    sight
	open    map[*container]bool
	trees   map[engine.TreeID]*hostTree
	volumes []string // made by newVolume
	closed  bool
}

var _ engine.Engine = (*Engine)(nil)

// Open connects to the daemon and checks that it can be used. An error of
// class engine says what to do. The caller closes the engine.
func Open(ctx context.Context, o Options) (_ *Engine, err error) {
	if o.Kind == KindPodman && o.Host == "" {
		o.Host = PodmanHost(os.Geteuid(), os.Getenv)
	}
	api, info, err := connect(ctx, o.Host)
	if err != nil {
		return nil, podmanHint(o.Kind, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, api.Close())
		}
	}()
	kind, err := daemonKind(ctx, api)
	if err != nil {
		return nil, err
	}
	if o.Kind == KindPodman && kind != KindPodman {
		err := fault.New(fault.Engine, "use podman at %q: %s answers there", api.DaemonHost(), kind)
		return nil, fault.WithHint(err, "set CONTAINER_HOST, or use --engine docker")
	}
	if kind == KindPodman {
		adaptPodman(&info, userSocket(api.DaemonHost()))
	}
	if o.Report == nil {
		o.Report = report.Discard
	}
	if o.Agent == nil {
		o.Agent = agent.Program
	}
	e := &Engine{
		api: api, info: info, kind: kind, state: o.State, agent: o.Agent, report: o.Report,
		dir:  filepath.Join(o.Dir, "docker", fileName(info.ID)),
		open: map[*container]bool{}, trees: map[engine.TreeID]*hostTree{},
	}
	e.ipv6.Store(haveIPv6())
	if o.Apart {
		e.seen = apart
	}
	for _, d := range []string{"records", "owners", "programs"} {
		if err := os.MkdirAll(filepath.Join(e.dir, d), 0o700); err != nil {
			return nil, err
		}
	}
	if e.owner, err = newOwner(filepath.Join(e.dir, "owners")); err != nil {
		return nil, fmt.Errorf("open docker engine: %w", err)
	}
	if info.Driver == "vfs" {
		e.report.Warn("docker's storage driver %s copies whole images for each container; another one is much faster", info.Driver)
	}
	return e, nil
}

// Usable reports whether a daemon answers that [Open] would accept; the error
// says why not.
func Usable(ctx context.Context) error {
	api, _, err := connect(ctx, "")
	if err != nil {
		return err
	}
	return api.Close()
}

// connect asks the daemon who it is and what it understands.
func connect(ctx context.Context, host string) (*client.Client, system.Info, error) {
	options := []client.Opt{client.FromEnv}
	if host != "" {
		options = append(options, client.WithHost(host))
	}
	if address := cmp.Or(host, os.Getenv(client.EnvOverrideHost)); strings.HasPrefix(address, "ssh://") {
		var err error
		if options, err = overSSH(address); err != nil {
			return nil, system.Info{}, err
		}
	}
	api, err := client.New(append(options, client.WithUserAgent("dbuild"))...)
	if err != nil {
		err = fault.Wrap(fault.Engine, fmt.Errorf("set up docker client: %w", err))
		return nil, system.Info{}, fault.WithHint(err, "DOCKER_HOST is unix:///path, tcp://host:port or ssh://user@host")
	}
	info, err := greet(ctx, api)
	if err != nil {
		return nil, info, errors.Join(err, api.Close())
	}
	return api, info, nil
}

func greet(ctx context.Context, api *client.Client) (info system.Info, err error) {
	ping, err := api.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true})
	switch {
	case err != nil && ctx.Err() != nil:
		return info, ctx.Err()
	case client.IsErrConnectionFailed(err):
		err = fault.Wrap(fault.Engine, fmt.Errorf("reach docker daemon at %q: %w", api.DaemonHost(), err))
		return info, fault.WithHint(err, "start it (Debian: apt install docker.io), set DOCKER_HOST, or use --engine native")
	case err != nil:
		err = fault.Wrap(fault.Engine, fmt.Errorf("talk to docker daemon at %q: %w", api.DaemonHost(), err))
		return info, fault.WithHint(err, "Docker Engine 20.10 (API %s) or newer is needed; or use --engine native", client.MinAPIVersion)
	case ping.OSType != "" && ping.OSType != "linux":
		return info, fault.Wrap(fault.Engine, fmt.Errorf("use docker daemon for %s: %w", ping.OSType, engine.ErrUnsupported))
	}
	result, err := api.Info(ctx, client.InfoOptions{})
	if err == nil && result.Info.ID == "" {
		err = errors.New("the daemon has no id")
	}
	if err != nil {
		return info, fault.Wrap(fault.Engine, fmt.Errorf("ask docker daemon: %w", err))
	}
	return result.Info, nil
}

// fileName turns a daemon's id into a name without special characters.
func fileName(id string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '-'
	}, id)
}

// Info describes the daemon, as it was when the engine was opened.
func (e *Engine) Info(context.Context) (engine.Info, error) {
	info := engine.Info{
		Kind: e.kind, ID: e.info.ID, Version: e.info.ServerVersion, Arch: debianArch(e.info.Architecture),
		Features: []string{"seccomp", "network-none", "storage-" + e.info.Driver},
	}
	if slices.ContainsFunc(e.info.SecurityOptions, func(o string) bool { return strings.Contains(o, "name=userns") }) {
		info.Features = append(info.Features, "userns")
	}
	if e.info.PidsLimit {
		info.Limits = append(info.Limits, "pids")
	}
	if e.info.MemoryLimit {
		info.Limits = append(info.Limits, "memory")
	}
	return info, nil
}

// debianArch is Debian's name for what uname says.
func debianArch(machine string) string {
	names := map[string]string{
		"x86_64": "amd64", "aarch64": "arm64", "i686": "i386", "i386": "i386", "armv7l": "armhf",
		"ppc64le": "ppc64el", "mips64": "mips64el", "loongarch64": "loong64",
	}
	if name, ok := names[machine]; ok {
		return name
	}
	return machine // riscv64, s390x
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
	err = errors.Join(err, e.dropVolumes(context.Background()))
	if e.program != "" && e.placing == nil {
		err = errors.Join(err, os.Remove(e.program))
	}
	return errors.Join(err, e.owner.close(), e.api.Close())
}

// Tree makes a host directory known. It is bound when a container starts, or
// sent if the daemon does not see it.
func (e *Engine) Tree(ctx context.Context, name, dir string) (engine.TreeID, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("register tree %q: %w", name, err)
	}
	st, err := os.Stat(abs)
	if err != nil {
		return "", fmt.Errorf("register tree %q: %w", name, err)
	}
	if !st.IsDir() {
		return "", fault.New(fault.Internal, "register tree %q: %q is not a directory", name, abs)
	}
	id := engine.TreeID(name + ":" + abs)
	e.mu.Lock()
	known := e.trees[id]
	if known == nil {
		e.trees[id] = &hostTree{dir: abs}
	}
	e.mu.Unlock()
	if known != nil && e.sight() == apart {
		if _, err := known.send(ctx, e); err != nil {
			return "", fmt.Errorf("send tree %q: %w", name, err)
		}
	}
	return id, nil
}

func (e *Engine) tree(id engine.TreeID) (*hostTree, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t, ok := e.trees[id]
	if !ok {
		return nil, fmt.Errorf("tree %q: %w", id, engine.ErrNotFound)
	}
	return t, nil
}
