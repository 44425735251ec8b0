// Package testenv tells tests what this machine offers: root, the network, a
// program to compare with. A test asks for what it needs and is skipped, with
// the name of the variable or program that was missing, when it is not there.
//
// Nothing is skipped by mistake: what DBUILD_TEST_NOSKIP lists (names parted by
// commas, as given to Need…, or "all") fails the test instead. Continuous
// integration sets it in .ci/run.
package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The variables that allow tests to touch more than their own directory.
const (
	RootVar    = "DBUILD_TEST_ROOT"    // "1": tests may act as root: mounts, namespaces, containers
	NetworkVar = "DBUILD_TEST_NETWORK" // "1": tests may use the Debian mirror of the host's apt
	NoSkipVar  = "DBUILD_TEST_NOSKIP"  // what may not be skipped
)

// NeedRoot skips the test unless it runs as root and [RootVar] allows it.
func NeedRoot(t testing.TB) {
	t.Helper()
	if !Root() {
		Skip(t, "root", "needs root and %s=1", RootVar)
	}
}

// NeedNetwork skips the test unless [NetworkVar] allows the mirror.
func NeedNetwork(t testing.TB) {
	t.Helper()
	if !Network() {
		Skip(t, "network", "needs the Debian mirror: set %s=1", NetworkVar)
	}
}

// NeedUserNamespaces skips the test when the kernel refuses user namespaces.
func NeedUserNamespaces(t testing.TB) {
	t.Helper()
	if !UserNamespaces() {
		Skip(t, "userns", "the kernel refuses user namespaces")
	}
}

// NeedProgram returns the path of a program that is an oracle or a tool of the
// test, or skips the test.
func NeedProgram(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Skip(t, name, "needs the program %s (see tests/setup)", name)
	}
	return path
}

// User is an ordinary user of this machine with subordinate ids.
type User struct {
	UID, GID int
	Home     string // of one test alone
}

// userName is the user that tests/setup makes.
const userName = "dbuild-test"

// FindUser returns an ordinary user as whom a tester who is root may start
// programs; or the tester, who is one. Home is not set.
func FindUser() (User, error) {
	u := User{UID: os.Getuid(), GID: os.Getgid()}
	if _, err := exec.LookPath("newuidmap"); err != nil {
		return u, fmt.Errorf("needs the program newuidmap (see tests/setup): %w", err)
	}
	if u.UID != 0 {
		return u, nil
	}
	if !Root() {
		return u, fmt.Errorf("needs %s=1", RootVar)
	}
	known, err := user.Lookup(userName)
	if err != nil {
		return u, fmt.Errorf("needs the user %s (see tests/setup): %w", userName, err)
	}
	u.UID, _ = strconv.Atoi(known.Uid) // numbers on every Unix
	u.GID, _ = strconv.Atoi(known.Gid)
	return u, nil
}

// NeedUser is [FindUser] with a home for this test; it skips the test where
// there is no user.
func NeedUser(t testing.TB) User {
	t.Helper()
	u, err := FindUser()
	if err != nil {
		Skip(t, "user", "%v", err)
	}
	u.Home, err = os.MkdirTemp("", "dbuild-user-") //nolint:usetesting // others cannot enter those of tests
	if err == nil {
		err = errors.Join(os.Chown(u.Home, u.UID, u.GID), os.Chmod(u.Home, 0o700))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(u.Home); err != nil && os.Getuid() == 0 {
			t.Error(err)
		}
	})
	return u
}

// Command returns a command that runs as the user, with nothing of the tester's
// environment but what is named.
func (u User) Command(ctx context.Context, env []string, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = u.Home
	cmd.Env = append([]string{"HOME=" + u.Home, "TMPDIR=" + u.Home, "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"}, env...)
	if os.Getuid() != u.UID {
		cmd.SysProcAttr = &unix.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(u.UID), Gid: uint32(u.GID)}} //nolint:gosec // ids of the user database
	}
	return cmd
}

// Root reports whether tests may act as root.
func Root() bool { return os.Geteuid() == 0 && os.Getenv(RootVar) == "1" }

// Network reports whether tests may use the Debian mirror.
func Network() bool { return os.Getenv(NetworkVar) == "1" }

// UserNamespaces reports whether a process can make a user namespace.
func UserNamespaces() bool {
	cmd := exec.Command("/bin/true") //nolint:noctx // ends at once
	cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}
	return cmd.Run() == nil
}

// Skip skips the test, or fails it when what is missing may not be skipped.
func Skip(t testing.TB, what, format string, args ...any) {
	t.Helper()
	if Required(what) {
		t.Fatalf(format+" ("+NoSkipVar+" lists "+what+")", args...)
	}
	t.Skipf(format, args...)
}

// Required reports whether [NoSkipVar] lists what.
func Required(what string) bool {
	list := strings.Split(os.Getenv(NoSkipVar), ",")
	return slices.Contains(list, what) || slices.Contains(list, "all")
}
