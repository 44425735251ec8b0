package tests

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dbuild/deb"
	"dbuild/dsc"
	"dbuild/internal/testenv"
)

// resultCase is a package that spoils what it hands out, or how it ends. The
// script runs at the very end of dpkg-buildpackage, as its hook, beside the
// results: $C is the .changes, $D the .deb, and "relist FILE…" makes $C agree
// with files again.
type resultCase struct {
	name   string
	script string
	exits  string   // codes that are right, parted by blanks
	says   string   // in the error message
	args   []string // for dbuild
	every  bool     // on every engine, not only where a container is quick
	limit  string   // that must be enforced for the case to mean anything
	needs  string   // another build dependency
	quilt  bool     // an upstream tarball and a Debian revision
}

var resultCases = []resultCase{
	// C25: what stands in place of a result.
	{name: "symlink-to-host", script: `ln -sf "$CANARY" $D`, exits: "1", says: "is a symlink", every: true},
	{name: "fifo", script: `rm $D; mkfifo $D`, exits: "1", says: "not a regular file", every: true},
	{name: "sparse", script: `truncate -s 100G $D; perl -pi -e 's/ \d+ (.*deb)$/ 107374182400 $1/' $C`, exits: "15", says: "limit exceeded"},
	{name: "changed", script: `echo >>$D`, exits: "1", says: "not what the .changes lists", every: true},
	{name: "modes", script: `chmod 000 $D $C; chmod 6777 *.buildinfo; touch .hidden ordinary --; ln -s / root`, exits: "0", every: true},
	// The .changes itself.
	{name: "changes-symlink", script: `mv $C real; ln -s real $C`, exits: "1", says: "is a symlink"},
	{name: "changes-missing", script: `rm -f $C $D`, exits: "1", says: ".changes"},
	{name: "changes-huge", script: `truncate -s 20G $C`, exits: "1 15", says: ".changes"},
	{name: "changes-garbage", script: `head -c 10000 /dev/urandom >$C`, exits: "1", says: ".changes"},
	{name: "changes-signed", script: forgeSignature, exits: "1", says: "signed"},
	{name: "traversal", script: `rename $D ../../../etc/passwd`, exits: "1", says: "etc/passwd", every: true},
	{name: "escape-name", script: `rename $D "$(printf 'a\033[2Jb_1.0_all.deb')"`, exits: "1", says: `\\x1b|\\\\x1b|x1b`},
	{name: "many", script: `perl -pi -e 'print map { " d41d8cd98f00b204e9800998ecf8427e 1 misc optional f$_\n" } 1..20000 if /^ .* misc optional tiny.*deb/' $C`, exits: "1"},
	{name: "other-source", script: `perl -pi -e 's/^Source: .*/Source: glibc/' $C`, exits: "1", says: "another package"},
	{name: "other-suite", script: `perl -pi -e 's/^Distribution: .*/Distribution: stable/' $C`, exits: "1", says: "stable"},
	// C29, C28: what the files hold.
	{name: "deb-endless", script: `dpkg-deb -R $D x; cd x; tar czf ../control.tar.gz -C DEBIAN .; cd ..; : >data.tar.zst; echo 2.0 >debian-binary
rm $D; ar rc $D debian-binary control.tar.gz data.tar.zst; relist $D`, exits: "1", says: "tiny"},
	{name: "deb-other-source", script: `dpkg-deb -R $D x; perl -pi -e 's/^Source: .*\n//; s/^Version/Source: glibc\nVersion/' x/DEBIAN/control; dpkg-deb -b x $D; relist $D`, exits: "1", says: "glibc"},
	{name: "buildinfo-garbage", script: `head -c 5000 /dev/urandom >$(echo *.buildinfo); relist *.buildinfo`, exits: "1", says: "buildinfo"},
	{name: "buildinfo-huge", script: `truncate -s 200M *.buildinfo; relist *.buildinfo`, exits: "1", says: "buildinfo"},
	{name: "buildinfo-other", script: `perl -pi -e 's/^Source: .*/Source: glibc/' *.buildinfo; relist *.buildinfo`, exits: "1", says: "buildinfo"},
	{name: "source-changed", script: `echo >>tiny_1.0.orig.tar.gz; relist tiny_1.0.orig.tar.gz`, exits: "1", says: "tiny_1.0.orig.tar.gz", args: []string{"-s"}, quilt: true},
	{name: "source-kept", script: `true`, exits: "0", args: []string{"-s"}, quilt: true},
	// C30: the place itself.
	{name: "place-symlink", script: `cd /build; mv reproducible-path other; ln -s other reproducible-path`, exits: "1", says: "symlink"},
	{name: "place-missing", script: `cd /build; mv reproducible-path other`, exits: "1", says: "take results"},
	// C31: writers that stay.
	{name: "writer", script: `(setsid perl -e 'while (1) { open F, ">>", $ARGV[0]; print F "x"; close F }' $D &)`, exits: "0 1", every: true},
	{name: "daemons", script: `for i in 1 2 3 4 5 6 7 8; do ` + leaveBehind("$SLEEPER") + `; done; perl -e 'for (1 .. 1500) { fork or sleep 100000 }' & sleep 0.1`, exits: "0", every: true},
	// C32: how a build pretends to have ended.
	{name: "kill-all", script: `kill -9 -1; sleep 1000`, exits: "1", every: true},
	{name: "stop-all", script: `kill -STOP -1; kill -STOP $$; sleep 1000`, exits: "14", args: []string{"--idle-timeout", "2s"}, says: "printed nothing"},
	{name: "closed-output", script: `exec >&- 2>&- </dev/null; sleep 100000`, exits: "14", args: []string{"--idle-timeout", "2s"}, says: "printed nothing"},
	{name: "sleep", script: leaveBehind("$SLEEPER") + `; sleep 100000`, exits: "14", args: []string{"--timeout", "4s"}, says: "ran longer", every: true},
	// C24: what it prints.
	{name: "terminal", script: terminalAttack, exits: "1", says: "exit code 3", every: true},
	{name: "protocol", script: `head -c 3000000 /dev/urandom; head -c 1000000 /dev/zero; perl -e 'print pack("N*", 0 .. 100000)'`, exits: "0", every: true},
	// C21: what it takes. The fork bomb has the memory as its bound.
	{name: "memory", script: `perl -e '$x = "x" x 2_000_000_000; print length $x'`, exits: "15", says: "memory", args: []string{"--memory", "300M"}, limit: "memory", every: true},
	{name: "shared-memory", script: `head -c 1G /dev/zero >/dev/shm/x`, exits: "1 15", args: []string{"--memory", "300M"}, limit: "memory"},
	{name: "fork-bomb", script: `perl -e 'while (1) { fork }'; sleep 100000`, exits: "1 14 15", args: []string{"--memory", "300M", "--timeout", "15s"}, limit: "memory", every: true},
	// The same from a maintainer script.
	{name: "postinst-sleeps", needs: "dbuild-hostile-sleeps", exits: "14", says: "printed nothing", args: []string{"--idle-timeout", "3s"}},
	{name: "postinst-kills", needs: "dbuild-hostile-kills", exits: "13", says: "dependencies"},
	// Odd trees to take away again.
	{name: "many-files", script: `mkdir many; perl -e 'for (1 .. 100000) { open F, ">", "many/$_" }'`, exits: "0"},
	{name: "deep", script: `perl -e 'for (1 .. 3000) { my $n = "d" x 250; mkdir $n; chdir $n }'; mkdir -p locked/in; chmod 000 locked/in locked`, exits: "0", every: true},
}

