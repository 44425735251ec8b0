package chroot

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dbuild/archive"
	"dbuild/deb"
	"dbuild/engine"
	"dbuild/internal/fault"
)

// fakeMember is a member with the given control files and data entries.
func fakeMember(name string, control map[string]string, entries ...engine.PutEntry) *member {
	files := map[string][]byte{}
	for n, text := range control {
		files[n] = []byte(text)
	}
	return &member{
		Choice:  Choice{Package: &deb.Package{Name: name, Architecture: "amd64"}},
		control: &deb.BinaryFile{ControlFiles: files},
		entries: entries,
	}
}

func setOf(members ...*member) *packageSet {
	s := &packageSet{members: members, byName: map[string]*member{}}
	for _, m := range members {
		s.byName[m.Name] = m
	}
	return s
}

func TestMergedLinks(t *testing.T) {
	at := time.Unix(1, 0)
	link := func(name, target string) tar.Header {
		return tar.Header{Typeflag: tar.TypeSymlink, Name: "./" + name, Linkname: target, ModTime: at}
	}
	dir := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeDir, Name: "./" + name + "/"} }
	usrmerge := setOf(fakeMember("usrmerge", nil))
	tests := []struct {
		name  string
		files []tar.Header
		set   *packageSet
		arch  string
		want  string
	}{
		{"base-files ships links", []tar.Header{dir("usr"), link("bin", "usr/bin"), link("lib64", "usr/lib64")}, setOf(), "amd64", "bin lib64"},
		{"a link elsewhere is none of them", []tar.Header{link("bin", "usr/sbin"), link("var/lock", "usr/lib")}, setOf(), "amd64", ""},
		{"usrmerge, amd64", []tar.Header{dir("bin"), dir("lib")}, usrmerge, "amd64", "bin lib sbin lib64"},
		{"usrmerge, arm64", []tar.Header{dir("bin")}, usrmerge, "arm64", "bin lib sbin"},
		{"usr-is-merged", nil, setOf(fakeMember("usr-is-merged", nil)), "x32", "bin lib sbin libx32"},
		{"not merged", []tar.Header{dir("bin"), dir("lib")}, setOf(), "amd64", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, l := range mergedLinks(tt.files, tt.set, tt.arch) {
				got = append(got, l.Name)
				if l.Linkname != "usr/"+l.Name {
					t.Errorf("%s points at %q", l.Name, l.Linkname)
				}
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("got %q, want %q", s, tt.want)
			}
		})
	}
}

func TestPaths(t *testing.T) {
	dir := func(name string, mode int64, gid int) engine.PutEntry {
		return engine.PutEntry{Name: name, Type: tar.TypeDir, Mode: mode, GID: gid}
	}
	file := func(name string) engine.PutEntry { return engine.PutEntry{Name: name, Type: tar.TypeReg} }
	link := func(name, target string) engine.PutEntry {
		return engine.PutEntry{Name: name, Type: tar.TypeSymlink, Link: target}
	}
	set := setOf(
		fakeMember("aaa", nil, dir(".", 0o755, 0), dir("lib", 0o755, 0), dir("lib/x", 0o700, 0), dir("var/mail", 0o755, 0), dir("opt/q", 0o711, 0), link("usr/same", "x")),
		fakeMember("base-files", nil, dir("var/mail", 0o2775, 8), dir("root", 0o700, 0), dir("tmp", 0o1777, 0), dir("run/x", 0o700, 0), link("var/lock", "/run/lock")),
		fakeMember("zzz", nil, dir("usr/lib/x", 0o755, 0), dir("var/lock", 0o1777, 0), dir("opt/q", 0o700, 0), dir("usr/share", 0o755, 0), link("usr/same", "x")),
	)
	b := &bootstrap{set: set, links: []tar.Header{{Name: "lib"}}}
	tb := newTarball(time.Unix(0, 0))
	if err := b.addDirectories(tb, false); err != nil {
		t.Fatal(err)
	}
	buf, err := tb.finish()
	if err != nil {
		t.Fatal(err)
	}
	headers, err := tarHeaders(buf)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][2]int64{}
	for _, h := range headers {
		got[cleanName(h.Name)] = [2]int64{h.Mode, int64(h.Gid)}
	}
	want := map[string][2]int64{
		"opt/q":     {0o711, 0},
		"root":      {0o700, 0},
		"usr/lib/x": {0o700, 0},
		"var/mail":  {0o2775, 8},
		"usr/same":  {0o777, 0}, // a link
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}

	for _, pair := range [][2]engine.PutEntry{
		{file("lib/y"), file("usr/lib/y")},
		{file("etc/y"), link("etc/y", "z")},
		{link("etc/y", "z"), link("etc/y", "w")},
	} {
		_, err := surveyPaths([]*member{fakeMember("one", nil, pair[0]), fakeMember("two", nil, pair[1])}, []tar.Header{{Name: "lib"}})
		if err == nil {
			t.Errorf("%v and %v pass", pair[0], pair[1])
		}
	}
}

