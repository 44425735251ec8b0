package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"

	"dbuild/agent"
	"dbuild/agent/pid1"
	"dbuild/agent/wire"
	"dbuild/engine"
	"dbuild/engine/session"
	"dbuild/internal/fault"
)

// programDir is where containers find the agent's program. The root file
// system ends at /run, so nothing of it gets into an image.
const programDir = "/run/.dbuild"

// Create makes a container in which only the agent runs.
func (e *Engine) Create(ctx context.Context, spec engine.Spec) (engine.Container, error) {
	c, err := e.create(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("create container: %w", err)
	}
	return c, nil
}

// create makes a container and undoes everything on error.
func (e *Engine) create(ctx context.Context, spec engine.Spec, extra ...mount.Mount) (_ *container, err error) {
	if err := e.checkSpec(spec); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c := &container{engine: e, id: newID(), spec: spec, scratch: spec.Image == "", extra: extra}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close(ctx))
		}
	}()
	return c, c.build(ctx)
}

func (c *container) build(ctx context.Context) error {
	e := c.engine
	if err := c.pickImage(ctx); err != nil {
		return err
	}
	if err := c.start(ctx); err != nil {
		return err
	}
	if err := c.checkTargets(ctx); err != nil {
		return err
	}
	if _, err := c.session.SetUp(ctx, c.setup()); err != nil {
		return c.diagnose(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return errors.New("engine is closed")
	}
	e.open[c] = true
	return nil
}

// start starts docker's container. The first one of an engine tells whether the
// daemon sees our files; if not, all that follow get theirs from volumes.
func (c *container) start(ctx context.Context) error {
	e := c.engine
	for {
		sight, ipv6 := e.sight(), e.ipv6.Load()
		err := c.tryStart(ctx, ipv6)
		switch {
		case err == nil && sight == unproven:
			e.setSight(shares)
			return nil
		case err == nil || ctx.Err() != nil:
			return err
		case ipv6 && strings.Contains(err.Error(), "disable_ipv6"):
			e.ipv6.Store(false) // the daemon's kernel is another one
		case sight == unproven && blind(err, e.dir):
			e.setSight(apart)
		default:
			return c.explain(err)
		}
		if err := c.undo(ctx); err != nil {
			return err
		}
	}
}

// undo removes what a failed start has left.
func (c *container) undo(ctx context.Context) error {
	if c.session != nil {
		if err := ignoreClosed(c.session.Close()); err != nil {
			return err
		}
		c.session = nil
	}
	if c.docker == "" {
		return nil
	}
	docker := c.docker
	c.docker = ""
	return c.engine.removeContainer(ctx, docker)
}

func (c *container) tryStart(ctx context.Context, ipv6 bool) error {
	e := c.engine
	config, host, err := c.configs(ctx, ipv6)
	if err != nil {
		return err
	}
	made, err := e.api.ContainerCreate(ctx, client.ContainerCreateOptions{Config: config, HostConfig: host, Name: "dbuild-" + c.id})
	if err != nil {
		return err
	}
	c.docker = made.ID
	// The stream outlives this call.
	attached, err := e.api.ContainerAttach(context.WithoutCancel(ctx), c.docker, client.ContainerAttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true})
	if err != nil {
		return e.explainAttach(ctx, c.docker, err)
	}
	c.stream = &stream{attached: attached.HijackedResponse}
	c.session = session.New(c.stream)
	_, err = e.api.ContainerStart(ctx, c.docker, client.ContainerStartOptions{})
	return err
}

