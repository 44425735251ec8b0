package doctor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// healthy is an ordinary user's machine on which everything works.
func healthy() Facts {
	return Facts{
		UID: 1000, User: "ann", Engine: Native, Why: "flag says so", Kernel: "6.1.0-26-amd64", Now: noon,
		Sysctls:     map[string]string{"user.max_user_namespaces": "96000", "kernel.seccomp.actions_avail": "kill_process errno allow"},
		Filesystems: "nodev\tsysfs\nnodev\toverlay\n\text4\n", Cgroup: "0::/user.slice/user-1000.slice",
		Subordinate: map[string]string{"/etc/subuid": "ann:100000:65536\n", "/etc/subgid": "1000:100000:65536\n"},
		Programs:    map[string]bool{"newuidmap": true, "newgidmap": true},
		State:       Directory{Path: "/s", Exists: true, Dir: true, UID: 1000, Mode: 0o711, Writable: true, Filesystem: "ext4", Free: 100 << 30},
		Dates:       map[string]time.Time{"http://m/debian bookworm": noon.Add(-time.Hour)},
		Keyrings: []Keyring{
			{Vendor: "debian", Package: "debian-archive-keyring", Path: "/k", Keys: 9, Host: true},
			{Vendor: "ubuntu", Package: "ubuntu-archive-keyring", Path: "/u", Keys: 3},
		},
		RepoKeys: []SigningKey{{Fingerprint: "AB", Expires: noon.AddDate(1, 0, 0), Mend: "prolong AB"}, {Fingerprint: "CD"}},
		Trials:   map[string]Trial{Native: {Limits: []string{"pids", "memory"}}, Docker: {}, Podman: {}},
		Daemons: map[string]Daemon{
			Docker: {Host: "unix:///run/docker.sock", Kind: Docker, Version: "20.10", API: "1.41", Driver: "overlay2"},
			Podman: {Host: "unix:///run/user/1000/podman/podman.sock", Kind: Podman, Version: "4.3.1", Driver: "overlay"},
		},
	}
}

func find(t *testing.T, all []Finding, code string) Finding {
	t.Helper()
	for _, f := range all {
		if f.Code == code {
			return f
		}
	}
	t.Fatalf("no finding %q", code)
	return Finding{}
}

func TestHealthy(t *testing.T) {
	all := Examine(healthy())
	for _, f := range all {
		if f.Status != OK || f.Mend != "" {
			t.Errorf("%+v", f)
		}
	}
	if !Works(all) || len(all) != len(checks)+3 {
		t.Errorf("works %v, %d findings", Works(all), len(all))
	}
}

