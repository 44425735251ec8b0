package userns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"dbuild/internal/fault"
)

// mapError is a failure of newuidmap or newgidmap with what it printed.
type mapError struct {
	program, output string
	err             error
}

func (e *mapError) Error() string {
	return fmt.Sprintf("%s: %s (%v)", filepath.Base(e.program), strings.TrimSpace(e.output), e.err)
}

func (e *mapError) Unwrap() error { return e.err }

// Check reports what keeps the calling user from having a user namespace, with
// the command that mends it; nil if nothing is known to.
func Check() error { return realHost.check(os.Getuid(), os.Getgid()) }

func (h host) check(uid, gid int) error {
	if err := h.switchedOff(); err != nil {
		return err
	}
	if _, err := h.tools(); err != nil {
		return err
	}
	_, err := h.namespace(uid, gid)
	return err
}

// switchedOff looks at the settings with which an administrator, or a
// distribution, keeps user namespaces from users.
func (h host) switchedOff() error {
	for _, s := range []struct{ name, off, remedy string }{
		{"user.max_user_namespaces", "0", "sudo sysctl -w user.max_user_namespaces=15000"},
		{"kernel.unprivileged_userns_clone", "0", "sudo sysctl -w kernel.unprivileged_userns_clone=1"},
		{"kernel.apparmor_restrict_unprivileged_userns", "1", "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for dbuild that allows userns"},
	} {
		path := filepath.Join(h.sysctl, strings.ReplaceAll(s.name, ".", "/"))
		if b, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(b)) == s.off {
			return fault.WithHint(fault.New(fault.Engine, "make user namespace: sysctl %s is %s", s.name, s.off), "%s", s.remedy)
		}
	}
	return nil
}

// explain finds the reason of a failure: a setting first, for the kernel's own
// answer tells little.
func (h host) explain(err error) error {
	if off := h.switchedOff(); off != nil {
		return off
	}
	err = fault.Wrap(fault.Engine, err)
	var m *mapError
	switch {
	case errors.As(err, &m):
		return fault.WithHint(err, "the ranges of this user are in %s and %s; %s must be set-user-ID root, as Debian's package uidmap installs it", h.subuid, h.subgid, m.program)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EUSERS):
		return fault.WithHint(err, "too many user namespaces are in use, or nested: raise sysctl user.max_user_namespaces")
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fault.WithHint(err, "something forbids user namespaces here (a container or a chroot?): run dbuild on the host, or use --engine docker")
	}
	return err
}
