package docker

import (
	"context"
	"errors"
	"strings"

	"github.com/moby/moby/client"

	"dbuild/agent"
	"dbuild/engine"
)

// Daemon is what answers at a host.
type Daemon struct {
	Host    string // "unix:///var/run/docker.sock"
	Kind    string // [KindDocker] or [KindPodman]
	Version string
	API     string // the version that is spoken with it
	Driver  string // storage driver
	Lacks   string // what speaks against it, "keeps …"; "" for nothing
}

// Look asks the daemon at host who it is; "" is DOCKER_HOST or the usual
// socket. Where none can be used the error, of class engine, says why, and the
// result has at least the host.
func Look(ctx context.Context, host string) (_ Daemon, err error) {
	d := Daemon{Host: host, Kind: KindDocker}
	api, info, err := connect(ctx, host)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, api.Close()) }()
	d.Host, d.Version, d.API, d.Driver = api.DaemonHost(), info.ServerVersion, api.ClientVersion(), info.Driver
	if d.Kind, err = daemonKind(ctx, api); err != nil {
		return d, err
	}
	_, unfit := readProgram(agent.Program)
	switch {
	case d.Kind != KindDocker:
		d.Lacks = "is " + d.Kind
	case info.Driver == "vfs":
		d.Lacks = "copies whole images for each container (storage driver vfs)"
	case !info.PidsLimit:
		d.Lacks = "cannot limit the number of processes"
	case errors.Is(unfit, engine.ErrUnsupported):
		d.Lacks = "needs a dbuild that is linked statically (build it with CGO_ENABLED=0)"
	}
	return d, nil
}

// daemonKind asks what answers behind the API.
func daemonKind(ctx context.Context, api *client.Client) (string, error) {
	version, err := api.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		return "", classify(err)
	}
	for _, c := range version.Components {
		if strings.HasPrefix(c.Name, "Podman") {
			return KindPodman, nil
		}
	}
	return KindDocker, nil
}

// Host is where [Open] looks for Docker when it is not told.
func Host(getenv func(string) string) string {
	if host := getenv(client.EnvOverrideHost); host != "" {
		return host
	}
	return client.DefaultDockerHost
}
