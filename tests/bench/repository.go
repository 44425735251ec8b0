package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"dbuild/archive/archivetest"
)

// repositories are the rows about the local repository: one tiny package into a
// suite of so many, and the same package once more.
func (l *lab) repositories() []row {
	var all []row
	for _, n := range []struct {
		packages int
		goal     string
	}{
		{1000, ""},
		{4000, "dbuild at most 0.5"},
		{60000, "dbuild at most 0.3 s and 200 MiB, and 1.5 times its time for 1000"},
	} {
		contenders := []contender{l.reprepro(n.packages), l.aptly(n.packages), l.dbuildAdd(n.packages)}
		if n.packages > 10000 { // the peers need minutes to get there
			contenders = contenders[2:]
		}
		all = append(all, row{fmt.Sprintf("One package into a repository of %d", n.packages), n.goal, contenders})
	}
	return append(all, row{"The same package once more, into a repository of 60000", "dbuild at most 0.05 s", []contender{l.dbuildAgain(60000)}})
}

// debs makes n tiny packages, a hundred of each source, once, and returns their
// directory and names.
func (l *lab) debs(n int) (dir string, names []string, err error) {
	dir = l.path("debs")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", nil, err
	}
	for i := range n {
		name, err := writeDeb(dir, fmt.Sprintf("sample-%05d", i), "1.0-1")
		if err != nil {
			return "", nil, err
		}
		names = append(names, name)
	}
	return dir, names, nil
}

// newDeb makes a package that no repository has yet.
func (l *lab) newDeb() (path string, err error) {
	l.serial++
	dir, err := l.fresh("new-deb")
	if err != nil {
		return "", err
	}
	name, err := writeDeb(dir, "sample-00500", fmt.Sprintf("2.0-%d", l.serial))
	return filepath.Join(dir, name), err
}

// writeDeb writes a package of about a kilobyte with twenty files.
func writeDeb(dir, name, version string) (string, error) {
	file := fmt.Sprintf("%s_%s_amd64.deb", name, version)
	path := filepath.Join(dir, file)
	if _, err := os.Stat(path); err == nil {
		return file, nil
	}
	p := archivetest.Package{
		Name: name, Version: version, Architecture: "amd64",
		Fields: fmt.Sprintf("Source: %s (1.0-1)\nSection: misc\nPriority: optional\n", name[:len(name)-2]),
		Files:  map[string]string{},
	}
	for i := range 20 {
		p.Files[fmt.Sprintf("usr/share/%s/file-%d", name, i)] = ""
	}
	return file, os.WriteFile(path, p.Deb(), 0o644)
}

// inBatches calls add with a few thousand names at a time, as many as a command
// line holds.
func inBatches(names []string, add func(batch []string) error) error {
	for len(names) > 0 {
		n := min(5000, len(names))
		if err := add(names[:n]); err != nil {
			return err
		}
		names = names[n:]
	}
	return nil
}

// reprepro adds without a signature and with gzip only, its fastest way.
func (l *lab) reprepro(n int) contender {
	base := l.path(fmt.Sprintf("reprepro-%d", n))
	argv := func(files ...string) []string {
		return append([]string{"reprepro", "--silent", "-b", base, "includedeb", "bench"}, files...)
	}
	return contender{
		name: "reprepro",
		prepare: func(ctx context.Context) error {
			if err := os.MkdirAll(filepath.Join(base, "conf"), 0o755); err != nil {
				return err
			}
			conf := "Codename: bench\nArchitectures: amd64\nComponents: main\nDebIndices: Packages Release . .gz\n"
			if err := os.WriteFile(filepath.Join(base, "conf", "distributions"), []byte(conf), 0o644); err != nil {
				return err
			}
			dir, names, err := l.debs(n)
			if err != nil {
				return err
			}
			return inBatches(names, func(batch []string) error { return l.tool(ctx, dir, argv(batch...)...) })
		},
		job: func(context.Context) (job, error) {
			deb, err := l.newDeb()
			if err != nil {
				return job{}, err
			}
			return job{
				commands: []command{{argv: argv(deb)}},
				done: func(context.Context, *sample) error {
					return wantLine(filepath.Join(base, "dists/bench/main/binary-amd64/Packages"), filepath.Base(deb))
				},
			}, nil
		},
	}
}

