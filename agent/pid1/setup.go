package pid1

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"dbuild/agent/seccomp"
	"dbuild/agent/wire"
)

// stage is where the new root is put together: any directory that every host
// has. A tmpfs covers it in the agent's own mount namespace.
const stage = "/sys"

// setup is the state of one preparation. Paths are relative to the new root,
// which is the working directory; nothing else runs in the container yet, so
// checking a path and then mounting on it is not a race.
type setup struct {
	*wire.Setup
	hostSys int      // detached copy of the host's /sys, or -1
	bare    int      // see agent.bare
	created []string // mount points that were missing
	missing []string // optional features that are
}

func (a *agent) setUp(m *wire.Setup) (wire.Message, error) {
	first := false
	a.once.Do(func() { first = true })
	if !first || m.Version != wire.Version {
		return nil, fmt.Errorf("%w: setup for protocol %d", wire.ErrProtocol, m.Version)
	}
	filter, err := seccomp.Make(seccomp.Policy{SwallowSync: m.Confine.SwallowSync, Compat: m.Confine.Compat})
	if err != nil {
		return nil, err
	}
	s := &setup{Setup: m, hostSys: -1, bare: -1}
	if err := s.prepare(); err != nil {
		return nil, fmt.Errorf("prepare container: %w", err)
	}
	if m.Processes > 0 {
		if err := boundProcesses(uint64(m.Processes)); err != nil {
			return nil, fmt.Errorf("bound processes: %w", err)
		}
	}
	a.root, a.confine, a.filter, a.bare = m.Root, m.Confine, filter, s.bare
	close(a.ready)
	return &wire.SetupResult{Created: s.created, Missing: s.missing}, nil
}

// boundProcesses gives this process, and so the steps, a resource limit that
// nobody in the container can raise. The kernel counts each user of the user
// namespace by itself; the agent's own threads count as root's.
func boundProcesses(n uint64) error {
	reserveThreads()
	n += Threads
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &now); err != nil {
		return err
	}
	n = min(n, now.Max)
	return unix.Setrlimit(unix.RLIMIT_NPROC, &unix.Rlimit{Cur: n, Max: n})
}