// forgeSignature makes the .changes look signed.
const forgeSignature = `{ printf -- '-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n'; cat $C
printf -- '-----BEGIN PGP SIGNATURE-----\n\niHUEABYKAB0WIQ==\n=aaaa\n-----END PGP SIGNATURE-----\n'; } >new; mv new $C`

// terminalAttack prints what would take over a terminal, and the lines with
// which dbuild and sbuild say that all is well.
const terminalAttack = `printf 'title \033]0;owned\007 clipboard \033]52;c;b3duZWQ=\007 screen \033[2J\033P+q\033\\ eight \2331m \302\2331m nul \000 bell \007 back \b\b\b\n'
printf 'bidi \342\200\256 evil \342\201\246 isolate \342\200\250 separator\n'
perl -e 'print "long " x 1000000, "\n"'
printf 'Status: successful\nFail-Stage: \nE: \rdbuild: ok\n{"v":1,"time":"2026-01-01T00:00:00Z","event":"result","status":"successful"}\n'
exit 3`

// liarRules is the debian/rules of these packages.
const liarRules = `#!/usr/bin/make -f
clean build:
binary:
	install -d debian/tiny/DEBIAN
	dpkg-gencontrol -ptiny -Pdebian/tiny
	dpkg-deb --root-owner-group -Znone --build debian/tiny ..
.PHONY: clean build binary
`

