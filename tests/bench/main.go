// Bench measures whole commands of dbuild beside its peers: plain
// dpkg-buildpackage in a prepared chroot, sbuild, pbuilder, mmdebstrap, reprepro
// and aptly. It needs root, the Debian mirror of the host's apt, and the
// programs that "tests/setup bench" installs; "make bench" runs it.
//
// What makes the comparison fair:
//
//   - The same suites from the same mirror, the one that dbuild finds in the
//     host's apt sources.
//   - Everything that is read or written during a measured command lies on one
//     tmpfs, which is checked before each run.
//   - Peers run with the settings that make them fastest: see peer_*.go.
//   - The contenders of one row take turns, and the median counts.
//   - Making the inputs and deleting old trees is not measured.
//
// The tables are printed to stdout as Markdown, what is going on to stderr.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	dbuild  string
	suite   string
	work    string
	rounds  int
	keep    bool
	rowList string
	only    string
	expired bool
}

func parseOptions(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&o.dbuild, "dbuild", "./dbuild", "`program` to measure")
	f.StringVar(&o.suite, "suite", "bookworm", "`suite` to build for")
	f.StringVar(&o.work, "work", "/dev/shm", "make everything below `dir`, which must be a tmpfs")
	f.IntVar(&o.rounds, "n", 5, "`rounds`, of which the median is taken")
	f.BoolVar(&o.keep, "keep", false, "keep the work directory")
	f.StringVar(&o.rowList, "rows", "warm,engines,base,nothing,deps,fresh,repo", "comma-separated `rows` to measure")
	f.StringVar(&o.only, "only", "", "comma-separated `contenders` to measure (default: all)")
	f.BoolVar(&o.expired, "allow-expired", false, "accept an archive past its Valid-Until, for dbuild and peers alike")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	var err error
	if o.dbuild, err = filepath.Abs(o.dbuild); err != nil {
		return o, err
	}
	if o.rounds < 1 || f.NArg() > 0 {
		return o, fmt.Errorf("usage: bench [flags]; -n takes at least 1")
	}
	return o, nil
}

// wants reports whether a comma-separated list names what; an empty one names
// everything.
func wants(list, what string) bool {
	for _, word := range strings.Split(list, ",") {
		if list == "" || word == what {
			return true
		}
	}
	return false
}

func main() {
	o, err := parseOptions(os.Args[1:])
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		err = inOwnMounts(ctx, func() error { return run(ctx, o) })
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// inOwnMounts calls run in a process with a mount namespace of its own, which is
// this program started once more. What it mounts is not seen by the machine and
// is gone when it ends, however it ends.
func inOwnMounts(ctx context.Context, run func() error) error {
	const marker = "DBUILD_BENCH_CHILD"
	if os.Geteuid() != 0 {
		return errors.New("needs root: namespaces, overlays, chroots")
	}
	if os.Getenv(marker) != "" {
		return run()
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), marker+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("measuring process: %w", err)
	}
	return nil
}

func run(ctx context.Context, o options) (err error) {
	lab, err := newLab(ctx, o)
	if err != nil {
		return err
	}
	defer lab.close(&err)
	rows, err := lab.rows()
	if err != nil {
		return err
	}
	fmt.Print(lab.heading())
	for _, r := range rows {
		results, err := r.measure(ctx, lab, o.rounds)
		if err != nil {
			return fmt.Errorf("%s: %w", r.title, err)
		}
		fmt.Print(table(r, results))
	}
	return nil
}
