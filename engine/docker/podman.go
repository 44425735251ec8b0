package docker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/client"
	"golang.org/x/sys/unix"

	"dbuild/internal/fault"
)

// What is different when Podman answers, beside what works for both:
// a LABEL for each label, images found by id and label, never by name.

// PodmanHost is where Podman's own service listens: CONTAINER_HOST as
// podman-remote(1) has it, DOCKER_HOST, else its usual socket, which is root's
// or the user's own.
func PodmanHost(uid int, getenv func(string) string) string {
	for _, name := range []string{"CONTAINER_HOST", "DOCKER_HOST"} {
		if host := getenv(name); host != "" {
			return host
		}
	}
	if uid == 0 {
		return "unix:///run/podman/podman.sock"
	}
	runtime := getenv("XDG_RUNTIME_DIR")
	if !filepath.IsAbs(runtime) {
		runtime = "/run/user/" + strconv.Itoa(uid)
	}
	return "unix://" + filepath.Join(runtime, "podman/podman.sock")
}

// adaptPodman corrects what Podman says of itself. That of a user says that it
// can limit, but with cgroups of version 1 it cannot.
func adaptPodman(info *system.Info, user bool) {
	info.ID = podmanID(*info)
	if info.CgroupVersion == "1" && user {
		info.PidsLimit, info.MemoryLimit = false, false
	}
}

// userSocket reports whether a socket is that of an ordinary user's service.
func userSocket(host string) bool {
	path, ok := strings.CutPrefix(host, "unix://")
	var st unix.Stat_t
	return ok && unix.Stat(path, &st) == nil && st.Uid != 0
}

// podmanID is a stable name of one of Podman's stores: the id that it gives is
// another one each time.
func podmanID(info system.Info) string {
	sum := sha256.Sum256([]byte(info.Name + "\x00" + info.DockerRootDir))
	return "podman-" + hex.EncodeToString(sum[:8])
}

// podmanize says in Podman's way what it does not understand in Docker's: it
// ignores MaskedPaths, and without limits given it takes its own.
func podmanize(host *api.HostConfig) {
	host.SecurityOpt = append(host.SecurityOpt, "mask="+strings.Join(host.MaskedPaths, ":"))
	host.Ulimits = podmanUlimits()
}

// imageID is the full id; Podman leaves out the algorithm where it commits.
func imageID(id string) string {
	if !strings.Contains(id, ":") {
		return "sha256:" + id
	}
	return id
}

// podmanUlimits are limits that a daemon without CAP_SYS_RESOURCE may set, as
// far as one can know: no more than this process has and Podman gives itself.
// Where none are given, it tries its own defaults, and no container starts.
func podmanUlimits() (all []*api.Ulimit) {
	for _, l := range []struct {
		name     string
		resource int
		most     uint64
	}{{"nofile", unix.RLIMIT_NOFILE, 1 << 20}, {"nproc", unix.RLIMIT_NPROC, 1 << 15}} {
		var r unix.Rlimit
		if err := unix.Getrlimit(l.resource, &r); err != nil {
			continue
		}
		value := int64(min(r.Max, l.most))
		all = append(all, &api.Ulimit{Name: l.name, Soft: value, Hard: value})
	}
	return all
}

// podmanHint says what helps when Podman was asked for and does not answer.
func podmanHint(kind string, err error) error {
	if kind != KindPodman {
		return err
	}
	return fault.WithHint(fmt.Errorf("podman: %w", err), "start its service (Debian: apt install podman, then systemctl start podman.socket; systemctl --user for a user's own), or set CONTAINER_HOST")
}

// reference is the name of a tag at this daemon. To Podman a name without a
// registry is one of Docker's.
func (e *Engine) reference(tag string) string {
	if e.kind == KindPodman {
		return "localhost/" + reference(tag)
	}
	return reference(tag)
}

// explainAttach finds out why a container cannot be attached to. Podman makes
// it ready at that moment, and its reasons get lost on the way; they come again
// when it is told to start it.
func (e *Engine) explainAttach(ctx context.Context, docker string, err error) error {
	if e.kind == KindPodman && ctx.Err() == nil {
		if _, reason := e.api.ContainerStart(ctx, docker, client.ContainerStartOptions{}); reason != nil {
			err = reason
		}
	}
	return err
}

// areas are the directories that get a volume. Podman's overlay is as fast
// without, and its commit would make them volumes of the image.
func (c *container) areas() []string {
	if c.engine.kind == KindPodman {
		return nil
	}
	return c.spec.Areas
}

// importSpooled is importTar by way of a file: of a request that ends early,
// Podman makes an image all the same.
func (e *Engine) importSpooled(ctx context.Context, write func(io.Writer) error) (id string, err error) {
	f, err := os.CreateTemp(e.dir, ".import-*")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := os.Remove(f.Name()); err != nil {
		return "", err
	}
	if err := write(f); err != nil {
		return "", err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	return e.importStream(ctx, io.NopCloser(f)) // the client may not close it
}
