package chroot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"dbuild/engine"
	"dbuild/internal/fault"
)

// ScriptError is a script in the container that ended badly: a maintainer
// script, or dpkg itself.
type ScriptError struct {
	What   string // "configure packages"
	Exit   engine.Exit
	Output []string // the lines that tell why, at most ten
}

// Error is one line: what failed, how, and the line that came last before
// dpkg's own complaint.
func (e *ScriptError) Error() string {
	how := fmt.Sprintf("exit code %d", e.Exit.Code)
	switch {
	case e.Exit.Reason != engine.ReasonNone:
		how = "stopped, " + string(e.Exit.Reason)
	case e.Exit.Signal != 0:
		how = fmt.Sprintf("ended by signal %d", e.Exit.Signal)
	}
	line := ""
	for _, l := range e.Output {
		if strings.HasPrefix(l, complaint) {
			break
		}
		line = l
	}
	return fmt.Sprintf("%s: %s: %s", e.What, how, line)
}

// scriptFault makes a [ScriptError]. A limit of the machine is no fault of the
// archive or the engine.
func scriptFault(what string, exit engine.Exit, out []byte) error {
	err := &ScriptError{What: what, Exit: exit, Output: excerpt(out)}
	switch exit.Reason {
	case engine.ReasonOOM, engine.ReasonPIDs, engine.ReasonDisk:
		return fault.Wrap(fault.Resource, err)
	}
	return fault.Wrap(fault.Engine, err)
}

// engineFault classes an error of the engine that has no class yet. A
// cancelled context keeps speaking for itself.
func engineFault(err error) error {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, engine.ErrNoSpace), fault.ClassOf(err) == fault.Resource:
		return fault.Wrap(fault.Resource, err)
	}
	return fault.Wrap(fault.Engine, err)
}

// complaint begins the line in which dpkg says which package failed.
const complaint = "dpkg: error "

// excerpt picks the lines of a failed script's output that tell why: those
// before dpkg's first complaint, where the maintainer script had its say, or
// else the last ones.
func excerpt(out []byte) []string {
	const before, after = 8, 2
	lines := strings.Split(strings.TrimRight(string(out), "\n"), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, complaint) {
			return lines[max(0, i-before):min(len(lines), i+after)]
		}
	}
	return lines[max(0, len(lines)-before-after):]
}

// capped is a buffer that drops what exceeds a limit no sane script reaches.
type capped struct{ bytes.Buffer }

const outputLimit = 8 << 20

func (c *capped) Write(p []byte) (int, error) {
	if room := outputLimit - c.Len(); room > 0 {
		c.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
