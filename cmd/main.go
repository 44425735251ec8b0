// Package cmd is dbuild's command line: one file for each verb, and the only
// place that prints, reads settings or picks an engine. A verb parses its
// flags and calls one function of the packages below.
package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"dbuild/buildenv"
	"dbuild/internal/fault"
	"dbuild/internal/userns"
)

// Version is dbuild's version; a release sets it at link time.
var Version = "0.1~dev"

// app carries what the verbs share: the outside world, for tests to replace.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	exit           int  // exit code set by a verb whose command has one of its own
	json           bool // the outcome is printed as an event as well
}

// Main runs the command line of this process and returns its exit code.
func Main() int {
	userns.Continue() // in a copy of this process, see app.enter
	ctx, stop := signalContext(context.Background())
	defer stop()
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv}
	return a.run(ctx, os.Args[1:])
}

// run executes one command line; the error is printed here and nowhere else.
func (a *app) run(ctx context.Context, args []string) int {
	root := newRootCommand(a) //nolint:contextcheck // cobra hands ctx to the verbs
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	err := root.ExecuteContext(ctx)
	if copied, ok := errors.AsType[*copyEnded](err); ok {
		return copied.code
	}
	if err == nil {
		return a.exit
	}
	if a.exit == 0 {
		a.exit = exitCode(ctx, fault.ClassOf(err))
	}
	if a.json {
		a.printRefusal(err)
	}
	a.printError(err)
	return a.exit
}

// printRefusal prints the result event of a verb that ended with an error.
func (a *app) printRefusal(err error) {
	event := map[string]any{
		"v": 1, "event": "result", "time": time.Now().UTC(), "status": "failed", "class": fault.ClassOf(err), "exit": a.exit,
		"error": map[string]any{"message": buildenv.Printable(err.Error()), "hint": fault.HintOf(err), "excerpt": []string{}},
	}
	if all := problems(err); len(all) > 0 {
		event["problems"] = all
	}
	_ = a.printJSON(event) // stderr has it, too
}

// printError prints one line with the class, and the hint on a second.
func (a *app) printError(err error) {
	text := strings.ReplaceAll(buildenv.Printable(err.Error()), "\n", "; ")
	_, _ = fmt.Fprintf(a.stderr, "dbuild: %s: %s\n", fault.ClassOf(err), text)
	if hint := fault.HintOf(err); hint != "" {
		_, _ = fmt.Fprintf(a.stderr, "  hint: %s\n", buildenv.Printable(hint))
	}
}

// exitCode maps a class to the exit code; an interrupted run says by which
// signal.
func exitCode(ctx context.Context, class fault.Class) int {
	var s signalError
	if class == fault.Interrupted && errors.As(context.Cause(ctx), &s) {
		return 128 + int(s)
	}
	return buildenv.ExitCode(class)
}

// signalError is the cause of a context that a signal ended.
type signalError syscall.Signal

func (s signalError) Error() string { return "interrupted by " + syscall.Signal(s).String() }

// signalContext ends with the first SIGINT, SIGTERM or SIGHUP; after it the
// handler is gone, so that a second one kills. A closed pipe ends nothing.
func signalContext(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signal.Ignore(syscall.SIGPIPE)
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		select {
		case s := <-c:
			signal.Stop(c)
			if sig, ok := s.(syscall.Signal); ok {
				cancel(signalError(sig))
			}
		case <-done:
		}
	}()
	return ctx, func() { signal.Stop(c); close(done); cancel(nil) }
}

// newRootCommand builds the whole tree. The root itself is the build verb.
func newRootCommand(a *app) *cobra.Command {
	root := newBuildCommand(a)
	root.Use = "dbuild [build] [flags] [SOURCE]"
	root.Version = Version
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		a.ownFailure(c)
		return fault.WithHint(fault.New(fault.Usage, "%w", err), "%s --help lists the flags", c.CommandPath())
	})
	root.AddCommand(
		newBuildCommand(a), newCreateCommand(a), newUpdateCommand(a),
		newLoginCommand(a), newExecuteCommand(a), newImagesCommand(a), newRepoCommand(a), newVerifyCommand(a), newCleanCommand(a), newDoctorCommand(a), newConfigCommand(a),
	)
	return root
}

// ownFailure sets the exit code of dbuild's own failures where all others
// belong to the command that is run.
func (a *app) ownFailure(c *cobra.Command) {
	if c.Name() == "login" || c.Name() == "execute" {
		a.exit = executeFailed
	}
}

// atMost is cobra.MaximumNArgs with an error of the usage class.
func (a *app) atMost(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) > n {
			a.ownFailure(c)
			return fault.WithHint(fault.New(fault.Usage, "%q is one argument too many", args[n]), "%s takes %s", c.CommandPath(), what)
		}
		return nil
	}
}

// atLeastOne is cobra.MinimumNArgs(1) with an error of the usage class.
func (a *app) atLeastOne(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return fault.WithHint(fault.New(fault.Usage, "an argument is missing"), "%s takes %s", c.CommandPath(), what)
		}
		return nil
	}
}
