package pid1

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

const noSpecials = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// Files and directories of /proc and /sys that tell about the host or steer it.
var (
	maskedFiles = []string{
		"proc/kcore", "proc/keys", "proc/key-users", "proc/latency_stats", "proc/timer_list", "proc/timer_stats",
		"proc/sched_debug", "proc/interrupts", "proc/kallsyms", "proc/kmsg", "proc/sysrq-trigger",
	}
	maskedDirs = []string{
		"proc/acpi", "proc/asound", "proc/scsi", "sys/firmware", "sys/devices/virtual/powercap",
	}
	readOnly = []string{"proc/bus", "proc/fs", "proc/irq", "proc/sys"}
)

// RootCapabilities are those of a container's root, as a bit set: what dpkg,
// apt and maintainer scripts need, and none with which a step could look into
// the agent or mount.
const RootCapabilities = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FOWNER | 1<<unix.CAP_FSETID |
	1<<unix.CAP_KILL | 1<<unix.CAP_SETGID | 1<<unix.CAP_SETUID | 1<<unix.CAP_SETPCAP | 1<<unix.CAP_NET_BIND_SERVICE |
	1<<unix.CAP_SYS_CHROOT | 1<<unix.CAP_MKNOD | 1<<unix.CAP_AUDIT_WRITE | 1<<unix.CAP_SETFCAP

// MaskedPaths are the files and directories that no container may see, for
// engines that leave the mounting to a daemon.
func MaskedPaths() []string { return absolute(maskedFiles, maskedDirs) }

// ReadOnlyPaths are the directories that no container may write to.
func ReadOnlyPaths() []string { return absolute(readOnly) }

func absolute(lists ...[]string) []string {
	var all []string
	for _, list := range lists {
		for _, p := range list {
			all = append(all, "/"+p)
		}
	}
	return all
}

// deviceNodes are bound from the host: nodes cannot be made in a user namespace.
var deviceNodes = []string{"null", "zero", "full", "random", "urandom", "tty"}

func (s *setup) mountDev() error {
	if err := s.ensureDir("dev", 0o755); err != nil {
		return err
	}
	if err := mount("tmpfs", "dev", "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=0755,size=1m"); err != nil {
		return err
	}
	for _, n := range deviceNodes {
		fd, err := unix.Open("dev/"+n, unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o666)
		if err != nil {
			return fmt.Errorf("make /dev/%s: %w", n, err)
		}
		if err := unix.Close(fd); err != nil {
			return err
		}
		if err := mount("/dev/"+n, "dev/"+n, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	for _, l := range [][2]string{
		{"/proc/self/fd", "dev/fd"}, {"/proc/self/fd/0", "dev/stdin"}, {"/proc/self/fd/1", "dev/stdout"},
		{"/proc/self/fd/2", "dev/stderr"}, {"pts/ptmx", "dev/ptmx"},
	} {
		if err := unix.Symlink(l[0], l[1]); err != nil {
			return err
		}
	}
	for _, d := range []string{"dev/pts", "dev/shm", "dev/mqueue"} {
		if err := unix.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	if err := mount("devpts", "dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"); err != nil {
		return err
	}
	if err := mount("tmpfs", "dev/shm", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777"); err != nil {
		return err
	}
	if err := mount("mqueue", "dev/mqueue", "mqueue", noSpecials, ""); err != nil {
		s.missing = append(s.missing, "mqueue")
	}
	return nil
}

func (s *setup) mountProc() error {
	if err := s.ensureDir("proc", 0o755); err != nil {
		return err
	}
	err := mount("proc", "proc", "proc", noSpecials, "")
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: %w (a container with a masked /proc?)", errUnsupported, err)
	}
	if err != nil {
		return err
	}
	if err := mount("tmpfs", stage+"/empty", "tmpfs", noSpecials|unix.MS_RDONLY, "mode=0555,size=4k"); err != nil {
		return err
	}
	for _, p := range readOnly {
		err := unix.Mount(p, p, "", unix.MS_BIND, "")
		if err == nil {
			err = unix.Mount("", p, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|noSpecials, "")
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("make /%s read-only: %w", p, err)
		}
	}
	return nil
}

// mountSys mounts /sys read-only, then masks what is sensitive in both kernel
// file systems.
func (s *setup) mountSys() error {
	if err := s.ensureDir("sys", 0o755); err != nil {
		return err
	}
	if err := s.sysfs(); err != nil {
		s.missing = append(s.missing, "sysfs")
		if err := mount(stage+"/empty", "sys", "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	for _, p := range maskedFiles {
		if err := mask("dev/null", p); err != nil {
			return err
		}
	}
	for _, p := range maskedDirs {
		if err := mask(stage+"/empty", p); err != nil {
			return err
		}
	}
	return nil
}

// sysfs mounts a fresh sysfs, which only the owner of the network namespace
// may do, or else the host's.
func (s *setup) sysfs() error {
	if s.PrivateNet {
		return mount("sysfs", "sys", "sysfs", noSpecials|unix.MS_RDONLY, "")
	}
	if s.hostSys < 0 {
		return errUnsupported
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC}
	if err := unix.MountSetattr(s.hostSys, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		return err
	}
	return attach(s.hostSys, "sys")
}

// mask covers path, which need not exist.
func mask(with, path string) error {
	err := unix.Mount(with, path, "", unix.MS_BIND, "")
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("mask /%s: %w", path, err)
	}
	return nil
}

// loopbackUp sets the flags of lo; the kernel adds the addresses.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := errors.Join(unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr), unix.Close(fd)); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return nil
}
