package userns

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"dbuild/internal/fault"
)

// failed is the exit code of a copy that never came to life: dbuild's for an
// engine that does not work.
const failed = 17

// Continue waits, in a copy that [Enter] started, until this process is root of
// its namespace. In any other process it does nothing. It comes before
// everything that asks who the user is.
func Continue() {
	text, ok := os.LookupEnv(variable)
	if !ok {
		return
	}
	n, err := arrive(text)
	if err != nil {
		fmt.Fprintf(os.Stderr, "dbuild: engine: enter user namespace: %v\n", err)
		if hint := fault.HintOf(err); hint != "" {
			fmt.Fprintf(os.Stderr, "  hint: %s\n", hint)
		}
		os.Exit(failed)
	}
	inside = &n
}

func arrive(text string) (n Namespace, err error) {
	if err := os.Unsetenv(variable); err != nil {
		return n, err
	}
	if err := json.Unmarshal([]byte(text), &n); err != nil {
		return n, err
	}
	unix.CloseOnExec(controlFD)
	control := os.NewFile(controlFD, "control")
	// Lost when capabilities were gained on the way; the pipe tells whether the
	// first process is still there.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return n, err
	}
	var leave [1]byte
	if _, err := control.Read(leave[:]); err != nil {
		return n, fmt.Errorf("wait for the id map: %w", err)
	}
	if uid, gid := os.Getuid(), os.Getgid(); uid != 0 || gid != 0 {
		return n, fmt.Errorf("user is %d:%d and not root of it", uid, gid)
	}
	// Some security modules let a user make a namespace that is good for nothing.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return n, realHost.explain(fmt.Errorf("mount in user namespace: %w", err))
	}
	go report(control)
	return n, nil
}

// report tells the first process which signal came here, once: from then on
// signals have their default action again, unless the program says otherwise.
func report(control *os.File) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	s := <-signals
	signal.Stop(signals)
	if number, ok := s.(syscall.Signal); ok {
		_, _ = control.Write([]byte{byte(number)}) // the first process may be gone
	}
}