func (e *Engine) checkSpec(spec engine.Spec) error {
	switch spec.Purpose {
	case engine.PurposeDeps, engine.PurposeBuild, engine.PurposeShell:
	default:
		return fault.New(fault.Internal, "unknown purpose %q", spec.Purpose)
	}
	if spec.Image == "" && spec.Purpose != engine.PurposeDeps {
		return fault.New(fault.Internal, "an empty root is for purpose %q only", engine.PurposeDeps)
	}
	if spec.Network != engine.NetworkNone && spec.Network != engine.NetworkHost {
		return fault.New(fault.Internal, "unknown network %q", spec.Network)
	}
	for _, t := range spec.Trees {
		if !path.IsAbs(t.Target) || path.Clean(t.Target) != t.Target || t.Target == "/" {
			return fault.New(fault.Internal, "mount target %q is not a clean absolute path", t.Target)
		}
	}
	for _, l := range []struct {
		name  string
		limit engine.Limit
		can   bool
	}{{"pids", spec.Limits.PIDs, e.info.PidsLimit}, {"memory", spec.Limits.Memory, e.info.MemoryLimit}, {"disk", spec.Limits.Disk, false}} {
		if l.limit.Value > 0 && l.limit.Required && !l.can {
			err := fault.Wrap(fault.Engine, fmt.Errorf("limit %s: docker cannot: %w", l.name, engine.ErrUnsupported))
			return fault.WithHint(err, "run without --strict-limits")
		}
	}
	return nil
}

// pickImage finds docker's image; a scratch container gets an empty one of its
// own.
func (c *container) pickImage(ctx context.Context) (err error) {
	if c.scratch {
		c.image.Docker, err = c.engine.importEmpty(ctx)
		c.empty = c.image.Docker
		return err
	}
	c.image, err = c.engine.readRecord(c.spec.Image)
	return err
}

// The capabilities that the agent needs itself, and those that only steps of
// the container's root get beside them: the same as on the native engine.
var (
	agentCapabilities = []string{"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP"}
	rootCapabilities  = []string{"NET_BIND_SERVICE", "SYS_CHROOT", "MKNOD", "AUDIT_WRITE", "SETFCAP"}
)

// configs says what the daemon makes. The agent gets docker's own seccomp
// profile switched off, because it loads a stricter one for each step.
func (c *container) configs(ctx context.Context, ipv6 bool) (*api.Config, *api.HostConfig, error) {
	e, spec := c.engine, c.spec
	mounts, err := c.mounts(ctx)
	if err != nil {
		return nil, nil, err
	}
	config := &api.Config{
		Image: c.image.Docker, Hostname: c.hostname(), WorkingDir: "/", Labels: e.labels(spec.Labels),
		Entrypoint: []string{}, Cmd: []string{agent.Name, pid1.ModeStdio}, Env: []string{"PATH=" + programDir},
		AttachStdin: true, AttachStdout: true, AttachStderr: true, OpenStdin: true,
		StdinOnce: true, // so that the agent ends with dbuild, however that ends
	}
	host := &api.HostConfig{
		NetworkMode: api.NetworkMode(spec.Network), IpcMode: api.IPCModePrivate, AutoRemove: true,
		LogConfig: api.LogConfig{Type: "none"}, // standard output is no log
		CapDrop:   []string{"ALL"}, CapAdd: agentCapabilities,
		// Without it a filter could only be loaded with a capability that is not given.
		SecurityOpt: []string{"no-new-privileges", "seccomp=unconfined"},
		MaskedPaths: pid1.MaskedPaths(), ReadonlyPaths: pid1.ReadOnlyPaths(),
		Tmpfs:   map[string]string{"/run": "rw,nosuid,nodev,exec,mode=755"},
		ShmSize: e.info.MemTotal / 2, Mounts: mounts,
	}
	if spec.Network == engine.NetworkNone && ipv6 {
		host.Sysctls = map[string]string{"net.ipv6.conf.all.disable_ipv6": "0"} // so that lo has ::1
	}
	if spec.Purpose != engine.PurposeBuild {
		host.CapAdd = append(append([]string{}, agentCapabilities...), rootCapabilities...)
	}
	if compat(spec.Arch) == "386" {
		// The agent reads what a step asks of socketcall(2), see package seccomp.
		host.CapAdd = append(slices.Clone(host.CapAdd), "SYS_PTRACE")
	}
	if e.kind == KindPodman {
		podmanize(host)
	}
	if l := spec.Limits.PIDs.Value; l > 0 && e.info.PidsLimit {
		l += pid1.Threads
		host.PidsLimit = &l
	}
	if l := spec.Limits.Memory.Value; l > 0 && e.info.MemoryLimit {
		host.Memory = l
		if e.info.SwapLimit {
			host.MemorySwap = l // none: swapping would only delay the end
		}
	}
	return config, host, nil
}

