package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// pbuilder runs at its fastest: an uncompressed base on the tmpfs, eatmydata,
// the apt resolver instead of aptitude's, and an apt cache that holds the build
// dependencies and nothing else (all of it is copied for each build).
func (l *lab) pbuilder(pkg string) contender {
	return contender{
		name: "pbuilder",
		prepare: func(ctx context.Context) error {
			if err := l.preparePbuilder(ctx); err != nil {
				return err
			}
			j, err := l.pbuilderJob(pkg) // fills the apt cache
			if err != nil {
				return err
			}
			_, err = l.runCommand(ctx, j.commands[0])
			return err
		},
		job: func(context.Context) (job, error) { return l.pbuilderJob(pkg) },
	}
}

func (l *lab) pbuilderJob(pkg string) (job, error) {
	out, err := l.fresh("pbuilder/out")
	if err != nil {
		return job{}, err
	}
	argv := []string{
		"pbuilder", "build", "--configfile", l.path("pbuilder", "rc"), "--buildresult", out,
		"--aptcache", l.path("pbuilder", "aptcache"), l.dsc[pkg],
	}
	return job{
		commands: []command{{argv: argv, dir: out, env: pbuilderEnv}},
		done:     func(context.Context, *sample) error { return wantFile(out, "*.changes") },
	}, nil
}

// pbuilderEnv undoes our TMPDIR, which pbuilder hands on into its chroot, where
// that directory does not exist.
var pbuilderEnv = []string{"TMPDIR=/tmp"}

// preparePbuilder writes the configuration and makes the base.
func (l *lab) preparePbuilder(ctx context.Context) error {
	dir := l.path("pbuilder")
	if _, err := os.Stat(filepath.Join(dir, "base.tar")); err == nil {
		return nil
	}
	for _, d := range []string{"aptcache", "build", "apt/apt.conf.d"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	var others []string
	for _, s := range l.sources[1:] {
		others = append(others, fmt.Sprintf("deb %s %s %s", s.URL, s.Suite, strings.Join(s.Components, " ")))
	}
	config := fmt.Sprintf(`BASETGZ=%[1]s/base.tar
COMPRESSPROG=cat
BUILDPLACE=%[1]s/build
APTCACHEHARDLINK=no
APTCONFDIR=%[1]s/apt
DISTRIBUTION=%[2]s
MIRRORSITE=%[3]s
OTHERMIRROR="%[4]s"
COMPONENTS="%[5]s"
EATMYDATA=yes
USENETWORK=no
CCACHEDIR=
HOOKDIR=
DEBBUILDOPTS="-b -j%[6]d"
PBUILDERSATISFYDEPENDSCMD=/usr/lib/pbuilder/pbuilder-satisfydepends-apt
`, dir, l.suite, l.sources[0].URL, strings.Join(others, "|"), strings.Join(l.sources[0].Components, " "), runtime.NumCPU())
	if err := os.WriteFile(filepath.Join(dir, "rc"), []byte(config), 0o644); err != nil {
		return err
	}
	apt := strings.Join(append(l.aptOptions(), ""), ";\n")
	if err := os.WriteFile(filepath.Join(dir, "apt/apt.conf.d/99bench"), []byte(apt), 0o644); err != nil {
		return err
	}
	return l.tool(ctx, dir, "env", pbuilderEnv[0], "pbuilder", "create", "--configfile", filepath.Join(dir, "rc"), "--aptcache", "")
}
