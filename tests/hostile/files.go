package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

func init() {
	attempt("C11.make-disk", "cdb", "host", func() error { return device(unix.S_IFBLK, params["disk"]) })
	attempt("C11.make-memory-device", "cdb", "host", func() error { return device(unix.S_IFCHR, "1:1") })
	attempt("C11.make-kernel-log", "cdb", "host", func() error { return device(unix.S_IFCHR, "1:11") })
	attempt("C11.devices", "cdb", "host", foreignDevices)
	attempt("C12.set-id-program", "cb", "host", func() error { return gain(params["suid"]) })
	attempt("C12.file-capability", "cb", "host", func() error { return gain(params["filecap"]) })
	attempt("C12.own-set-id-program", "cb", "host", func() error {
		dir, err := os.MkdirTemp("/var/tmp", "suid")
		if err != nil {
			return err
		}
		file := filepath.Join(dir, "suid-probe")
		if err := errors.Join(os.Chmod(dir, 0o755), copyFile(program, file), unix.Chmod(file, 0o6755)); err != nil {
			return err
		}
		return gain(file)
	})
	attempt("C12.set-capability", "cb", "host", func() error {
		file := filepath.Join(os.TempDir(), "caps-"+params["token"])
		if err := copyFile(program, file); err != nil {
			return err
		}
		return unix.Setxattr(file, "security.capability", fileCapability, 0)
	})
	attempt("C16.descriptors", "cdb", "host", func() error {
		all := []error{errRefused}
		for fd := range 1024 {
			up := strings.Repeat("/..", 20)
			all = append(all, canary(fmt.Sprintf("/proc/self/fd/%d%s", fd, up)))
		}
		return first(all...)
	})
	attempt("C16.working-directory", "cdb", "host", func() error {
		up := strings.Repeat("/..", 20)
		return first(canary("/proc/self/cwd"+up), canary("/proc/self/root"+up), canary("/proc/1/cwd"+up), canary("/proc/1/root"))
	})
	attempt("C17.agent-program", "cdb", "host", func() error {
		all := []error{errRefused}
		for _, name := range append(strings.Fields(params["programs"]), "/proc/1/exe", "/run/.dbuild/dbuild-agent") {
			all = append(all, openForWriting(name), os.Chmod(name, 0o777), os.Rename(name, name+".old"))
		}
		return first(all...)
	})
	attempt("C33.host-files", "cdb", "host", func() error {
		all := []error{canary("")}
		for _, dir := range strings.Fields(params["state"]) {
			_, err := os.ReadDir(dir)
			all = append(all, err)
		}
		return first(all...)
	})
	attempt("C33.foreign-mounts", "cdb", "host", func() error {
		// Whatever is mounted from a file system of the host must not show its
		// top or the places in which states and images lie.
		data, err := os.ReadFile("/proc/self/mountinfo")
		all := []error{errors.Join(err, errRefused)}
		for line := range strings.Lines(string(data)) {
			for _, below := range []string{params["canary"], "/keys/image.key", "/var/lib/docker/image", "/boot", "/lost+found"} {
				if at := strings.Fields(line)[4]; at != "/" || params["twin"] != "" {
					_, err := os.Lstat(filepath.Join(at, below))
					all = append(all, err)
				}
			}
		}
		return first(all...)
	})
	attempt("C34.archive-view", "d", "host", func() error {
		return writableDirectory(append(strings.Fields(params["inputs"]), "/run/dbuild/archive")...)
	})
	attempt("C37.decoy-links", "db", "host", func() error {
		// Links that an installed package has put where an engine writes.
		_, err := os.Stat(params["decoy"])
		return err
	})
	works("C12.plant", "p", func() error {
		return errors.Join(copyFile(program, params["suid"]), unix.Chmod(params["suid"], 0o4755),
			copyFile(program, params["filecap"]), unix.Setxattr(params["filecap"], "security.capability", fileCapability, 0))
	})
	works("C35.overlay-attributes", "p", plantAttributes)
	works("C37.plant-links", "p", plantLinks)
}

