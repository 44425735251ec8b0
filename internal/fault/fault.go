// Package fault gives an error its class and, when one is known, the command
// that helps. The class decides the exit code and is the stable name that
// programs see in the JSON result; the text is for people and may change.
//
// Packages that know why something was refused wrap with [New], [Wrap] or
// [WithHint]; only the command line turns a class into an exit code.
package fault

import (
	"context"
	"errors"
	"fmt"
	"syscall"
)

// Class is the stable name of a kind of failure.
type Class string

// The classes, in the order of their exit codes.
const (
	OK          Class = "ok"
	Build       Class = "build"       // the package failed to build
	Usage       Class = "usage"       // wrong arguments or settings
	Input       Class = "input"       // malformed or unsafe file
	Trust       Class = "trust"       // signature, hash, freshness, wrong suite
	DepWait     Class = "depwait"     // build dependencies cannot be satisfied
	Timeout     Class = "timeout"     // a time or silence limit
	Resource    Class = "resource"    // disk, memory, processes
	Network     Class = "network"     // a remote archive or proxy
	Engine      Class = "engine"      // missing, too old, failed
	Locked      Class = "locked"      // waited too long, or state of a newer version
	Check       Class = "check"       // a requested check failed
	Interrupted Class = "interrupted" // a signal
	Internal    Class = "internal"    // a bug in dbuild
)

// Error carries a class and a hint beside the cause.
type Error struct {
	Class Class
	Hint  string // one line naming a command or setting; may be empty
	Err   error
}

// Error returns the cause's text; class and hint are printed apart from it.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// New makes an error of a class, formatted as [fmt.Errorf] does.
func New(c Class, format string, args ...any) error {
	return &Error{Class: c, Err: fmt.Errorf(format, args...)}
}

// Wrap gives err a class. An error that already has one keeps it: the place
// nearest to the cause knows best. A nil err stays nil.
func Wrap(c Class, err error) error {
	if err == nil {
		return nil
	}
	var f *Error
	if errors.As(err, &f) {
		return err
	}
	return &Error{Class: c, Err: err}
}

// WithHint adds the line that tells the user what to do. The outermost hint
// is the one shown.
func WithHint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &Error{Class: ClassOf(err), Hint: fmt.Sprintf(format, args...), Err: err}
}

// causes are asked about errors of libraries that only one package knows.
var causes []func(error) (Class, bool)

// Recognize makes [ClassOf] ask fn about errors that have no class. It is for
// init functions.
func Recognize(fn func(error) (Class, bool)) { causes = append(causes, fn) }

// ClassOf returns the class of err: OK for nil, the nearest class in the
// chain, a class that follows from a well-known cause (cancelled context, no
// space left, what [Recognize] was told), or Internal.
func ClassOf(err error) Class {
	if err == nil {
		return OK
	}
	var f *Error
	if errors.As(err, &f) {
		return f.Class
	}
	switch {
	case errors.Is(err, context.Canceled):
		return Interrupted
	case errors.Is(err, context.DeadlineExceeded):
		return Timeout
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.ENOMEM), errors.Is(err, syscall.EMFILE):
		return Resource
	}
	for _, known := range causes {
		if c, ok := known(err); ok {
			return c
		}
	}
	return Internal
}

// HintOf returns the outermost hint in the chain, or "".
func HintOf(err error) string {
	for err != nil {
		var f *Error
		if !errors.As(err, &f) {
			return ""
		}
		if f.Hint != "" {
			return f.Hint
		}
		err = f.Err
	}
	return ""
}
