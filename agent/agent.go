// Package agent gives the engines the program that runs as PID 1 in every
// container: package pid1, as a small static binary of its own in releases.
//
// A release is built with the tag "embedagent" after
// "go build ./agent/cmd/dbuild-agent" (CGO_ENABLED=0) has put its output at
// agent/embedded/dbuild-agent-GOARCH. Without the tag, as with go run and go
// test, the running program itself serves as the agent; for that its main, or
// TestMain, must call [MaybeMain] before anything else.
package agent

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Name is the agent's program name, argument zero of its process.
const Name = "dbuild-agent"

// Memory returns the agent's program as a sealed memory file that can be
// executed through /proc/self/fd. Nobody can change it, not even a container
// that got hold of it. The caller closes it.
func Memory() (*os.File, error) {
	program, err := Program()
	if err != nil {
		return nil, fmt.Errorf("open agent program: %w", err)
	}
	f, err := sealed(program)
	if err := errors.Join(err, program.Close()); err != nil {
		return nil, fmt.Errorf("load agent program: %w", err)
	}
	return f, nil
}

func sealed(program io.Reader) (*os.File, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(Name, flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate(Name, flags)
	}
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), Name)
	_, err = io.Copy(f, program)
	if err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS,
			unix.F_SEAL_SEAL|unix.F_SEAL_WRITE|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
