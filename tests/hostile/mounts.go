package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

func init() {
	for _, m := range []struct {
		name, source, fstype string
		flags                uintptr
		data                 string
	}{
		{"tmpfs", "tmpfs", "tmpfs", 0, ""},
		{"proc", "proc", "proc", 0, ""},
		{"sysfs", "sysfs", "sysfs", 0, ""},
		{"bind", "/", "", unix.MS_BIND | unix.MS_REC, ""},
		{"overlay", "overlay", "overlay", 0, "userxattr,lowerdir=/usr,upperdir=upper,workdir=work"},
		{"mqueue", "mqueue", "mqueue", 0, ""},
	} {
		attempt("C05.mount-"+m.name, "cdb", "ns", func() error { return tryMount(m.source, m.fstype, m.flags, m.data) })
	}
	attempt("C05.fsopen", "cdb", "ns", func() error {
		fd, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
		if err == nil {
			err = unix.Close(fd)
		}
		return err
	})
	attempt("C05.umount", "cdb", "ns", func() error {
		if params["twin"] != "" { // what was mounted outside cannot be unmounted in a namespace of less power
			if err := unix.Mount("tmpfs", "/mnt", "tmpfs", 0, ""); err != nil {
				return err
			}
		}
		return overMounts(func(at string) error { return unix.Unmount(at, unix.MNT_DETACH) })
	})
	attempt("C05.remount-writable", "cdb", "ns", func() error {
		if params["twin"] != "" {
			if err := unix.Mount("tmpfs", "/mnt", "tmpfs", unix.MS_RDONLY, ""); err != nil {
				return err
			}
		}
		return overMounts(func(at string) error { return unix.Mount("", at, "", unix.MS_REMOUNT|unix.MS_BIND, "") })
	})
	attempt("C06.clone-user-namespace", "cdb", "host", func() error {
		return child(&syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}, "one", "nothing")
	})
	attempt("C06.clone-mount-namespace", "cdb", "host", func() error {
		return child(&syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID}, "one", "nothing")
	})
	attempt("C06.unshare", "cdb", "host", func() error {
		runtime.LockOSThread()
		return first(unix.Unshare(unix.CLONE_NEWNS), unix.Unshare(unix.CLONE_NEWUTS), unix.Unshare(unix.CLONE_NEWNET))
	})
	attempt("C06.setns", "cdb", "host", func() error {
		runtime.LockOSThread()
		fd, err := unix.Open("/proc/self/ns/uts", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return unix.Setns(fd, unix.CLONE_NEWUTS)
	})
	works("nothing", "", func() error { return nil })
	attempt("C07.pivot-root", "cdb", "ns", func() error {
		dir, err := os.MkdirTemp("", "pivot")
		if err == nil && params["twin"] != "" {
			err = unix.Mount("tmpfs", dir, "tmpfs", 0, "")
		}
		if err == nil {
			err = unix.Chdir(dir)
		}
		if err != nil {
			return err
		}
		return unix.PivotRoot(".", ".")
	})
	attempt("C07.chroot-escape", "cdb", "host", chrootEscape)
}

// tryMount mounts on a directory of its own, in a mount namespace that ends
// with the twin.
func tryMount(source, fstype string, flags uintptr, data string) error {
	dir, err := os.MkdirTemp("", "mount")
	if err != nil {
		return err
	}
	if strings.Contains(data, "upperdir") {
		if params["twin"] != "" { // the upper directory must not be on an overlay itself
			if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
				return err
			}
		}
		data = strings.NewReplacer("upper=", "upper=", "=upper", "="+dir+"/upper", "=work", "="+dir+"/work").Replace(data)
		for _, sub := range []string{"/upper", "/work", "/at"} {
			if err := os.Mkdir(dir+sub, 0o755); err != nil {
				return err
			}
		}
		dir += "/at"
	}
	return unix.Mount(source, dir, fstype, flags, data)
}

// overMounts tries something with every mount point, the innermost first.
func overMounts(try func(at string) error) error {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	all := []error{errRefused}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		at := strings.Fields(lines[i])[4]
		err := try(at)
		if err == nil {
			fmt.Println(at)
			return nil
		}
		all = append(all, err)
	}
	return first(all...)
}

// chrootEscape is the classic way out of a chroot, and then looks for a file of
// the host. Root of a container gets no further than its own root.
func chrootEscape() error {
	dir, err := os.MkdirTemp("", "jail")
	if err != nil {
		return err
	}
	root, err := os.Open("/")
	if err != nil {
		return err
	}
	defer root.Close()
	if err := unix.Chroot(dir); err != nil {
		return err
	}
	if err := root.Chdir(); err != nil {
		return err
	}
	for range 100 {
		if err := unix.Chdir(".."); err != nil {
			return err
		}
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return canary("")
}

// canary reads the file that the test has put on the host, below a root.
func canary(root string) error {
	data, err := os.ReadFile(root + params["canary"]) // not joined: that would resolve ".." without the kernel
	if err != nil {
		return err
	}
	if !strings.Contains(string(data), params["token"]) {
		return errors.New("another file")
	}
	fmt.Println("read", params["canary"])
	return nil
}