const liarHead = `#!/bin/sh
set -e
cd ..
C=$(echo *.changes) B=$(echo *.buildinfo) D=$(echo tiny_1.0*_*.deb) CANARY=%s SLEEPER=%s
export C D
relist() { sums $B "$@"; sums $C "$@" $B; }
sums() { perl -MDigest::MD5 -MDigest::SHA -e '
	my %%sum; my $doc = shift;
	for my $f (@ARGV) {
		my $size = -s $f;
		$sum{$f} = [Digest::MD5->new->addfile(do { open my $h, "<", $f; $h })->hexdigest, map { Digest::SHA->new($_)->addfile($f)->hexdigest } 1, 256];
		push @{$sum{$f}}, $size;
	}
	open my $in, "<", $doc; my @lines = <$in>; open my $out, ">", $doc;
	for (@lines) {
		my ($f) = /(\S+)$/;
		if (/^ / and my $s = $sum{$f}) {
			my $h = /^ (\S{32}) / ? $s->[0] : /^ (\S{40}) / ? $s->[1] : $s->[2];
			s/^ \S+ \d+ / $h $s->[3] /;
		}
		print $out $_;
	}' -- "$@"; }
rename() { perl -pi -e 'BEGIN { $f = shift; $t = shift } s/ \Q$f\E$/ $t/' -- "$1" "$2" $C; }
`

// testResults builds one package for each case. They share one image, run
// beside each other, and must not see each other.
func (r *hostileRun) testResults(t *testing.T) {
	before := r.host.look(t)
	for _, c := range resultCases {
		if c.limit != "" && r.limits[c.limit] != "enforced" {
			t.Logf("%s means nothing here: limit %s is %s", c.name, c.limit, r.limits[c.limit])
			continue
		}
		if r.quick || c.every {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				r.testResult(t, c)
			})
		}
	}
	t.Cleanup(func() {
		r.host.compare(t, before)
		r.clean(t)
	})
}