// TestFaults plants one fault at a time: the check about it says so, with the
// command that mends it, and builds run or not.
func TestFaults(t *testing.T) {
	missing := &fs.PathError{Op: "dial", Path: "x", Err: syscall.ENOENT}
	refused := &fs.PathError{Op: "dial", Path: "x", Err: syscall.EACCES}
	root := func(f *Facts) { f.UID, f.User, f.State.UID = 0, "root", 0 }
	daemon := func(f *Facts, name string, fn func(*Daemon)) {
		d := f.Daemons[name]
		fn(&d)
		f.Daemons[name] = d
	}
	tests := []struct {
		name, code string
		status     Status
		works      bool
		mend       string
		plant      func(*Facts)
	}{
		{"of another user", "state", Fail, false, "--state", func(f *Facts) { f.State.UID = 0 }},
		{"writable by others", "state", Fail, false, "chmod go-w /s", func(f *Facts) { f.State.Mode = 0o777 }},
		{"a file", "state", Fail, false, "--state", func(f *Facts) { f.State.Dir = false }},
		{"read-only", "state", Fail, false, "--state", func(f *Facts) { f.State.Writable = false }},
		{"cannot be made", "state", Fail, false, "--state", func(f *Facts) { f.State.Exists, f.State.Writable = false, false }},
		{"unreadable", "state", Fail, false, "--state", func(f *Facts) { f.State.Err = refused }},
		{"overlayfs", "state-filesystem", Fail, false, "local disk", func(f *Facts) { f.State.Filesystem = "overlayfs" }},
		{"NFS", "state-filesystem", Fail, false, "local disk", func(f *Facts) { f.State.Filesystem = "NFS" }},
		{"NFS with docker", "state-filesystem", Fail, true, "local disk", func(f *Facts) { f.State.Filesystem, f.Engine = "NFS", Docker }},
		{"tmpfs", "state-filesystem", Note, true, "--state", func(f *Facts) { f.State.Filesystem = "tmpfs" }},
		{"full", "disk", Fail, false, "clean --images", func(f *Facts) { f.State.Free = 1 << 20 }},
		{"nearly full", "disk", Note, true, "dbuild clean", func(f *Facts) { f.State.Free = 2 << 30 }},
		{"clock behind", "clock", Fail, false, "timedatectl", func(f *Facts) { f.Now = noon.Add(-4 * time.Hour) }},
		{"key ends soon", "repo-key", Note, true, "prolong AB", func(f *Facts) { f.RepoKeys[0].Near = true }},
		{"key is over", "repo-key", Fail, false, "prolong AB", func(f *Facts) { f.RepoKeys[0].Near, f.RepoKeys[0].Over = true, true }},
		{"key before is over", "repo-key", Note, true, "prolong CD", func(f *Facts) {
			f.RepoKeys[1] = SigningKey{Fingerprint: "CD", Expires: noon.AddDate(0, 0, -1), Near: true, Over: true, Mend: "prolong CD"}
		}},
		{"keys cannot be read", "repo-key", Fail, false, "dbuild repo key", func(f *Facts) { f.RepoErr = refused }},
		{"plain container", "container", Fail, false, "--privileged", func(f *Facts) { root(f); f.Container = "docker" }},
		{"no user namespaces", "user-namespaces", Fail, false, "--engine docker", func(f *Facts) { f.UserNS = unix.EINVAL }},
		{"limit of zero", "user-namespaces", Fail, false, "sudo sysctl -w user.max_user_namespaces=10000", func(f *Facts) {
			f.UserNS, f.Sysctls["user.max_user_namespaces"] = unix.ENOSPC, "0"
		}},
		{"Debian's switch", "user-namespaces", Fail, false, "sudo sysctl -w kernel.unprivileged_userns_clone=1", func(f *Facts) {
			f.UserNS, f.Sysctls["kernel.unprivileged_userns_clone"] = unix.EPERM, "0"
		}},
		{"AppArmor", "user-namespaces", Fail, false, "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0", func(f *Facts) {
			f.UserNS, f.Sysctls["kernel.apparmor_restrict_unprivileged_userns"] = unix.EACCES, "1"
		}},
		{"AppArmor with a profile", "user-namespaces", OK, true, "", func(f *Facts) { f.Sysctls["kernel.apparmor_restrict_unprivileged_userns"] = "1" }},
		{"forbidden by a container", "user-namespaces", Fail, false, "--privileged", func(f *Facts) { f.UserNS, f.Container = unix.EPERM, "docker" }},
		{"no range", "subordinate-ids", Fail, false, "sudo usermod --add-subuids 165536-231071 --add-subgids 165536-231071 ann", func(f *Facts) {
			f.Subordinate["/etc/subgid"] = "bob:100000:65536"
		}},
		{"small range", "subordinate-ids", Fail, false, "usermod", func(f *Facts) { f.Subordinate["/etc/subuid"] = "ann:100000:1000" }},
		{"no range, root", "subordinate-ids", OK, true, "", func(f *Facts) { root(f); f.Subordinate = nil }},
		{"no newgidmap", "id-map-programs", Fail, false, "sudo apt install uidmap", func(f *Facts) { delete(f.Programs, "newgidmap") }},
		{"powerless newuidmap", "id-map-programs", Fail, false, "--reinstall uidmap", func(f *Facts) { f.Programs["newuidmap"] = false }},
		{"not loaded", "overlay", Fail, false, "sudo modprobe overlay", func(f *Facts) { f.Filesystems = "\text4\n" }},
		{"old kernel", "overlay", Fail, false, "--engine docker", func(f *Facts) { f.Kernel = "5.10.0-32-amd64" }},
		{"no filters", "seccomp", Fail, false, "linux-image", func(f *Facts) { delete(f.Sysctls, "kernel.seccomp.actions_avail") }},
		{"not delegated", "cgroups", Note, true, "systemd-run --user --scope -p Delegate=yes", func(f *Facts) { f.Trials[Native] = Trial{Limits: []string{"pids"}} }},
		{"v1", "cgroups", Note, true, "unified_cgroup_hierarchy", func(f *Facts) {
			f.Cgroup, f.Trials[Native] = "2:pids:/\n0::/", Trial{}
		}},
		{"none", "cgroups", Note, true, "linux-image", func(f *Facts) { f.Cgroup = "" }},
		{"no container starts", "native", Fail, false, "do this", func(f *Facts) { f.Trials[Native] = Trial{Err: unix.EPERM, Hint: "do this"} }},
		{"no docker", "docker", Fail, true, "sudo apt install docker.io", func(f *Facts) { daemon(f, Docker, func(d *Daemon) { d.Err = missing }) }},
		{"docker is wanted", "docker", Fail, false, "sudo apt install docker.io", func(f *Facts) {
			f.Engine = Docker
			daemon(f, Docker, func(d *Daemon) { d.Err = missing })
		}},
		{"docker is not running", "docker", Fail, true, "sudo systemctl start docker", func(f *Facts) {
			f.Programs["dockerd"] = false
			daemon(f, Docker, func(d *Daemon) { d.Err = missing })
		}},
		{"not in the group", "docker", Fail, true, "sudo usermod -aG docker ann", func(f *Facts) { daemon(f, Docker, func(d *Daemon) { d.Err = refused }) }},
		{"too old", "docker", Fail, true, "upgrade", func(f *Facts) {
			daemon(f, Docker, func(d *Daemon) { d.Err, d.Hint = errors.New("API 1.24"), "upgrade" })
		}},
		{"remote", "docker", Fail, true, "look there", func(f *Facts) {
			daemon(f, Docker, func(d *Daemon) { d.Host, d.Err, d.Hint = "tcp://x", syscall.ECONNREFUSED, "look there" })
		}},
		{"docker starts nothing", "docker", Fail, false, "try", func(f *Facts) {
			f.Engine, f.Trials[Docker] = Docker, Trial{Err: unix.EPERM, Hint: "try"}
		}},
		{"vfs", "docker-storage", Note, true, "overlay2", func(f *Facts) { daemon(f, Docker, func(d *Daemon) { d.Driver = "vfs" }) }},
		{"fuse-overlayfs", "podman-storage", Note, true, "storage.conf", func(f *Facts) { daemon(f, Podman, func(d *Daemon) { d.Driver = "fuse-overlayfs" }) }},
		{"no podman", "podman", Fail, true, "sudo apt install podman", func(f *Facts) { daemon(f, Podman, func(d *Daemon) { d.Err = missing }) }},
		{"own podman is not running", "podman", Fail, false, "systemctl --user start podman.socket", func(f *Facts) {
			f.Engine, f.Programs["podman"] = Podman, false
			daemon(f, Podman, func(d *Daemon) { d.Err = missing })
		}},
		{"root's podman is not running", "podman", Fail, true, "sudo systemctl start podman.socket", func(f *Facts) {
			root(f)
			f.Programs["podman"] = false
			daemon(f, Podman, func(d *Daemon) { d.Err = missing })
		}},
		{"no keyring", "keyring-debian", Fail, false, "sudo apt install debian-archive-keyring", func(f *Facts) { f.Keyrings[0].Path = "" }},
		{"no foreign keyring", "keyring-ubuntu", Fail, true, "sudo apt install ubuntu-archive-keyring", func(f *Facts) { f.Keyrings[1].Path = "" }},
		{"damaged keyring", "keyring-debian", Fail, false, "--reinstall debian-archive-keyring", func(f *Facts) { f.Keyrings[0].Err = errors.New("empty") }},
		{"no keyring at all", "keyring-ubuntu", Fail, false, "ubuntu-archive-keyring", func(f *Facts) {
			f.Keyrings[0].Host, f.Keyrings[0].Path, f.Keyrings[1].Path = false, "", ""
		}},
		{"docker at podman's", "podman", Fail, true, "CONTAINER_HOST", func(f *Facts) { daemon(f, Podman, func(d *Daemon) { d.Kind = Docker }) }},
		{"odd socket", "docker", Fail, true, "env -u DOCKER_HOST", func(f *Facts) {
			daemon(f, Docker, func(d *Daemon) { d.Host, d.Err = "unix:///x.sock", missing })
		}},
		{"another engine works", "engine", Fail, false, "dbuild --engine docker", func(f *Facts) {
			delete(f.Trials, Podman)
			f.Trials[Native] = Trial{Err: unix.EPERM}
		}},
	}
	planted := map[string]bool{}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			facts := healthy()
			tt.plant(&facts)
			all := Examine(facts)
			f := find(t, all, tt.code)
			if f.Status != tt.status || !strings.Contains(f.Mend, tt.mend) || (f.Mend == "") != (tt.mend == "") || strings.Contains(f.Text, "\n") {
				t.Errorf("%+v, want %s and mend %q", f, tt.status, tt.mend)
			}
			if Works(all) != tt.works {
				t.Errorf("works: %v", Works(all))
			}
			planted[tt.code] = planted[tt.code] || tt.status != OK
		})
	}
	for _, c := range checks {
		if !planted[c.code] && !(c.code == "docker-storage" || c.code == "podman-storage") {
			t.Errorf("no test in which %q fails", c.code)
		}
	}
}

