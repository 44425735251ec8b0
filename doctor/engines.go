package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
)

// checkTrial says whether a container started.
func checkTrial(f Facts, engine string) Finding {
	trial, tried := f.Trials[engine]
	switch {
	case !tried:
		return Finding{}
	case trial.Err != nil:
		return Finding{Status: Fail, Text: "no container starts: " + oneLine(trial.Err), Mend: trial.Hint}
	}
	return Finding{Status: OK, Text: "a container starts"}
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// checkDaemon says whether a daemon answers and, where it was tried, whether a
// container starts.
func checkDaemon(f Facts, name string) Finding {
	d := f.Daemons[name]
	if d.Err != nil {
		return Finding{Status: Fail, Text: noDaemon(d), Mend: f.startDaemon(name, d)}
	}
	if name == Podman && d.Kind != Podman {
		return Finding{Status: Fail, Text: d.Kind + " answers at " + d.Host, Mend: "CONTAINER_HOST=unix:///run/podman/podman.sock dbuild …"}
	}
	text := fmt.Sprintf("%s %s at %s", d.Kind, d.Version, d.Host)
	if d.API != "" {
		text += ", API " + d.API
	}
	trial, tried := f.Trials[name]
	switch {
	case !tried:
		return Finding{Status: OK, Text: text}
	case trial.Err != nil:
		return Finding{Status: Fail, Text: text + ", but no container starts: " + oneLine(trial.Err), Mend: trial.Hint}
	}
	return Finding{Status: OK, Text: text + "; a container starts"}
}

func noDaemon(d Daemon) string {
	switch {
	case errors.Is(d.Err, fs.ErrPermission):
		return "permission denied at " + d.Host
	case errors.Is(d.Err, fs.ErrNotExist), errors.Is(d.Err, syscall.ECONNREFUSED):
		return "nothing answers at " + d.Host
	}
	return oneLine(d.Err)
}

// startDaemon is the command after which a daemon answers.
func (f Facts) startDaemon(name string, d Daemon) string {
	_, podman := f.Programs["podman"]
	_, docker := f.Programs["dockerd"]
	mine := f.UID != 0 && !strings.HasPrefix(d.Host, "unix:///run/podman/")
	switch {
	case !strings.HasPrefix(d.Host, "unix://"):
		return d.Hint
	case !usual(d.Host):
		return "env -u DOCKER_HOST -u CONTAINER_HOST dbuild …"
	case name == Docker && errors.Is(d.Err, fs.ErrPermission):
		return "sudo usermod -aG docker " + f.User + ", then log in again (that group is as good as root)"
	case name == Podman && errors.Is(d.Err, fs.ErrPermission):
		return "systemctl --user start podman.socket"
	case !errors.Is(d.Err, fs.ErrNotExist) && !errors.Is(d.Err, syscall.ECONNREFUSED):
		return d.Hint
	case name == Docker && docker:
		return "sudo systemctl start docker"
	case name == Docker:
		return "sudo apt install docker.io"
	case podman && mine:
		return "systemctl --user start podman.socket"
	case podman:
		return "sudo systemctl start podman.socket"
	}
	return "sudo apt install podman"
}

// usual reports whether a socket is where a daemon of Debian's puts it, and
// not one that the environment names.
func usual(host string) bool {
	return strings.HasSuffix(host, "/podman/podman.sock") || strings.HasSuffix(host, "/docker.sock")
}

// checkStorage warns of storage drivers that cost much.
func checkStorage(f Facts, name string) Finding {
	d := f.Daemons[name]
	switch {
	case d.Err != nil || d.Driver == "":
		return Finding{}
	case d.Driver == "vfs":
		return Finding{Status: Note, Text: "vfs copies the whole image for each container", Mend: overlayDriver(name)}
	case d.Driver == "fuse-overlayfs":
		return Finding{Status: Note, Text: "fuse-overlayfs makes small builds take nearly twice as long", Mend: overlayDriver(name)}
	}
	return Finding{Status: OK, Text: d.Driver}
}

func overlayDriver(name string) string {
	if name == Podman {
		return "set driver = \"overlay\" without mount_program in storage.conf(5), then: podman system reset"
	}
	return `echo '{"storage-driver":"overlay2"}' | sudo tee /etc/docker/daemon.json && sudo systemctl restart docker`
}

// checkEngine is the last line: what will be used, and whether it works.
func checkEngine(f Facts, works bool) Finding {
	found := Finding{Code: "engine", Status: OK, Needed: true, Text: f.Engine + " is used: " + f.Why}
	if works {
		return found
	}
	found.Status, found.Text = Fail, f.Engine+" is to be used ("+f.Why+"), but builds cannot run before the above is mended"
	if f.starts(f.Engine) {
		return found
	}
	for _, other := range []string{Native, Docker, Podman} {
		if found.Mend == "" && f.starts(other) {
			found.Mend = "dbuild --engine " + other + " …"
		}
	}
	return found
}

// starts reports whether the engine was seen to start a container.
func (f Facts) starts(engine string) bool {
	trial, tried := f.Trials[engine]
	return tried && trial.Err == nil && f.Daemons[engine].Err == nil
}
