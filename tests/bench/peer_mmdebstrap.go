package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
)

// mmdebstrapArgv makes the buildd variant as an uncompressed tar.
func (l *lab) mmdebstrapArgv(tar string) []string {
	argv := []string{"mmdebstrap", "--quiet", "--mode=root", "--variant=buildd", "--format=tar"}
	for _, o := range l.aptOptions() {
		argv = append(argv, "--aptopt="+o)
	}
	argv = append(argv, l.suite, tar)
	return append(argv, strings.Split(strings.TrimSpace(l.sourcesList("deb")), "\n")...)
}

// mmdebstrap makes a base image from nothing.
func (l *lab) mmdebstrap() contender {
	return contender{
		name: "mmdebstrap",
		job: func(context.Context) (job, error) {
			dir, err := l.fresh("mmdebstrap")
			if err != nil {
				return job{}, err
			}
			return job{
				commands: []command{{argv: l.mmdebstrapArgv(filepath.Join(dir, "base.tar"))}},
				done:     func(context.Context, *sample) error { return removeResult(dir, "base.tar") },
			}, nil
		},
	}
}

// mmdebstrapSbuild makes a base image and builds the tiny package with it.
func (l *lab) mmdebstrapSbuild() contender {
	return contender{
		name:    "mmdebstrap + sbuild",
		prepare: func(context.Context) error { return l.prepareSbuild() },
		job: func(context.Context) (job, error) {
			out, err := l.fresh("sbuild/out")
			if err != nil {
				return job{}, err
			}
			for _, stale := range []string{l.sbuildTar(), l.path("sbuild", "archives", "*.deb")} {
				if err := removeAll(stale); err != nil {
					return job{}, err
				}
			}
			create := append(l.mmdebstrapArgv(l.sbuildTar()), "--skip=cleanup/apt/lists")
			return job{
				commands: []command{{argv: create}, {argv: l.sbuildArgv(packages[0]), dir: out}},
				done:     func(context.Context, *sample) error { return wantFile(out, "*.changes") },
			}, nil
		},
	}
}

// removeResult checks that a big result was made and deletes its directory.
func removeResult(dir, name string) error {
	if err := wantFile(dir, name); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// removeAll deletes what a pattern matches.
func removeAll(pattern string) error {
	found, err := filepath.Glob(pattern)
	if err != nil {
		return err
	}
	for _, f := range found {
		if err := os.Remove(f); err != nil {
			return err
		}
	}
	return nil
}
