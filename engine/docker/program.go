package docker

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"dbuild/engine"
	"dbuild/internal/atomicfile"
	"dbuild/internal/fault"
)

// agentProgram returns the path of the agent's program, under a name that only
// this process has: a daemon that finds it sees our files. It is written once
// for each version of it.
func (e *Engine) agentProgram() (string, error) {
	e.place.Do(func() { e.program, e.placing = e.placeProgram() })
	return e.program, e.placing
}

func (e *Engine) placeProgram() (string, error) {
	data, err := readProgram(e.agent)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	path, err := filepath.Abs(filepath.Join(e.dir, "agent-"+hex.EncodeToString(sum[:16])))
	if err != nil {
		return "", err
	}
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		err = atomicfile.Write(path, data, 0o555)
		if err != nil {
			return "", err
		}
	} else if err != nil {
		return "", err
	}
	own := filepath.Join(filepath.Dir(path), "programs", e.owner.id)
	return own, os.Link(path, own)
}

// readProgram reads a program that can be the agent.
func readProgram(open func() (io.ReadCloser, error)) ([]byte, error) {
	source, err := open()
	if err != nil {
		return nil, fmt.Errorf("open agent program: %w", err)
	}
	data, err := io.ReadAll(source)
	if err := errors.Join(err, source.Close()); err != nil {
		return nil, fmt.Errorf("read agent program: %w", err)
	}
	return data, checkStatic(data)
}

// checkStatic refuses a program that needs a loader, which the container may
// not have.
func checkStatic(data []byte) error {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("read agent program: %w", err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			err := fault.Wrap(fault.Engine, fmt.Errorf("run agent in docker: this dbuild is linked dynamically: %w", engine.ErrUnsupported))
			return fault.WithHint(err, "build it with CGO_ENABLED=0, as make build does")
		}
	}
	return nil
}
