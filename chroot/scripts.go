package chroot

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"time"

	"dbuild/engine"
)

// scriptEnv is the complete environment of everything that runs while the base
// is made. With SOURCE_DATE_EPOCH the account tools write a fixed day into
// /etc/shadow.
func scriptEnv(epoch time.Time) []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root",
		"LC_ALL=C.UTF-8",
		"DEBIAN_FRONTEND=noninteractive",
		"DEBCONF_NONINTERACTIVE_SEEN=true",
		"SOURCE_DATE_EPOCH=" + strconv.FormatInt(epoch.Unix(), 10),
	}
}

// script runs a shell script as root of the container and returns what it
// wrote to its standard output. An exit other than 0 is a [ScriptError].
func (b *bootstrap) script(ctx context.Context, what, text string, stdin io.Reader, args ...string) (string, error) {
	stdout, stderr := capped{}, capped{}
	exit, err := b.container.Run(ctx, engine.Step{
		Argv:   append([]string{"/bin/sh", "-ec", text, "sh"}, args...),
		Env:    scriptEnv(b.Epoch),
		Stdin:  stdin,
		Stdout: &stdout,
		Stderr: &stderr,
	})
	if err != nil {
		return "", engineFault(fmt.Errorf("%s: %w", what, err))
	}
	if !exit.OK() {
		return "", scriptFault(what, exit, append(stdout.Bytes(), stderr.Bytes()...))
	}
	return stdout.String(), nil
}

// preinstDir holds, while the base is made, one directory for each package
// with a preinst, named by its turn.
const preinstDir = adminDir + "/dbuild-preinst"

// preinstOrder lists the members of a group with a preinst: base-passwd, which
// makes /etc/passwd, and then as they will be configured.
func (b *bootstrap) preinstOrder(early bool) []*member {
	var first, rest []*member
	for _, m := range b.set.configureOrder(early) {
		if _, ok := m.control.ControlFiles["preinst"]; !ok {
			continue
		}
		if m.Name == "base-passwd" {
			first = append(first, m)
		} else {
			rest = append(rest, m)
		}
	}
	return append(first, rest...)
}

// addPreinst lays out the control files of members for [preinstScript].
func addPreinst(t *tarball, members []*member) {
	for i, m := range members {
		dir := fmt.Sprintf("%s/%03d", preinstDir, i)
		t.dir(dir, 0o755)
		for _, h := range m.control.ControlHeaders {
			name := path.Base(path.Clean(h.Name))
			if h.Typeflag == tar.TypeReg {
				t.add(tar.Header{Typeflag: tar.TypeReg, Name: dir + "/" + name, Mode: h.Mode & 0o777, ModTime: h.ModTime},
					m.control.ControlFiles[name])
			}
		}
	}
}

// preinstScript runs the scripts in the environment that dpkg gives them.
// debconf finds out whose script calls it only by reading tmp.ci/control, so
// each package's control files stand there while its script runs.
const preinstScript = `
cd /
admin=/var/lib/dpkg
export DPKG_ADMINDIR=$admin DPKG_ROOT= DPKG_MAINTSCRIPT_DEBUG=0 DPKG_MAINTSCRIPT_NAME=preinst DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT=1
DPKG_RUNNING_VERSION=$1; export DPKG_RUNNING_VERSION
while read -r dir package arch; do
	mv "$admin/dbuild-preinst/$dir" $admin/tmp.ci
	export DPKG_MAINTSCRIPT_PACKAGE="$package" DPKG_MAINTSCRIPT_ARCH="$arch"
	$admin/tmp.ci/preinst install </dev/null || { echo "preinst of $package: exit code $?" >&2; exit 1; }
	rm -rf $admin/tmp.ci
done
rm -rf $admin/dbuild-preinst
if [ -e $admin/dbuild-status ]; then
	cat $admin/dbuild-status >>$admin/status
	rm $admin/dbuild-status
fi
`

func (b *bootstrap) runPreinst(ctx context.Context, early bool) error {
	var list strings.Builder
	for i, m := range b.preinstOrder(early) {
		fmt.Fprintf(&list, "%03d %s %s\n", i, m.Name, m.Architecture)
	}
	version := ""
	if m := b.set.byName["dpkg"]; m != nil {
		version = m.Version
	}
	_, err := b.script(ctx, "run preinst scripts", preinstScript, strings.NewReader(list.String()), version)
	return err
}

// configureScript keeps maintainer scripts from starting services. ldconfig
// runs once more for the late group: it also lists the links that development
// packages ship, and those have no trigger for it.
const configureScript = `
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
dpkg --configure "$@" 2>&1
rm /usr/sbin/policy-rc.d
`

func (b *bootstrap) configure(ctx context.Context, early bool) error {
	var names []string
	for _, m := range b.set.configureOrder(early) {
		names = append(names, m.infoName())
	}
	script := configureScript
	if !early {
		script += "dpkg --configure -a 2>&1\nldconfig 2>&1\n"
	}
	_, err := b.script(ctx, "configure packages", script, nil, names...)
	return err
}
