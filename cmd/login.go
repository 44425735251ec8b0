package cmd

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"dbuild/buildenv"
	"dbuild/engine"
	"dbuild/internal/cleanup"
	"dbuild/internal/fault"
)

// executeFailed is the exit code of dbuild's own failures in login and execute,
// apart from those of the command.
const executeFailed = 125

func newLoginCommand(a *app) *cobra.Command {
	o := &common{}
	c := &cobra.Command{
		Use:   "login [flags]",
		Short: "Open a root shell in a throwaway container of a suite",
		Long: `Open a shell as root of a throwaway container of a suite's base image. It has no
network, and what is changed in it is gone when the shell ends.

Exit status: that of the shell; 125 if dbuild itself failed.`,
		Example: "  dbuild login -d bookworm",
		Args:    a.atMost(0, "no argument"),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.loadAndExecute(c, o, []string{"/bin/bash", "-l"})
		},
	}
	o.addFlags(c.Flags())
	return c
}

func newExecuteCommand(a *app) *cobra.Command {
	o := &common{}
	c := &cobra.Command{
		Use:   "execute [flags] -- COMMAND [ARG ...]",
		Short: "Run a command in a throwaway container of a suite",
		Long: `Run a command as root of a throwaway container of a suite's base image. It has no
network, and what is changed in it is gone when the command ends. Standard
input, output and error are the command's.

Exit status: that of the command; 125 if dbuild itself failed.`,
		Example: "  dbuild execute -d bookworm -- dpkg -l\n  tar c debian | dbuild execute -d sid -- tar x -C /tmp",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				a.exit = executeFailed
				return fault.WithHint(fault.New(fault.Usage, "no command given"), "dbuild execute -d SUITE -- COMMAND")
			}
			return a.loadAndExecute(c, o, args)
		},
	}
	o.addFlags(c.Flags())
	return c
}

func (a *app) loadAndExecute(c *cobra.Command, o *common, argv []string) error {
	a.exit = executeFailed
	if err := o.load(a, c); err != nil {
		return err
	}
	return a.execute(c.Context(), o, argv)
}

// execute runs argv in a clean container. The exit code is its own.
func (a *app) execute(ctx context.Context, o *common, argv []string) (err error) {
	suite, err := o.suite()
	if err != nil {
		return err
	}
	obs := a.observer(o)
	defer obs.Close()
	w, err := a.open(ctx, o, obs)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	image, err := w.base(ctx, suite, false, false)
	if err != nil {
		return err
	}
	obs.Close()
	c, err := w.Engine.Create(ctx, engine.Spec{
		Image: image.Entry.Image.ID, Purpose: engine.PurposeShell, Network: engine.NetworkNone,
		Hostname: buildenv.Hostname, Arch: o.arch, Labels: map[string]string{"dbuild.state": w.State.ID},
	})
	if err != nil {
		return buildenv.EngineError(ctx, err)
	}
	defer cleanup.Do(ctx, &err, c.Close)
	step := engine.Step{
		Argv: argv, Env: a.shellEnv(), Dir: "/root", User: engine.Root,
		Stdin: a.stdin, Stdout: a.stdout, Stderr: a.stderr,
	}
	restore := a.makeTTY(&step)
	exit, err := c.Run(ctx, step)
	restore()
	if err != nil {
		return buildenv.EngineError(ctx, err)
	}
	a.exit = exit.Code
	if exit.Signal != 0 {
		a.exit = 128 + exit.Signal
	}
	return nil
}

func (a *app) shellEnv() []string {
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8", "SHELL=/bin/bash"}
	if t := a.getenv("TERM"); t != "" && !strings.ContainsAny(t, "/\n\x00") {
		env = append(env, "TERM="+t)
	}
	return env
}

// makeTTY gives the step a terminal of its own when dbuild runs on one, and
// puts ours into raw mode until the returned function is called.
func (a *app) makeTTY(step *engine.Step) (restore func()) {
	in, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) || !isTerminal(a.stdout) {
		return func() {}
	}
	cols, rows, err := term.GetSize(int(in.Fd()))
	if err != nil {
		return func() {}
	}
	old, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return func() {}
	}
	resize, stop := make(chan [2]uint16, 1), make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGWINCH)
	go func() {
		for range stop {
			if c, r, err := term.GetSize(int(in.Fd())); err == nil {
				select {
				case resize <- [2]uint16{uint16(r), uint16(c)}: //nolint:gosec // a terminal's size
				default:
				}
			}
		}
	}()
	step.TTY = &engine.TTY{Rows: uint16(rows), Cols: uint16(cols), Resize: resize} //nolint:gosec // a terminal's size
	return func() {
		signal.Stop(stop)
		close(stop)
		_ = term.Restore(int(in.Fd()), old)
	}
}

func terminal(fd int) bool { return term.IsTerminal(fd) }