func (s *setup) prepare() error {
	steps := []func() error{s.mountRoot, s.fill, s.pivot, s.identify}
	switch s.Root {
	case wire.RootBare:
		steps = []func() error{s.mountRoot, s.pivot}
	case wire.RootReady:
		steps = []func() error{s.adopt}
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// mountRoot mounts the root on the stage and makes it the working directory.
func (s *setup) mountRoot() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if !s.PrivateNet && s.Root != wire.RootBare {
		// Must happen before the stage covers it. Failure only costs /sys.
		s.hostSys, _ = unix.OpenTree(unix.AT_FDCWD, "/sys", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	}
	if err := unix.Mount("tmpfs", stage, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700,size=64k"); err != nil {
		return fmt.Errorf("mount stage: %w", err)
	}
	for _, d := range []string{"/container", "/layers", "/root", "/empty"} {
		if err := unix.Mkdir(stage+d, 0o755); err != nil {
			return err
		}
	}
	if err := attach(wire.FDContainer, stage+"/container"); err != nil {
		return err
	}
	if err := s.mountLayers(); err != nil {
		return err
	}
	return unix.Chdir(stage + "/root")
}

func (s *setup) mountLayers() error {
	upper, root := stage+"/container/root", stage+"/root"
	if s.Root != wire.RootOverlay {
		if err := unix.Mount(upper, root, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind root: %w", err)
		}
		return nil
	}
	if err := attach(wire.FDLayers, stage+"/layers"); err != nil {
		return err
	}
	lower := make([]string, len(s.Layers))
	for i, l := range s.Layers {
		lower[i] = stage + "/layers/" + l
	}
	options := "userxattr,lowerdir=" + strings.Join(lower, ":") + ",upperdir=" + upper + ",workdir=" + stage + "/container/work"
	if len(options) >= os.Getpagesize() {
		return fmt.Errorf("%w: %d layers", errUnsupported, len(lower))
	}
	flags := uintptr(unix.MS_NODEV)
	if s.NoSUID {
		flags |= unix.MS_NOSUID
	}
	// Volatile skips all syncing: the writable layer is either thrown away or
	// synced as a whole when it becomes an image.
	err := unix.Mount("overlay", root, "overlay", flags, options+",volatile")
	if errors.Is(err, unix.EINVAL) {
		s.missing = append(s.missing, "overlay-volatile")
		err = unix.Mount("overlay", root, "overlay", flags, options)
	}
	if err != nil {
		return fmt.Errorf("mount overlay: %w", err)
	}
	return nil
}

// attach puts a detached mount that the host passed in at path.
func attach(fd int, path string) error {
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach mount on %q: %w", path, err)
	}
	return unix.Close(fd)
}

// fill mounts everything that belongs in the root.
func (s *setup) fill() error {
	if s.Root == wire.RootPlain {
		var err error
		if s.bare, err = unix.OpenTree(unix.AT_FDCWD, ".", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC); err != nil {
			return fmt.Errorf("keep a view of the bare root: %w", err)
		}
	}
	for _, step := range []func() error{s.mountDev, s.mountProc, s.mountSys, s.mountTemp, s.mountTrees, s.writeEtc} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// mountTemp makes /run a tmpfs and /tmp a directory beside the writable layer:
// as large as the disk, and nothing of it gets into an image.
func (s *setup) mountTemp() error {
	for _, d := range []string{"run", "tmp", "var/tmp"} {
		mode := uint32(0o1777)
		if d == "run" {
			mode = 0o755
		}
		if err := s.ensureDir(d, mode); err != nil {
			return err
		}
	}
	if err := mount("tmpfs", "run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return err
	}
	if err := unix.Mkdir("run/lock", 0o1777); err != nil {
		return err
	}
	return mount(stage+"/container/tmp", "tmp", "", unix.MS_BIND, "")
}

func (s *setup) mountTrees() error {
	for i, target := range s.Trees {
		path := strings.TrimPrefix(target, "/")
		if strings.HasPrefix(path, "run/") {
			if err := os.MkdirAll(path, 0o755); err != nil {
				return err
			}
		} else if err := checkDir(path); err != nil {
			return err
		}
		if err := attach(wire.FDTrees+i, path); err != nil {
			return err
		}
	}
	return nil
}

// writeEtc writes the files that tell a container its name. They are plain
// files of the writable layer rather than mounts, so that packages may replace
// them; the engine drops them when it makes an image.
func (s *setup) writeEtc() error {
	if err := s.ensureDir("etc", 0o755); err != nil {
		return err
	}
	for _, f := range []struct{ name, content string }{
		{"etc/hosts", s.Hosts},
		{"etc/hostname", s.Hostname + "\n"},
		{"etc/resolv.conf", s.ResolvConf},
	} {
		if err := unix.Unlink(f.name); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("replace /%s: %w", f.name, err)
		}
		fd, err := unix.Open(f.name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
		if err != nil {
			return fmt.Errorf("write /%s: %w", f.name, err)
		}
		_, err = unix.Write(fd, []byte(f.content))
		if err := errors.Join(err, unix.Close(fd)); err != nil {
			return fmt.Errorf("write /%s: %w", f.name, err)
		}
	}
	return nil
}

// pivot makes the working directory the root and lets go of the host's mounts.
func (s *setup) pivot() error {
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach host mounts: %w", err)
	}
	return unix.Chdir("/")
}

func (s *setup) identify() error {
	if err := unix.Sethostname([]byte(s.Hostname)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	if !s.PrivateNet {
		return nil
	}
	return loopbackUp()
}

// ensureDir makes a directory and its parents where they are missing, and
// refuses anything else in their place: a symlink there would lead a mount
// somewhere else.
func (s *setup) ensureDir(path string, mode uint32) error {
	for i := range len(path) + 1 {
		if i < len(path) && path[i] != '/' {
			continue
		}
		part := path[:i]
		err := checkDir(part)
		if !errors.Is(err, unix.ENOENT) {
			if err != nil {
				return err
			}
			continue
		}
		m := uint32(0o755)
		if i == len(path) {
			m = mode
		}
		if err := unix.Mkdir(part, m); err != nil {
			return fmt.Errorf("make /%s: %w", part, err)
		}
		s.created = append(s.created, "/"+part)
	}
	return nil
}

// checkDir demands that every part of path is a directory.
func checkDir(path string) error {
	for i := range len(path) + 1 {
		if i < len(path) && path[i] != '/' {
			continue
		}
		var st unix.Stat_t
		if err := unix.Lstat(path[:i], &st); err != nil {
			return fmt.Errorf("look at mount point /%s: %w", path[:i], err)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return refuse("mount point /%s is not a directory", path[:i])
		}
	}
	return nil
}

func mount(source, target, fstype string, flags uintptr, options string) error {
	if err := unix.Mount(source, target, fstype, flags, options); err != nil {
		return fmt.Errorf("mount %s on /%s: %w", source, target, err)
	}
	return nil
}
