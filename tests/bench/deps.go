package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"dbuild/deb"
)

// depsRows compare making the image of a package's build dependencies with
// installing them in a chroot. All packages have been downloaded before.
func (l *lab) depsRows() []row {
	var all []row
	for _, s := range []struct{ name, depends, title string }{
		{"sample-few", fewDepends, "Build dependencies of a debhelper package"},
		{"sample-many", manyDepends, "More than a hundred build dependencies"},
	} {
		all = append(all, row{s.title, "dbuild at most 1.0", []contender{
			l.buildDep(s.name, s.depends, false), l.buildDep(s.name, s.depends, true), l.dbuildDeps(s.name, s.depends),
		}})
	}
	return all
}

// aptSwitches are those that dbuild gives apt, too.
const aptSwitches = "-qq -y --no-install-recommends -o DPkg::Options::=--force-unsafe-io -o DPkg::Use-Pty=0"

// buildDep is apt-get in a prepared overlay chroot that has apt's lists, their
// cache and the packages. noIndex tells man-db not to index manual pages, which
// dbuild does as well and others do not.
func (l *lab) buildDep(pkg, depends string, noIndex bool) contender {
	name := "apt-get build-dep"
	if noIndex {
		name += ", no index of manual pages"
	}
	lower := l.path("plain", "base")
	debs := l.path("plain", "debs-"+pkg+map[bool]string{true: "-no-index"}[noIndex])
	return contender{
		name: name,
		prepare: func(ctx context.Context) error {
			if err := l.writeSource(ctx, pkg, depends); err != nil {
				return err
			}
			if err := l.unpackBase(ctx, lower); err != nil {
				return err
			}
			if err := os.MkdirAll(debs, 0o755); err != nil {
				return err
			}
			root, unmount, err := l.overlay(debs, lower)
			if err != nil {
				return err
			}
			defer unmount()
			if err := copyFile("/etc/resolv.conf", filepath.Join(root, "etc/resolv.conf")); err != nil {
				return err
			}
			if err := copyFile(l.dsc[pkg], filepath.Join(root, "wanted.dsc")); err != nil {
				return err
			}
			script := []string{"set -e", "export TMPDIR=/tmp", "apt-get " + aptSwitches + " --download-only build-dep /wanted.dsc"}
			if noIndex {
				script = append(script, "echo man-db man-db/auto-update boolean false | debconf-set-selections")
			}
			return l.tool(ctx, l.dir, "chroot", root, "sh", "-c", strings.Join(script, "\n"))
		},
		job: func(context.Context) (job, error) {
			upper, err := l.fresh("plain/upper")
			if err != nil {
				return job{}, err
			}
			root, unmount, err := l.overlay(upper, debs+":"+lower)
			if err != nil {
				return job{}, err
			}
			return job{
				commands: []command{{
					argv: []string{"chroot", root, "sh", "-c", "exec apt-get " + aptSwitches + " build-dep /wanted.dsc"},
					env:  []string{"TMPDIR=/tmp"},
				}},
				done: func(context.Context, *sample) error {
					err := wantFile(root, "usr/bin/dh")
					unmount()
					return err
				},
			}, nil
		},
	}
}

// dbuildDeps is the two stages of a build that ask apt and make the image:
// stored, scanned, digested and signed. The image of the round before is
// removed, the packages stay.
func (l *lab) dbuildDeps(pkg, depends string) contender {
	state := l.path("dbuild-" + pkg)
	return contender{
		name: "dbuild",
		prepare: func(ctx context.Context) error {
			if err := l.writeSource(ctx, pkg, depends); err != nil {
				return err
			}
			return l.buildOnce(ctx, state, pkg)
		},
		job: func(ctx context.Context) (job, error) {
			tag := "deps:" + l.suite + "-" + deb.HostArch() + "-" + pkg
			if err := l.tool(ctx, l.dir, l.dbuild, "images", "remove", "--engine", "native", "--state", state, tag); err != nil {
				return job{}, err
			}
			return l.partJob(state, pkg, func(o *outcome) (float64, error) {
				if o.Deps.Match != "miss" || o.Deps.Downloaded > 0 {
					return 0, fmt.Errorf("a %s of the image, %d packages downloaded", o.Deps.Match, o.Deps.Downloaded)
				}
				return o.Stages["resolve"] + o.Stages["deps"], nil
			})
		},
	}
}