func TestConffilesInStatus(t *testing.T) {
	m := fakeMember("binutils", map[string]string{
		"control":   "Package: binutils\nDescription: x\n",
		"conffiles": "/etc/a\nremove-on-upgrade /etc/gprofng.rc\n\n",
	})
	got, err := m.stanza(map[string]string{"/etc/a": "0123"})
	if err != nil {
		t.Fatal(err)
	}
	want := "Package: binutils\nDescription: x\nStatus: install ok unpacked\nConffiles:\n" +
		" /etc/a 0123\n /etc/gprofng.rc newconffile remove-on-upgrade\n\n"
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	m.control.ControlFiles["conffiles"] = []byte("keep /etc/a\n")
	if _, err := m.stanza(nil); err == nil {
		t.Error("an unknown flag passes")
	}
}

func TestQueueOrder(t *testing.T) {
	var all []*member
	for _, x := range []struct {
		name        string
		size        int64
		seed, early bool
		triggers    string
	}{
		{"seed-s", 1, true, true, ""}, {"seed-l", 9, true, true, ""}, {"tiny", 2, false, false, ""}, {"big", 50, false, false, ""},
		{"early", 3, false, true, "interest x"}, {"mid", 10, false, true, ""}, {"held", 60, false, false, "activate ldconfig"},
	} {
		control := map[string]string{}
		if x.triggers != "" {
			control["triggers"] = x.triggers
		}
		m := fakeMember(x.name, control)
		m.Size, m.seed, m.early = x.size, x.seed, x.early
		all = append(all, m)
	}
	q := newQueue(all)
	for _, m := range all {
		q.add(m)
	}
	var got []string
	take := func() *member {
		m, seeded, err := q.next()
		if err != nil {
			t.Fatal(err)
		}
		if m != nil {
			got = append(got, m.Name+map[bool]string{true: "+"}[seeded])
		}
		return m
	}
	if m := q.take(); m != nil {
		t.Fatalf("%s before the skeleton is there", m.Name)
	}
	q.release()
	first, second, third := take(), take(), take() // the third while seeds are being unpacked
	q.done(first)
	q.done(second)
	q.done(third)
	fourth, fifth := take(), take()
	q.done(fourth)
	q.done(fifth)
	if !q.waitEarly() {
		t.Error("the early group never ends")
	}
	take()
	if m := q.take(); m != nil {
		t.Errorf("%s is not held back", m.Name)
	}
	q.unhold()
	take()
	if m := take(); m != nil {
		t.Errorf("%s came twice", m.Name)
	}
	want := []string{"seed-l", "seed-s", "tiny", "mid+", "early+", "big+", "held+"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestQueueEndsWithContext(t *testing.T) {
	m := fakeMember("early", nil)
	m.early = true
	q := newQueue([]*member{m})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	defer q.watch(ctx)()
	if m, _, err := q.next(); m != nil || err == nil {
		t.Errorf("got %v, %v", m, err)
	}
	if q.waitEarly() {
		t.Error("the early group is said to be unpacked")
	}
}

func TestSplit(t *testing.T) {
	choice := func(name, section, depends string, essential bool) Choice {
		return Choice{Package: &deb.Package{Name: name, Section: section, Depends: depends}, Essential: essential}
	}
	set := newPackageSet([]Choice{
		choice("base", "libs", "", false), choice("bash", "shells", "tool", true), choice("gcc", "devel", "libasan, base", false),
		choice("libasan", "libs", "base", false), choice("tool", "utils", "", false), choice("xz-utils", "utils", "liblzma", false),
		choice("liblzma", "libs", "", false),
	}, func(Choice) archive.File { return archive.File{} })
	var got []string
	for _, m := range set.members {
		got = append(got, m.Name+map[bool]string{true: " early"}[m.early]+map[bool]string{true: " seed"}[m.seed])
	}
	want := []string{"base early", "bash early", "gcc", "libasan early", "tool early", "xz-utils seed", "liblzma early seed"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestConfigureOrder(t *testing.T) {
	choice := func(name string, essential bool, preDepends, depends, provides string) Choice {
		return Choice{Package: &deb.Package{Name: name, PreDepends: preDepends, Depends: depends, Provides: provides}, Essential: essential}
	}
	set := newPackageSet([]Choice{
		choice("apt", false, "", "libapt", ""),
		choice("base-files", true, "awk", "", ""),
		choice("dash", true, "libc6", "", ""),
		choice("libapt", false, "", "libc6", ""),
		choice("libc6", true, "", "libgcc-s1", ""),
		choice("libgcc-s1", true, "", "libc6", ""),
		choice("mawk", true, "libc6", "", "awk"),
	}, func(Choice) archive.File { return archive.File{} })
	var got []string
	for _, early := range []bool{true, false} {
		for _, m := range set.configureOrder(early) {
			got = append(got, m.Name)
		}
		got = append(got, ".")
	}
	want := []string{"libgcc-s1", "libc6", "mawk", "base-files", "dash", ".", "libapt", "apt", "."}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestUserLines(t *testing.T) {
	u := DefaultBuilder()
	got := []string{u.passwd(), u.group(), u.shadow(19675), u.gshadow()}
	want := []string{"builder:x:1234:1234::/nonexistent:/bin/sh", "builder:x:1234:", "builder:*:19675:0:99999:7:::", "builder:*::"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestScriptError(t *testing.T) {
	var many []string
	for i := range 40 {
		many = append(many, strings.Repeat("x", i))
	}
	long := strings.Join(many, "\n")
	if got := excerpt([]byte(long)); len(got) != 10 {
		t.Errorf("%d lines", len(got))
	}
	tests := []struct {
		name  string
		exit  engine.Exit
		out   string
		want  string
		class fault.Class
	}{
		{"dpkg complains", engine.Exit{Code: 1}, long + "\nawk: not found\ndpkg: error processing package dash (--configure):\n exit status 1\n" + long,
			"configure: exit code 1: awk: not found", fault.Engine},
		{"no complaint", engine.Exit{Code: -1, Signal: 9}, "one\ntwo\n", "configure: ended by signal 9: two", fault.Engine},
		{"a limit", engine.Exit{Code: -1, Signal: 9, Reason: engine.ReasonOOM}, "", "configure: stopped, oom: ", fault.Resource},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := scriptFault("configure", tt.exit, []byte(tt.out))
			if err.Error() != tt.want || fault.ClassOf(err) != tt.class {
				t.Errorf("got %q (%s)", err, fault.ClassOf(err))
			}
			var e *ScriptError
			if !errors.As(err, &e) || len(e.Output) > 10 {
				t.Errorf("got %#v", e)
			}
		})
	}
}

func TestEngineFault(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want fault.Class
	}{
		{context.Canceled, fault.Interrupted},
		{context.DeadlineExceeded, fault.Timeout},
		{engine.ErrNoSpace, fault.Resource},
		{engine.ErrLost, fault.Engine},
		{fault.New(fault.Input, "x"), fault.Input},
	} {
		if got := fault.ClassOf(engineFault(fmt.Errorf("put: %w", tt.err))); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.err, got, tt.want)
		}
	}
}

func TestAllowed(t *testing.T) {
	for _, tt := range []struct {
		suite, path string
		want        bool
	}{
		{"trixie", "etc/passwd", true},
		{"trixie", "etc/passwd-", false},
		{"trixie", "var/lib/dpkg/status-old", true},
		{"trixie", "var/lib/dpkg/info/x-old", false},
		{"bookworm", "etc/shells", true},
		{"trixie", "etc/shells", false},
	} {
		if got := Allowed(tt.suite, tt.path) != ""; got != tt.want {
			t.Errorf("%s %s: %v", tt.suite, tt.path, got)
		}
	}
}
