package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// baseTar makes, once, the tarball that plain and sbuild start from: the buildd
// variant, with apt's lists kept so that nobody has to fetch them again.
func (l *lab) baseTar(ctx context.Context) (string, error) {
	tar := l.path("base.tar")
	if _, err := os.Stat(tar); err == nil {
		return tar, nil
	}
	argv := append(l.mmdebstrapArgv(tar), "--skip=cleanup/apt/lists")
	err := l.tool(ctx, l.dir, argv...)
	return tar, err
}

// plain is dpkg-buildpackage in a chroot that has everything: the limit of what
// can be reached. The overlay is mounted, and the source copied, beforehand.
func (l *lab) plain(pkg string) contender {
	lower, deps := l.path("plain", "base"), l.path("plain", pkg)
	return contender{
		name: "plain",
		prepare: func(ctx context.Context) error {
			if err := l.unpackBase(ctx, lower); err != nil {
				return err
			}
			if err := os.MkdirAll(deps, 0o755); err != nil {
				return err
			}
			root, unmount, err := l.overlay(deps, lower)
			if err != nil {
				return err
			}
			defer unmount()
			return l.installBuildDepends(ctx, root, pkg)
		},
		job: func(context.Context) (job, error) {
			upper, err := l.fresh("plain/upper")
			if err != nil {
				return job{}, err
			}
			root, unmount, err := l.overlay(upper, deps+":"+lower)
			if err != nil {
				return job{}, err
			}
			script := "cd /build && dpkg-source --no-check -x *.dsc source && cd source && exec dpkg-buildpackage -b -us -uc -j" + fmt.Sprint(runtime.NumCPU())
			return job{
				commands: []command{{
					argv: []string{"chroot", "--userspec=1000:1000", root, "sh", "-c", script},
					env:  []string{"HOME=/nonexistent", "TMPDIR=/tmp", "LOGNAME=builder", "USER=builder"},
				}},
				done: func(context.Context, *sample) error {
					err := wantFile(filepath.Join(root, "build"), "*.changes")
					unmount()
					return err
				},
			}, nil
		},
	}
}

func (l *lab) unpackBase(ctx context.Context, dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	tar, err := l.baseTar(ctx)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return l.tool(ctx, dir, "tar", "-xf", tar)
}

// overlay mounts lower below upper, with /proc; unmount may be called once.
func (l *lab) overlay(upper, lower string) (root string, unmount func(), err error) {
	if root, err = l.fresh("plain/root"); err != nil {
		return "", nil, err
	}
	work, err := l.fresh("plain/work")
	if err != nil {
		return "", nil, err
	}
	data := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, upper, work)
	if err := unix.Mount("overlay", root, "overlay", 0, data); err != nil {
		return "", nil, fmt.Errorf("mount overlay: %w", err)
	}
	unmount = func() {
		_ = unix.Unmount(filepath.Join(root, "proc"), unix.MNT_DETACH) // the namespace ends with this process
		_ = unix.Unmount(root, unix.MNT_DETACH)
	}
	if err := unix.Mount("proc", filepath.Join(root, "proc"), "proc", 0, ""); err != nil {
		unmount()
		return "", nil, fmt.Errorf("mount proc: %w", err)
	}
	return root, unmount, nil
}

// installBuildDepends fills a root: build dependencies, user, source.
func (l *lab) installBuildDepends(ctx context.Context, root, pkg string) error {
	build := filepath.Join(root, "build")
	if err := os.Mkdir(build, 0o755); err != nil {
		return err
	}
	if err := l.copySource(build, pkg); err != nil {
		return err
	}
	if err := copyFile("/etc/resolv.conf", filepath.Join(root, "etc/resolv.conf")); err != nil {
		return err
	}
	script := strings.Join([]string{
		"set -e",
		"export TMPDIR=/tmp",
		"echo builder:x:1000:1000::/nonexistent:/bin/sh >>/etc/passwd",
		"echo builder:x:1000: >>/etc/group",
		"apt-get -qq -y build-dep /build/*.dsc",
		"apt-get clean",
		"chown -R 1000:1000 /build",
	}, "\n")
	return l.tool(ctx, l.dir, "chroot", root, "sh", "-c", script)
}

// copySource copies the .dsc of a package and its files.
func (l *lab) copySource(dir, pkg string) error {
	files, err := filepath.Glob(filepath.Join(filepath.Dir(l.dsc[pkg]), pkg+"_*"))
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := copyFile(f, filepath.Join(dir, filepath.Base(f))); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}

// wantFile makes sure that a measured command has done its work.
func wantFile(dir, pattern string) error {
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("no %s in %s", pattern, dir)
	}
	return err
}