// TestLook reads a made-up machine.
func TestLook(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"proc/sys/kernel/osrelease":                             "6.8.0\n",
		"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n",
		"proc/sys/kernel/seccomp/actions_avail":                 "errno\n",
		"proc/self/status":                                      "Name:\tx\nCapEff:\t0000000000200000\nSeccomp:\t0\n",
		"proc/1/environ":                                        "PATH=/bin\x00container=lxc\x00",
		"etc/subuid":                                            "ann:100000:65536\n",
		"bin/newuidmap":                                         "",
		"bin/podman":                                            "",
	} {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	var f Facts
	f.Look(t.Context(), root, func(name string) (string, error) {
		path := filepath.Join(root, "bin", name)
		_, err := os.Stat(path)
		return path, err
	})
	f.UserNS = nil // the real machine's
	want := Facts{
		Kernel: "6.8.0", Caps: 1 << unix.CAP_SYS_ADMIN, Container: "lxc",
		Sysctls:     map[string]string{"kernel.apparmor_restrict_unprivileged_userns": "1", "kernel.seccomp.actions_avail": "errno"},
		Subordinate: map[string]string{"/etc/subuid": "ann:100000:65536", "/etc/subgid": ""},
		Programs:    map[string]bool{"newuidmap": false, "podman": false},
	}
	if diff := cmp.Diff(want, f); diff != "" {
		t.Error(diff)
	}
	if got := container(root, "", ""); got != "" {
		t.Errorf("no container: %q", got)
	}
	if err := os.WriteFile(filepath.Join(root, ".dockerenv"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := container(root, "", ""); got != "docker" {
		t.Errorf("docker: %q", got)
	}
}

func TestLookDirectory(t *testing.T) {
	dir := t.TempDir()
	d := LookDirectory(dir)
	if !d.Exists || !d.Dir || !d.Writable || d.UID != os.Geteuid() || d.Free == 0 || d.Filesystem == "" || d.Err != nil {
		t.Errorf("%+v", d)
	}
	if d := LookDirectory(filepath.Join(dir, "a/b")); d.Exists || !d.Writable || d.Free == 0 || Nearest(d.Path) != dir {
		t.Errorf("%+v", d)
	}
	for magic, want := range map[uint32]string{unix.OVERLAYFS_SUPER_MAGIC: "overlayfs", unix.NFS_SUPER_MAGIC: "NFS", unix.BTRFS_SUPER_MAGIC: "btrfs", 1: "another"} {
		if got := filesystem(magic); got != want {
			t.Errorf("%x is %q, want %q", magic, got, want)
		}
	}
}

// TestPrivileged: a program without the set-uid bit or capabilities is not
// taken for newuidmap.
func TestPrivileged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p")
	if err := os.WriteFile(path, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if privileged(path) {
		t.Error("a plain program")
	}
	if os.Geteuid() == 0 {
		if err := os.Chmod(path, 0o755|fs.ModeSetuid); err != nil || !privileged(path) {
			t.Errorf("a set-uid program of root is not (%v)", err)
		}
	}
}