// haveIPv6 tells whether this kernel, which usually is also the daemon's, knows
// IPv6.
func haveIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6/conf/all/disable_ipv6")
	return err == nil
}

// bind shows a file or directory of the host.
func bind(source, target string) mount.Mount {
	return mount.Mount{Type: mount.TypeBind, Source: source, Target: target, ReadOnly: true}
}

// mounts are the agent, the trees, a /tmp as large as the disk and the areas,
// which go away with the container. A volume is as fast as the daemon's disk,
// whatever the storage driver costs.
func (c *container) mounts(ctx context.Context) ([]mount.Mount, error) {
	e := c.engine
	program, err := e.agentMount(ctx)
	if err != nil {
		return nil, err
	}
	all := append([]mount.Mount{program, e.anonymous("/tmp")}, c.extra...)
	for _, dir := range c.areas() {
		all = append(all, e.anonymous(dir))
	}
	for _, m := range c.spec.Trees {
		tree, err := e.tree(m.Tree)
		if err != nil {
			return nil, err
		}
		if e.sight() != apart {
			all = append(all, bind(tree.dir, m.Target))
			continue
		}
		volume, err := tree.send(ctx, e)
		if err != nil {
			return nil, fmt.Errorf("send tree %q: %w", m.Tree, err)
		}
		all = append(all, named(volume, m.Target, true))
	}
	return all, nil
}

// checkTargets refuses a tree on a directory that the image lacks: the daemon
// has made it, as it does everywhere.
func (c *container) checkTargets(ctx context.Context) error {
	outside := map[string]bool{}
	for _, t := range c.spec.Trees {
		if !strings.HasPrefix(t.Target, "/run/") {
			outside[t.Target] = true
		}
	}
	if len(outside) == 0 {
		return nil
	}
	diff, err := c.engine.api.ContainerDiff(ctx, c.docker, client.ContainerDiffOptions{})
	if err != nil {
		return classify(err)
	}
	for _, change := range diff.Changes {
		if outside[change.Path] && change.Kind == api.ChangeAdd {
			return fault.New(fault.Internal, "mount target %q does not exist", change.Path)
		}
	}
	return nil
}

func (c *container) hostname() string {
	if c.spec.Hostname == "" {
		return "dbuild"
	}
	return c.spec.Hostname
}

func (c *container) setup() *wire.Setup {
	name := c.hostname()
	s := &wire.Setup{
		Root: wire.RootReady, Hostname: name, PrivateNet: c.spec.Network == engine.NetworkNone,
		Hosts:   fmt.Sprintf("127.0.0.1\tlocalhost %[1]s\n::1\tlocalhost ip6-localhost ip6-loopback %[1]s\n", name),
		Confine: wire.Confine{NoNewPrivs: true, Compat: compat(c.spec.Arch), Caps: pid1.RootCapabilities},
	}
	switch c.spec.Purpose {
	case engine.PurposeBuild:
		s.Confine.Caps = 0
	case engine.PurposeDeps:
		s.Confine.SwallowSync = true // Commit syncs the whole layer
	}
	return s
}

// explain adds what to do when the daemon refuses a container.
func (c *container) explain(err error) error {
	if errdefs.IsInvalidArgument(err) {
		err = fault.Wrap(fault.Engine, fmt.Errorf("%w: %w", engine.ErrUnsupported, err))
		return fault.WithHint(err, "see what the daemon says, or use --engine native")
	}
	if fault.ClassOf(err) != fault.Internal {
		return err
	}
	return classify(err)
}