// aptly adds and updates what it publishes, without signature and Contents.
func (l *lab) aptly(n int) contender {
	base := l.path(fmt.Sprintf("aptly-%d", n))
	conf := filepath.Join(base, "aptly.conf")
	argv := func(args ...string) []string { return append([]string{"aptly", "-config=" + conf}, args...) }
	return contender{
		name: "aptly",
		prepare: func(ctx context.Context) error {
			if err := os.MkdirAll(base, 0o755); err != nil {
				return err
			}
			text := fmt.Sprintf(`{"rootDir": %q, "architectures": ["amd64"]}`, base)
			if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
				return err
			}
			if err := l.tool(ctx, base, argv("repo", "create", "-distribution=bench", "bench")...); err != nil {
				return err
			}
			dir, names, err := l.debs(n)
			if err != nil {
				return err
			}
			err = inBatches(names, func(batch []string) error {
				return l.tool(ctx, dir, argv(append([]string{"repo", "add", "bench"}, batch...)...)...)
			})
			if err != nil {
				return err
			}
			return l.tool(ctx, base, argv("publish", "repo", "-skip-signing", "-skip-contents", "bench")...)
		},
		job: func(context.Context) (job, error) {
			deb, err := l.newDeb()
			if err != nil {
				return job{}, err
			}
			return job{
				commands: []command{
					{argv: argv("repo", "add", "bench", deb)},
					{argv: argv("publish", "update", "-skip-signing", "-skip-contents", "bench")},
				},
				done: func(context.Context, *sample) error {
					return wantLine(filepath.Join(base, "public/dists/bench/main/binary-amd64/Packages"), filepath.Base(deb))
				},
			}, nil
		},
	}
}

// repoArgv is a command line of dbuild's repository.
func (l *lab) repoArgv(n int, verb string, args ...string) []string {
	return append([]string{l.dbuild, "repo", verb, "--state", l.path(fmt.Sprintf("dbuild-repo-%d", n)), "-d", "bench"}, args...)
}

// fillRepository adds n packages to a repository of dbuild's, unless they are
// there.
func (l *lab) fillRepository(ctx context.Context, n int) error {
	if _, err := os.Stat(l.path(fmt.Sprintf("dbuild-repo-%d", n))); err == nil {
		return nil
	}
	dir, names, err := l.debs(n)
	if err != nil {
		return err
	}
	return inBatches(names, func(batch []string) error { return l.tool(ctx, dir, l.repoArgv(n, "add", batch...)...) })
}

// dbuildAdd adds one package: signed, with gzip and zstd, by hash, with dbuild's
// own checks of the package. The repository is idle, so that the package need
// not wait for the next second.
func (l *lab) dbuildAdd(n int) contender {
	return contender{
		name:    "dbuild",
		prepare: func(ctx context.Context) error { return l.fillRepository(ctx, n) },
		job: func(context.Context) (job, error) {
			deb, err := l.newDeb()
			if err != nil {
				return job{}, err
			}
			time.Sleep(1100 * time.Millisecond)
			return job{
				commands: []command{{argv: l.repoArgv(n, "add", deb)}},
				done: func(ctx context.Context, _ *sample) error {
					return l.tool(ctx, l.dir, l.repoArgv(n, "list", strings.Split(filepath.Base(deb), "_")[0])...)
				},
			}, nil
		},
	}
}

// dbuildAgain adds what is there.
func (l *lab) dbuildAgain(n int) contender {
	deb := ""
	return contender{
		name: "dbuild",
		prepare: func(ctx context.Context) (err error) {
			if err := l.fillRepository(ctx, n); err != nil {
				return err
			}
			if deb, err = l.newDeb(); err != nil {
				return err
			}
			return l.tool(ctx, l.dir, l.repoArgv(n, "add", deb)...)
		},
		job: func(context.Context) (job, error) {
			return job{commands: []command{{argv: l.repoArgv(n, "add", deb)}}}, nil
		},
	}
}

// wantLine makes sure that a file mentions something.
func wantLine(path, text string) error {
	data, err := os.ReadFile(path)
	if err == nil && !strings.Contains(string(data), text) {
		err = fmt.Errorf("%s does not mention %s", path, text)
	}
	return err
}
