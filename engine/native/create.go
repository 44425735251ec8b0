package native

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"dbuild/agent/wire"
	"dbuild/engine"
	"dbuild/engine/session"
	"dbuild/internal/fault"
)

// Create makes a container in which only the agent runs.
func (e *Engine) Create(ctx context.Context, spec engine.Spec) (engine.Container, error) {
	root := wire.RootOverlay
	if spec.Image == "" {
		root = wire.RootPlain
	}
	c, err := e.create(ctx, spec, root)
	if err != nil {
		return nil, fmt.Errorf("create container: %w", err)
	}
	return c, nil
}

// create makes a container and undoes everything on error.
func (e *Engine) create(ctx context.Context, spec engine.Spec, root wire.Root) (_ *container, err error) {
	if err := e.checkSpec(spec); err != nil {
		return nil, err
	}
	c := &container{engine: e, spec: spec, scratch: root != wire.RootOverlay}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close(ctx))
		}
	}()
	return c, c.build(ctx, root)
}

// build makes all parts of the container, in the order in which they need each
// other.
func (c *container) build(ctx context.Context, root wire.Root) error {
	e, spec := c.engine, c.spec
	setup, err := e.setup(spec, root)
	if err != nil {
		return err
	}
	if err := c.holdImage(setup); err != nil {
		return err
	}
	if err := c.makeDir(root); err != nil {
		return err
	}
	if c.cgroup, err = e.cgroups.create(e.state, c.id, c.dir, spec.Limits); err != nil {
		return err
	}
	if err := c.start(); err != nil {
		return err
	}
	if err := c.cgroup.add(c.process.proc.Pid); err != nil {
		return err
	}
	c.session = session.New(c.process.conn)
	result, err := c.session.SetUp(ctx, setup)
	if err != nil {
		return c.withLastWords(err)
	}
	c.created = result.Created
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return errClosed
	}
	e.open[c] = true
	return nil
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
	return nil
}

// capabilities of namespace root, as a bit set: what dpkg, apt and maintainer
// scripts need, and none with which a step could look into the agent or mount.
const capabilities = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FOWNER | 1<<unix.CAP_FSETID |
	1<<unix.CAP_KILL | 1<<unix.CAP_SETGID | 1<<unix.CAP_SETUID | 1<<unix.CAP_SETPCAP | 1<<unix.CAP_NET_BIND_SERVICE |
	1<<unix.CAP_SYS_CHROOT | 1<<unix.CAP_MKNOD | 1<<unix.CAP_AUDIT_WRITE | 1<<unix.CAP_SETFCAP

func (e *Engine) setup(spec engine.Spec, root wire.Root) (*wire.Setup, error) {
	s := &wire.Setup{
		Root:       root,
		NoSUID:     spec.Purpose == engine.PurposeBuild,
		Hostname:   spec.Hostname,
		PrivateNet: spec.Network == engine.NetworkNone,
		Confine:    wire.Confine{Caps: capabilities, Compat: compat(spec.Arch)},
	}
	if s.Hostname == "" {
		s.Hostname = "dbuild"
	}
	switch spec.Purpose {
	case engine.PurposeBuild:
		s.Confine.Caps, s.Confine.NoNewPrivs = 0, true
	case engine.PurposeDeps:
		s.Confine.SwallowSync = true // Commit syncs the whole layer
	}
	if e.cgroups.pids == "" {
		s.Processes = int(min(spec.Limits.PIDs.Value, 1<<22))
	}
	s.Hosts = fmt.Sprintf("127.0.0.1\tlocalhost %[1]s\n::1\tlocalhost ip6-localhost ip6-loopback %[1]s\n", s.Hostname)
	if spec.Network == engine.NetworkHost {
		b, err := os.ReadFile("/etc/resolv.conf")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		s.ResolvConf = string(b)
	}
	for _, t := range spec.Trees {
		s.Trees = append(s.Trees, t.Target)
	}
	return s, nil
}

// holdImage keeps the image from being removed and lists its layers.
func (c *container) holdImage(setup *wire.Setup) error {
	if c.spec.Image == "" {
		return nil
	}
	var err error
	if c.image, err = c.engine.use(c.spec.Image); err != nil {
		return err
	}
	// Ancestors are held by the records of their children.
	if c.chain, err = c.engine.chain(c.spec.Image); err != nil {
		return err
	}
	for _, r := range c.chain {
		setup.Layers = append(setup.Layers, string(r.ID)+"/root")
	}
	return nil
}

// makeDir makes and locks the container's directory. Between making and
// locking, Reap in another process may take it for a leftover; then the next
// try gets another name.
func (c *container) makeDir(root wire.Root) error {
	for range 10 {
		id := newID()
		dir := filepath.Join(c.engine.dir, "containers", id)
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		lock, err := lockDir(dir, unix.LOCK_EX)
		if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return errors.Join(err, os.Remove(dir))
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(lock.Fd()), &st); err != nil || st.Nlink == 0 {
			_ = lock.Close()
			continue
		}
		c.id, c.dir, c.lock = id, dir, lock
		return c.fillDir(root)
	}
	return errors.New("lock a new container directory: every try was taken away")
}

// fillDir makes the parts of the container's directory and hands them to the
// container's root. The writable layer starts with the attributes of "/".
func (c *container) fillDir(root wire.Root) error {
	base := c.engine.store.IDBase
	mode, uid, gid := os.FileMode(0o755), base, base
	if root == wire.RootOverlay {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(c.engine.layerDir(c.spec.Image), "root"), &st); err != nil {
			return fmt.Errorf("look at image %q: %w", c.spec.Image, err)
		}
		mode, uid, gid = os.FileMode(st.Mode&0o777), int(st.Uid), int(st.Gid)
	}
	for _, d := range []struct {
		name     string
		mode     os.FileMode
		uid, gid int
	}{{"root", mode, uid, gid}, {"work", 0o700, base, base}, {"tmp", 0o777 | os.ModeSticky, base, base}, {"", 0o700, base, base}} {
		dir := filepath.Join(c.dir, d.name)
		if d.name != "" {
			if err := os.Mkdir(dir, 0o700); err != nil {
				return err
			}
		}
		if err := errors.Join(os.Lchown(dir, d.uid, d.gid), os.Chmod(dir, d.mode)); err != nil {
			return err
		}
	}
	return nil
}

// start starts the agent with the mounts that it needs.
func (c *container) start() error {
	var mounts []*os.File
	defer func() { _ = closeAll(mounts) }()
	add := func(dir string, attributes uint64) error {
		m, err := detachedMount(dir, attributes)
		if err == nil {
			mounts = append(mounts, m)
		}
		return err
	}
	const closed = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
	if err := add(filepath.Join(c.engine.dir, "layers"), closed); err != nil {
		return err
	}
	if err := add(c.dir, unix.MOUNT_ATTR_NODEV); err != nil {
		return err
	}
	for _, t := range c.spec.Trees {
		dir, err := c.engine.treeDir(t.Tree)
		if err != nil {
			return err
		}
		if err := add(dir, closed); err != nil {
			return err
		}
	}
	var err error
	private := c.spec.Network == engine.NetworkNone
	c.process, err = c.engine.startAgent(mounts, private)
	return err
}

// withLastWords adds what the agent printed, if it died.
func (c *container) withLastWords(err error) error {
	if !errors.Is(err, engine.ErrLost) {
		return err
	}
	c.process.kill()
	if words := c.process.lastWords(); words != "" {
		return fmt.Errorf("%w: %s", err, strings.ReplaceAll(words, "\n", " | "))
	}
	return err
}
