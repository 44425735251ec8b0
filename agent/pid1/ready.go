package pid1

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// adopt completes a root that a daemon has put together: it has its mounts,
// and /etc/hosts and its kin are files of the daemon's own, mounted one by one.
func (s *setup) adopt() error {
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	// The daemon followed symlinks that stood in place of these.
	for _, d := range []string{"dev", "proc", "sys", "run", "tmp", "etc"} {
		if err := checkDir(d); err != nil {
			return err
		}
	}
	if err := s.ensureDir("var/tmp", 0o1777); err != nil {
		return err
	}
	if err := unix.Chmod("tmp", 0o1777); err != nil {
		return fmt.Errorf("open /tmp to all: %w", err)
	}
	if err := unix.Mkdir("run/lock", 0o1777); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make /run/lock: %w", err)
	}
	if !s.PrivateNet {
		return nil // what the daemon took from its host is right
	}
	for _, f := range [][2]string{{"etc/hosts", s.Hosts}, {"etc/resolv.conf", s.ResolvConf}, {"etc/hostname", s.Hostname + "\n"}} {
		if err := overwrite(f[0], f[1]); err != nil {
			return fmt.Errorf("write /%s: %w", f[0], err)
		}
	}
	return nil
}

// overwrite fills a file in place, since a mount point cannot be replaced.
func overwrite(name, content string) error {
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(writeAll(fd, []byte(content)), unix.Close(fd))
}
