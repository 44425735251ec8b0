package doctor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Facts is what [Examine] judges.
type Facts struct {
	UID  int
	User string

	Engine string // the engine that a build would use
	Why    string // how that was decided

	Kernel      string            // release, "6.1.0-26-amd64"
	Sysctls     map[string]string // those of [Sysctls] that the kernel has
	Filesystems string            // /proc/filesystems
	Cgroup      string            // /proc/self/cgroup
	Caps        uint64            // effective capabilities
	Container   string            // what this process runs in, "docker"; "" for none
	UserNS      error             // of making a user namespace with a mount namespace in it
	Subordinate map[string]string // contents of /etc/subuid and /etc/subgid, by file name
	Programs    map[string]bool   // newuidmap, newgidmap, dockerd, podman that are there; true: with privileges

	State Directory
	Now   time.Time
	Dates map[string]time.Time // highest Date seen of each archive, by a readable name

	Keyrings []Keyring
	RepoKeys []SigningKey      // that sign the local repository and may expire
	RepoErr  error             // of reading those
	Trials   map[string]Trial  // by engine; only what was tried
	Daemons  map[string]Daemon // docker, podman
}

// Directory is the state directory, or the place where it will be made.
type Directory struct {
	Path       string
	Exists     bool
	UID        int
	Mode       fs.FileMode
	Dir        bool
	Writable   bool   // or can be made
	Filesystem string // "ext4", "overlayfs"
	Free       uint64
	Err        error
}

// Keyring is a vendor's installed archive keyring.
type Keyring struct {
	Vendor   string
	Suites   []string
	Package  string
	Path     string // "" when none is installed
	Keys     int
	Host     bool // the host itself is of this vendor
	Settings bool // named with --keyring
	Err      error
}

// SigningKey is a key of this machine. It is Over after a time, of which is
// warned when it is Near.
type SigningKey struct {
	Fingerprint string
	Expires     time.Time // zero: never
	Near, Over  bool
	Mend        string // the command that lets it live longer
}

// Trial is the outcome of starting a container.
type Trial struct {
	Limits []string // that the engine can enforce
	Err    error
	Hint   string
}

// Daemon is what answers at a socket.
type Daemon struct {
	Host    string // "unix:///run/docker.sock"
	Version string
	API     string
	Driver  string // storage driver
	Kind    string // "docker" or "podman"; what answers at a socket of the one may be the other
	Err     error
	Hint    string
}

// Sysctls are the kernel settings that matter to user namespaces, and the
// actions of seccomp.
var Sysctls = []string{
	"user.max_user_namespaces", "user.max_mnt_namespaces", "user.max_pid_namespaces", "user.max_net_namespaces",
	"kernel.unprivileged_userns_clone", "kernel.apparmor_restrict_unprivileged_userns",
	"kernel.seccomp.actions_avail",
}

// Look fills in what the machine itself tells; engines, keyrings and dates are
// the caller's. root is where the files of the machine are, "/" for this one.
func (f *Facts) Look(ctx context.Context, root string, lookPath func(string) (string, error)) {
	read := func(name string) string {
		b, _ := os.ReadFile(filepath.Join(root, name)) // a missing file is an empty one
		return strings.TrimRight(string(b), "\n")
	}
	f.Kernel = read("proc/sys/kernel/osrelease")
	f.Sysctls = map[string]string{}
	for _, name := range Sysctls {
		if value := read("proc/sys/" + strings.ReplaceAll(name, ".", "/")); value != "" {
			f.Sysctls[name] = value
		}
	}
	f.Filesystems, f.Cgroup = read("proc/filesystems"), read("proc/self/cgroup")
	f.Caps = effectiveCaps(read("proc/self/status"))
	f.Container = container(root, read("proc/1/environ"), read("run/systemd/container"))
	f.Subordinate = map[string]string{"/etc/subuid": read("etc/subuid"), "/etc/subgid": read("etc/subgid")}
	f.Programs = map[string]bool{}
	for _, name := range []string{"newuidmap", "newgidmap", "dockerd", "podman"} {
		if path, err := lookPath(name); err == nil {
			f.Programs[name] = privileged(path)
		}
	}
	f.UserNS = tryUserNamespace(ctx)
}

// container names what this process runs in.
func container(root, environ, systemd string) string {
	for _, v := range strings.Split(environ, "\x00") {
		if name, ok := strings.CutPrefix(v, "container="); ok && name != "" {
			return name
		}
	}
	if systemd != "" {
		return systemd
	}
	for file, name := range map[string]string{".dockerenv": "docker", "run/.containerenv": "podman"} {
		if _, err := os.Lstat(filepath.Join(root, file)); err == nil {
			return name
		}
	}
	return ""
}

// tryUserNamespace makes a user namespace and, in it, a mount namespace: where
// AppArmor restricts the first, the second is refused.
func tryUserNamespace(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "/bin/true")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
	return cmd.Run()
}

// privileged reports whether a program has the set-uid bit of root or file
// capabilities.
func privileged(path string) bool {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return false
	}
	if st.Mode&unix.S_ISUID != 0 && st.Uid == 0 {
		return true
	}
	n, err := unix.Getxattr(path, "security.capability", nil)
	return err == nil && n > 0
}

// LookDirectory describes the state directory or, if it is not there yet, the
// nearest directory above it.
func LookDirectory(path string) Directory {
	d := Directory{Path: path}
	info, err := os.Stat(path)
	switch {
	case err == nil:
		d.Exists, d.Dir, d.Mode = true, info.IsDir(), info.Mode()
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			d.UID = int(st.Uid)
		}
	case !errors.Is(err, fs.ErrNotExist):
		d.Err = err
		return d
	}
	at := Nearest(path)
	d.Writable = unix.Access(at, unix.W_OK|unix.X_OK) == nil
	var st unix.Statfs_t
	if d.Err = unix.Statfs(at, &st); d.Err == nil {
		d.Filesystem, d.Free = filesystem(uint32(st.Type)), st.Bavail*uint64(st.Bsize)
	}
	return d
}

// Nearest is path, or the nearest directory above it that exists.
func Nearest(path string) string {
	for path != "/" && path != "." {
		if _, err := os.Stat(path); err == nil {
			break
		}
		path = filepath.Dir(path)
	}
	return path
}

func filesystem(magic uint32) string {
	names := map[uint32]string{
		unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.TMPFS_MAGIC: "tmpfs",
		unix.OVERLAYFS_SUPER_MAGIC: "overlayfs", unix.NFS_SUPER_MAGIC: "NFS", unix.F2FS_SUPER_MAGIC: "f2fs", unix.FUSE_SUPER_MAGIC: "FUSE",
		unix.SMB2_SUPER_MAGIC: "SMB", unix.CIFS_SUPER_MAGIC: "SMB", unix.V9FS_MAGIC: "9p", unix.MSDOS_SUPER_MAGIC: "FAT",
		unix.ECRYPTFS_SUPER_MAGIC: "eCryptfs", zfsMagic: "zfs",
	}
	if name, ok := names[magic]; ok {
		return name
	}
	return "another"
}

const zfsMagic = 0x2fc12fc1