// device makes a device node where nodes can be made, and opens it.
func device(kind uint32, number string) error {
	major, minor, ok := strings.Cut(number, ":")
	if !ok {
		return errAbsent // none that even the host's root may open
	}
	ma, err1 := strconv.Atoi(major)
	mi, err2 := strconv.Atoi(minor)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	var all []error
	for _, dir := range []string{".", "/tmp", "/var/tmp", "/dev", "/dev/shm", "/run"} {
		file := filepath.Join(dir, "node-"+params["token"])
		err := unix.Mknod(file, kind|0o666, int(unix.Mkdev(uint32(ma), uint32(mi))))
		if err == nil {
			var f *os.File
			if f, err = os.Open(file); err == nil {
				f.Close()
			}
			_ = os.Remove(file)
		}
		if errors.Is(err, unix.ENXIO) {
			err = errAbsent // no driver
		}
		all = append(all, err)
	}
	return first(all...)
}

// foreignDevices looks for a device that no container needs and that opens.
func foreignDevices() error {
	harmless := []string{"null", "zero", "full", "random", "urandom", "tty", "ptmx"}
	found := ""
	err := filepath.WalkDir("/dev", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeDevice == 0 || strings.HasPrefix(d.Name(), "watchdog") || slices.Contains(harmless, d.Name()) || filepath.Dir(path) == "/dev/pts" {
			return nil
		}
		if f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0); err == nil {
			f.Close()
			found = path
			return fs.SkipAll
		}
		return nil
	})
	if found == "" {
		return errors.Join(err, errRefused)
	}
	fmt.Println(found)
	return nil
}

// fileCapability is cap_sys_admin=ep, version 2.
var fileCapability = []byte{1, 0, 0, 2, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

// gain runs a program that is set-id root, or has file capabilities, and
// succeeds when it has them as a process of somebody else.
func gain(file string) error {
	if _, err := os.Stat(file); err != nil {
		return fmt.Errorf("the program was not planted: %w", err)
	}
	cmd := exec.Command(file)
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	out, err := cmd.CombinedOutput()
	fmt.Println(oneLine(string(out)))
	if strings.Contains(string(out), "gained") {
		return nil
	}
	return errors.Join(err, errRefused)
}

// tellPrivileges is what such a program prints.
func tellPrivileges() {
	status := statusFields()
	fmt.Println("euid", os.Geteuid(), "CapEff", status["CapEff"])
	if os.Geteuid() != os.Getuid() || strings.Trim(status["CapEff"], "0") != "" {
		fmt.Println("gained")
	}
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

func writableDirectory(dirs ...string) error {
	all := []error{errRefused}
	for _, dir := range dirs {
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && (d.IsDir() || d.Type().IsRegular()) {
				all = append(all, unix.Access(path, unix.W_OK))
				if all[len(all)-1] == nil {
					fmt.Println(path)
				}
			}
			return nil
		})
	}
	return first(all...)
}

// plantAttributes gives directories the marks with which overlay file systems
// hide what lies below, and tries to make a whiteout. What comes of it is
// measured outside: the image's digest and the other packages must not change.
func plantAttributes() error {
	for _, name := range []string{"user.overlay.opaque", "user.fuseoverlayfs.opaque", "trusted.overlay.opaque", "user.overlay.redirect", "user.overlay.whiteout"} {
		fmt.Println(name, unix.Setxattr("/usr/share/doc", name, []byte("y"), 0))
	}
	fmt.Println("whiteout", unix.Mknod("/usr/share/doc/whiteout-"+params["token"], unix.S_IFCHR|0o600, 0))
	fmt.Println(".wh.", os.WriteFile("/usr/share/doc/.wh.bash", nil, 0o644), os.WriteFile("/usr/share/doc/.wh..wh..opq", nil, 0o644))
	return nil
}

// plantLinks puts links to a decoy where the engine of the next container will
// write. Some of these are mount points with some engines, and then stay.
func plantLinks() error {
	for _, name := range []string{"/etc/resolv.conf", "/etc/hosts", "/etc/hostname"} {
		err := os.Remove(name)
		if err == nil {
			err = os.Symlink(params["decoy"], name)
		}
		fmt.Println(name, err)
	}
	return nil
}
