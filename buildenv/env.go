package buildenv

import (
	"path"
	"strconv"
	"strings"

	"dbuild/engine"
)

// Hostname is the host name of every container, fixed so that it cannot leak
// into packages.
const Hostname = "dbuild"

// searchPath is the PATH of Debian's builders.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/games"

// rootEnv is the whole environment of dbuild's own steps as the container's
// root: apt, dpkg, maintainer scripts.
func rootEnv(extra ...string) []string {
	return append([]string{
		"PATH=" + searchPath,
		"HOME=/root",
		"LC_ALL=C.UTF-8",
		"SHELL=/bin/sh",
		"DEBIAN_FRONTEND=noninteractive",
		"DEBCONF_NONINTERACTIVE_SEEN=true",
	}, extra...)
}

// buildEnv is the whole environment of the package's build: what Debian's
// builders set, and of the caller's environment only DEB_BUILD_OPTIONS and
// DEB_BUILD_PROFILES.
func (b *build) buildEnv() []string {
	env := []string{
		"PATH=" + searchPath,
		"HOME=/nonexistent",
		"LC_ALL=C.UTF-8",
		"SHELL=/bin/sh",
		"USER=builder",
		"LOGNAME=builder",
		"DEB_BUILD_OPTIONS=" + b.buildOptions(),
	}
	if p := b.profiles(); len(p) > 0 {
		env = append(env, "DEB_BUILD_PROFILES="+strings.Join(p, " "))
	}
	return env
}

// buildOptions adds parallel=N to the caller's DEB_BUILD_OPTIONS, unless they
// have one and -j was not given.
func (b *build) buildOptions() string {
	var kept []string
	has := false
	for _, o := range strings.Fields(b.req.BuildOptions) {
		if strings.HasPrefix(o, "parallel") {
			if b.req.Jobs > 0 {
				continue
			}
			has = true
		}
		kept = append(kept, o)
	}
	if !has {
		kept = append(kept, "parallel="+strconv.Itoa(b.jobs()))
	}
	return strings.Join(kept, " ")
}

// profiles are the active build profiles: those asked for, else the caller's
// DEB_BUILD_PROFILES.
func (b *build) profiles() []string {
	if len(b.req.Profiles) > 0 {
		return b.req.Profiles
	}
	return strings.Fields(b.req.BuildProfilesEnv)
}

// spec is what all containers of a build have in common.
func (b *build) spec(image engine.ImageID, purpose engine.Purpose) engine.Spec {
	network := engine.NetworkNone
	if b.req.Network && purpose == engine.PurposeBuild {
		network = engine.NetworkHost
	}
	spec := engine.Spec{
		Image: image, Purpose: purpose, Network: network, Hostname: Hostname, Arch: b.req.Arch,
		Limits: b.req.Limits,
		Labels: map[string]string{"dbuild.state": b.State.ID, "dbuild.build": b.id},
	}
	if purpose == engine.PurposeBuild {
		spec.Areas = []string{path.Dir(buildRoot)}
	}
	return spec
}
