package chroot

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"dbuild/archive"
)

// addSettings writes the files of /etc that belong to no package. The names
// are those that mmdebstrap writes.
func addSettings(t *tarball, sources string) {
	t.file("etc/fstab", 0o644, "# UNCONFIGURED FSTAB FOR BASE SYSTEM\n")
	t.file("etc/apt/sources.list", 0o644, sources)
}

// sourcesList is the suite with what belongs to it, at the vendor's own
// address and not at the mirror that happened to be used: what a person who
// logs in expects, and the same in every image. Builds read the archive that
// dbuild mounts and never this file.
func (o Options) sourcesList() (string, error) {
	first := o.States[0].Source
	sources, err := o.Suite.Sources(archive.SourceOptions{
		HostRoot:   "/nonexistent", // no settings of this host
		Arch:       o.Arch,
		Components: first.Components,
		Keyrings:   first.Keyrings,
	})
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, s := range sources {
		fmt.Fprintf(&b, "deb %s %s %s\n", s.URL, s.Suite, strings.Join(s.Components, " "))
	}
	return b.String(), nil
}

// finishScript removes what depends on the run, adds the builder, and makes
// times not depend on the run: files that are younger than the epoch, and all
// directories, whose time tells when something was put into them.
const finishScript = `
rm -f /var/log/dpkg.log /var/log/alternatives.log /var/log/bootstrap.log /var/log/apt/history.log /var/log/apt/term.log /var/log/apt/eipp.log.xz
rm -f /var/cache/ldconfig/aux-cache /var/lib/dbus/machine-id
rm -f /var/lib/dpkg/status-old /var/lib/dpkg/diversions-old /var/lib/dpkg/statoverride-old /var/cache/debconf/config.dat-old /var/cache/debconf/templates.dat-old
if [ -e /etc/machine-id ]; then rm /etc/machine-id; : >/etc/machine-id; fi
if grep -q '^_apt:' /etc/passwd; then chown _apt:root /var/lib/apt/lists/partial /var/cache/apt/archives/partial; fi
if grep -qE "^$2:|^[^:]*:[^:]*:$3:" /etc/passwd || grep -qE "^$2:|^[^:]*:[^:]*:$4:" /etc/group; then
	echo "the builder's name or id is taken" >&2; exit 1
fi
echo "$5" >>/etc/passwd
echo "$6" >>/etc/group
echo "$7" >>/etc/shadow
echo "$8" >>/etc/gshadow
find / -xdev \( -path /dev -o -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /etc/hosts -o -path /etc/hostname -o -path /etc/resolv.conf -o -path /.dockerenv \) -prune \
	-o \( -type d -o -newermt "@$1" \) -print0 | xargs -0 -r touch -h -d "@$1" --
`

// finish makes the container ready to be committed.
func (b *bootstrap) finish(ctx context.Context) error {
	u := b.Builder
	epoch := b.Epoch.Unix()
	_, err := b.script(ctx, "finish", finishScript, nil,
		strconv.FormatInt(epoch, 10), u.Name, strconv.Itoa(u.UID), strconv.Itoa(u.GID),
		u.passwd(), u.group(), u.shadow(epoch/86400), u.gshadow())
	if err != nil {
		return fmt.Errorf("finish base: %w", err)
	}
	return nil
}
