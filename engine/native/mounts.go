package native

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"dbuild/engine"
	"dbuild/internal/fault"
)

// detachedMount makes a mount of dir that is visible nowhere; the agent
// attaches it in its own namespace. It must be private: a mount that shared
// events with the host's would carry the container's mounts out to the host.
func detachedMount(dir string, attributes uint64) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, explainMount(fmt.Errorf("mount %q: %w", dir, err))
	}
	f := os.NewFile(uintptr(fd), dir)
	attr := unix.MountAttr{Attr_set: attributes, Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return nil, errors.Join(explainMount(fmt.Errorf("restrict mount of %q: %w", dir, err)), f.Close())
	}
	return f, nil
}

// explainMount tells what to do about the usual reasons.
func explainMount(err error) error {
	switch {
	case errors.Is(err, unix.ENOSYS):
		err = fault.Wrap(fault.Engine, fmt.Errorf("%w: %w", engine.ErrUnsupported, err))
		return fault.WithHint(err, "the native engine needs Linux 5.12 or newer: use --engine docker")
	case errors.Is(err, unix.EPERM):
		err = fault.Wrap(fault.Engine, fmt.Errorf("%w: %w", engine.ErrUnsupported, err))
		return fault.WithHint(err, "mounting needs CAP_SYS_ADMIN; inside a container run it with --privileged, or set DOCKER_HOST")
	}
	return fault.Wrap(fault.Engine, err)
}

func closeAll(files []*os.File) error {
	var err error
	for _, f := range files {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}