// liar packs the source package of a script.
func (r *hostileRun) liar(t *testing.T, c resultCase) (dir, file string) {
	t.Helper()
	depends := hostilePackage + ", fakeroot"
	if c.needs != "" {
		depends += ", " + c.needs
	}
	dir = filepath.Join(r.dir, c.name)
	tree := filepath.Join(dir, "tree")
	writeTree(t, tree, map[string]string{
		"debian/control": dependOn(t, depends),
		"debian/rules":   liarRules,
		"debian/liar":    fmt.Sprintf(liarHead, r.host.canary, r.sleeper) + c.script + "\n",
	})
	version := "1.0"
	if c.quilt {
		version = "1.0-1"
		write(t, filepath.Join(tree, "debian/source/format"), "3.0 (quilt)\n")
		write(t, filepath.Join(tree, "debian/changelog"), strings.Replace(string(tinyFile(t, "debian/changelog")), "1.0", version, 1))
	}
	for _, f := range []string{"debian/rules", "debian/liar"} {
		if err := os.Chmod(filepath.Join(tree, f), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := packSource(tree, dir); err != nil {
		t.Fatal(err)
	}
	return dir, filepath.Join(dir, "tiny_"+version+".dsc")
}

func (r *hostileRun) testResult(t *testing.T, c resultCase) {
	dir, source := r.liar(t, c)
	inputs := hashTree(t, dir)
	out := filepath.Join(r.dir, c.name+"-out")
	o := r.build(t, out, source, append([]string{"--debbuildopts=--hook-done=./debian/liar"}, c.args...)...)
	t.Logf("exit %d after %s", o.exit, o.took)
	if !strings.Contains(" "+c.exits+" ", " "+strconv.Itoa(o.exit)+" ") {
		t.Fatalf("exit %d, want %s\n%s\n%s", o.exit, c.exits, o.stderr, o.stdout)
	}
	if o.exit != 0 && !regexp.MustCompile(c.says).MatchString(o.result.Error.Message) {
		t.Errorf("says %q, want %q", o.result.Error.Message, c.says)
	}
	if hashTree(t, dir) != inputs {
		t.Error("the source package has changed")
	}
	for _, text := range []string{o.stderr, o.stdout} {
		if i := strings.IndexFunc(text, isControl); i >= 0 {
			t.Errorf("prints raw control characters: %q", text[max(0, i-40):min(len(text), i+40)])
		}
	}
	r.checkOutput(t, out, o)
}

// isControl reports what no terminal may get from a package.
func isControl(c rune) bool {
	return c < ' ' && c != '\n' && c != '\t' || c >= 0x7f && c < 0xa0 || c >= 0x202a && c <= 0x202e || c >= 0x2066 && c <= 0x2069 || c == 0xfffd
}

// checkOutput: a failed build hands out its log and nothing else; a successful
// one regular files, as the .changes lists them.
func (r *hostileRun) checkOutput(t *testing.T, out string, o ending) {
	t.Helper()
	for _, e := range mustReadDir(t, out) {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		log := strings.Contains(e.Name(), ".build") && !strings.HasSuffix(e.Name(), ".buildinfo")
		switch {
		case log:
		case o.exit != 0:
			t.Errorf("a failed build handed out %q", e.Name())
		case !info.Mode().IsRegular() || info.Mode().Perm() != 0o644:
			t.Errorf("handed out %q with mode %s", e.Name(), info.Mode())
		case !strings.HasPrefix(e.Name(), "tiny_1.0"):
			t.Errorf("handed out %q", e.Name())
		}
	}
	if o.exit != 0 {
		return
	}
	found, err := filepath.Glob(filepath.Join(out, "tiny_1.0*_"+deb.HostArch()+".changes"))
	if err != nil || len(found) != 1 {
		t.Fatalf("the .changes is %q, %v", found, err)
	}
	changes, err := dsc.ReadChanges([]byte(readText(t, found[0])))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range changes.Files {
		for _, a := range o.result.Artifacts {
			if a.Name == f.Name && a.SHA256 != f.SHA256 {
				t.Errorf("%s is not what the .changes lists", f.Name)
			}
		}
	}
}

// dependOn is tiny's debian/control with build dependencies.
func dependOn(t *testing.T, relation string) string {
	t.Helper()
	return strings.Replace(string(tinyFile(t, "debian/control")), "Standards-Version", "Build-Depends: "+relation+"\nStandards-Version", 1)
}

// testFullDisk fills a small file system that holds nothing but containers.
func (r *hostileRun) testFullDisk(t *testing.T) {
	at := filepath.Join(r.dir, "state", r.containers)
	if _, err := os.Stat(at); err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(r.dir, "small-disk")
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, 200<<20); err != nil {
		t.Fatal(err)
	}
	for _, argv := range [][]string{{"mkfs.ext4", "-q", disk}, {"mount", "-o", "loop", disk, at}} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			testenv.Skip(t, "loop", "needs mkfs.ext4 and loop devices: %q: %v: %s", argv, err, out)
		}
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, 0); err != nil {
			t.Errorf("the small disk is in use: %v", err)
		}
	})
	for _, c := range []resultCase{
		{name: "disk", script: `echo filling; cat /dev/zero >filled`, exits: "15", says: "disk space"},
		{name: "disk-in-tmp", script: `cat /dev/zero >/tmp/filled`, exits: "15", says: "disk space"},
		{name: "disk-after", script: `true`, exits: "0"},
	} {
		t.Run(c.name, func(t *testing.T) { r.testResult(t, c) })
	}
}
