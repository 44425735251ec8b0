package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"dbuild/deb"
)

// firstSubID is where the range of user ids begins that sbuild maps.
const firstSubID = 1 << 20

// sbuild runs in unshare mode at its fastest: an uncompressed tarball kept on
// the tmpfs with apt's lists inside, no update, no upgrade, no clean-up of a
// session that is thrown away anyway, no lintian, and downloaded packages kept
// in a directory that is bound into the session.
func (l *lab) sbuild(pkg string) contender {
	return contender{
		name: "sbuild",
		prepare: func(ctx context.Context) error {
			tar, err := l.baseTar(ctx)
			if err != nil {
				return err
			}
			if err := l.prepareSbuild(); err != nil {
				return err
			}
			if err := os.Remove(l.sbuildTar()); err != nil && !os.IsNotExist(err) {
				return err
			}
			if err := os.Link(tar, l.sbuildTar()); err != nil {
				return err
			}
			out, err := l.fresh("sbuild/out") // fills the cache of packages
			if err != nil {
				return err
			}
			return l.tool(ctx, out, l.sbuildArgv(pkg)...)
		},
		job: func(context.Context) (job, error) {
			out, err := l.fresh("sbuild/out")
			if err != nil {
				return job{}, err
			}
			return job{
				commands: []command{{argv: l.sbuildArgv(pkg), dir: out}},
				done:     func(context.Context, *sample) error { return wantFile(out, "*.changes") },
			}, nil
		},
	}
}

func (l *lab) sbuildArgv(pkg string) []string {
	return []string{"sbuild", "-d", l.suite, fmt.Sprintf("-j%d", runtime.NumCPU()), "--no-run-lintian", "--nolog", l.dsc[pkg]}
}

// sbuildTar is where sbuild looks for the chroot of the suite.
func (l *lab) sbuildTar() string {
	return l.path("home", ".cache", "sbuild", l.suite+"-"+deb.HostArch()+".tar")
}

// prepareSbuild writes sbuild's configuration and gives root subordinate ids,
// in this mount namespace only.
func (l *lab) prepareSbuild() error {
	cache, sub := l.path("sbuild", "archives"), l.path("sbuild", "subid")
	if _, err := os.Stat(sub); err == nil {
		return nil
	}
	for _, d := range []string{filepath.Join(cache, "partial"), filepath.Dir(l.sbuildTar())} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	for _, d := range []string{cache, filepath.Join(cache, "partial")} {
		if err := os.Chown(d, firstSubID, firstSubID); err != nil {
			return err
		}
	}
	config := fmt.Sprintf(`$chroot_mode = 'unshare';
$unshare_tmpdir_template = '%s/tmp.sbuild.XXXXXXXXXX';
$unshare_bind_mounts = [ { directory => '%s', mountpoint => '/var/cache/apt/archives' } ];
$apt_update = 0;
$apt_upgrade = 0;
$apt_distupgrade = 0;
$apt_clean = 0;
$purge_build_deps = 'never';
$purge_build_directory = 'never';
$purge_session = 'always';
$run_lintian = 0;
1;
`, l.dir, cache)
	if err := os.WriteFile(l.path("sbuild", "config.pl"), []byte(config), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(sub, fmt.Appendf(nil, "root:%d:65536\n", firstSubID), 0o644); err != nil {
		return err
	}
	for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
		if err := unix.Mount(sub, file, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s: %w", file, err)
		}
	}
	return nil
}
