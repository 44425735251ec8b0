// Command hostile is what the packages of the hostile suite carry: probes that
// try to get out of a container, or to see or change what is not theirs. It is
// one static program, so that a package needs no compiler.
//
//	hostile PARAMS run STAGE REPORT   all probes of a stage: c(lean), d(eps), b(uild), i(386), and p to plant
//	hostile PARAMS twin ENVIRONMENT   those whose attempt succeeds in an environment, or "all"
//	hostile PARAMS one PROBE          one of them, in this process
//	hostile PARAMS calls STAGE        the system call probe
//	hostile PARAMS list STAGE         names of the probes of a stage, or of "twin"s
//
// A line of a report is "HOSTILE TOKEN STAGE PROBE VERDICT DETAIL". An attempt
// is "held" or has "ESCAPED"; a legitimate use "works" or is "BROKEN"; what
// this kernel does not have is "absent". The token is the run's own and comes
// with the parameters, as do addresses and paths of things that the test has
// put up on the host.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// probe is one check.
type probe struct {
	name   string // "C05.mount-tmpfs": the number is that of the catalogue in docs/security.md
	stages string // where it is made: c(lean), d(eps), b(uild)
	// twin is where the very same attempt must succeed, or else it proves
	// nothing: "host" is root outside, "ns" root of fresh namespaces. It is ""
	// for a legitimate use, which must work where it is made.
	twin string
	run  func() error // nil: it succeeded
}

var (
	probes  []probe
	params  = map[string]string{}
	program string // path of this program
)

// attempt registers what must fail, works what must not.
func attempt(name, stages, twin string, run func() error) {
	probes = append(probes, probe{name, stages, twin, run})
}

func works(name, stages string, run func() error) {
	probes = append(probes, probe{name, stages, "", run})
}

// errAbsent says that this kernel does not have what a probe is about.
var errAbsent = errors.New("not on this kernel")

// errRefused is a refusal that is no system call's.
var errRefused = errors.New("refused")

func main() {
	if filepath.Base(os.Args[0]) == "suid-probe" {
		tellPrivileges()
		return
	}
	if err := command(os.Args[1:]); err != nil {
		fmt.Println(err)
		if errors.Is(err, errAbsent) || params["twin"] != "" && errors.Is(err, unix.ENOSYS) {
			os.Exit(3)
		}
		os.Exit(1)
	}
}

func command(args []string) (err error) {
	if len(args) < 3 {
		return errors.New("usage: hostile PARAMS VERB ARGUMENT")
	}
	if program, err = os.Executable(); err != nil {
		return err
	}
	if err := readParams(args[0]); err != nil {
		return err
	}
	switch verb, arg := args[1], args[2]; verb {
	case "run":
		return runStage(arg, args[3])
	case "twin":
		return runTwins(arg)
	case "one":
		for _, p := range probes {
			if p.name == arg {
				return p.run()
			}
		}
		return fmt.Errorf("no probe %q", arg)
	case "calls":
		return tellCalls(arg)
	case "list":
		for _, p := range probes {
			if strings.Contains(p.stages, arg) || arg == "twin" && p.twin != "" {
				fmt.Println(p.name)
			}
		}
		return nil
	default:
		return fmt.Errorf("no verb %q", verb)
	}
}

// readParams reads lines of KEY=VALUE.
func readParams(file string) error {
	data, err := os.ReadFile(file)
	for line := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			params[key] = value
		}
	}
	params["file"] = file
	return err
}

// runStage makes all probes of a stage. What it prints is appended to report.
func runStage(stage, report string) error {
	f, err := os.OpenFile(report, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, p := range probes {
		if strings.Contains(p.stages, stage) {
			line := fmt.Sprintf("HOSTILE %s %s %s %s", params["token"], stage, p.name, p.outcome())
			line = strings.TrimSpace(line) + "\n"
			fmt.Print(line)
			if _, err := f.WriteString(line); err != nil {
				return err
			}
		}
	}
	return f.Sync()
}

// runTwins makes the attempts whose twin is environment.
func runTwins(environment string) error {
	for _, p := range probes {
		if p.twin == environment || environment == "all" && p.twin != "" {
			fmt.Printf("HOSTILE %s twin %s %s\n", params["token"], p.name, p.outcome())
		}
	}
	return nil
}

// patience is how long a probe may take. Whoever waits for a name server that
// cannot be reached waits longer.
const patience = 5 * time.Second

// outcome makes a probe in a process of its own, since some end theirs, and
// returns verdict and detail.
func (p probe) outcome() string {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, params["file"], "one", p.name)
	cmd.WaitDelay = time.Second
	cmd.ExtraFiles = inherited()
	if p.twin == "ns" && params["twin"] != "" {
		ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
			UidMappings: ids, GidMappings: ids,
		}
	}
	out, err := cmd.CombinedOutput()
	detail := oneLine(string(out))
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return "HUNG " + detail
	case err == nil && p.twin != "":
		return "ESCAPED " + detail
	case err == nil:
		return "works " + detail
	case errors.As(err, &exit) && exit.ExitCode() == 3:
		return "absent " + detail
	case errors.As(err, &exit) && exit.ExitCode() == 1 && p.twin != "":
		return "held " + detail
	case errors.As(err, &exit) && exit.ExitCode() == 1:
		return "BROKEN " + detail
	}
	return "CRASHED " + oneLine(err.Error()) + " " + detail
}

// inherited returns the descriptors beyond the standard ones that this program
// was started with: os/exec would not pass them on by itself.
func inherited() []*os.File {
	var files []*os.File
	for fd := uintptr(3); fd < 20; fd++ {
		flags, err := unix.FcntlInt(fd, unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC != 0 {
			break // the runtime's own are all close-on-exec
		}
		files = append(files, os.NewFile(fd, "inherited"))
	}
	return files
}

func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	return s[:min(len(s), 300)]
}

// first returns nil if one of several attempts has succeeded, else all errors,
// among which a thing that is absent counts only when all are.
func first(attempts ...error) error {
	var refusals []error
	for _, err := range attempts {
		if err == nil {
			return nil
		}
		if !errors.Is(err, errAbsent) {
			refusals = append(refusals, err)
		}
	}
	if refusals == nil {
		return errAbsent
	}
	return errors.Join(refusals...)
}

// child runs this program again with other attributes.
func child(attr *syscall.SysProcAttr, args ...string) error {
	cmd := exec.Command(program, append([]string{params["file"]}, args...)...)
	cmd.SysProcAttr = attr
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

// call makes a system call and returns an error unless the kernel did it.
func call(number uintptr, args ...uintptr) error {
	runtime.LockOSThread()
	var a [6]uintptr
	copy(a[:], args)
	_, _, errno := unix.RawSyscall6(number, a[0], a[1], a[2], a[3], a[4], a[5])
	if errno != 0 {
		return errno
	}
	return nil
}

// reached reports as success that a filter let a call through, whatever the
// kernel said.
func reached(err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) {
		return err
	}
	return nil
}
