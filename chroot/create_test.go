package chroot

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dbuild/archive"
	"dbuild/archive/archivetest"
	"dbuild/engine"
	"dbuild/internal/fault"
	"dbuild/internal/testenv"
)

// tinyArchive serves a suite that has just enough of a base.
func tinyArchive(t *testing.T, more ...archivetest.Package) Options {
	t.Helper()
	a := archivetest.New(t)
	a.AddSuite(archivetest.Suite{Name: "trixie"})
	packages := []archivetest.Package{
		{Name: "base-files", Version: "13", Fields: "Essential: yes\nMulti-Arch: foreign",
			Files:   map[string]string{"etc/debian_version": "13\n", "usr/share/doc/base-files/README": "x"},
			Scripts: map[string]string{"conffiles": "/etc/debian_version\n", "md5sums": "aa  usr/share/doc/base-files/README\n", "preinst": "#!/bin/sh\n"}},
		{Name: "base-passwd", Version: "3", Fields: "Essential: yes",
			Scripts: map[string]string{"preinst": "#!/bin/sh\n", "templates": "Template: x\n"}},
		{Name: "libc6", Version: "1:2.41-1", Architecture: "amd64", Fields: "Multi-Arch: same",
			Scripts: map[string]string{"md5sums": "bb  x\n", "triggers": "activate-noawait ldconfig\n", "shlibs": "libc 6\n"}},
		{Name: "libc-bin", Version: "2.41-1", Depends: "libc6", Fields: "Essential: yes",
			Scripts: map[string]string{"triggers": "# comment\ninterest ldconfig\ninterest-noawait /usr/lib/x\n"}},
		{Name: "xz-utils", Version: "5", Depends: "libc6", Compression: "xz"},
		{Name: "build-essential", Version: "12", Depends: "xz-utils, gcc | cc", Compression: "zst"},
		{Name: "gcc", Version: "14", Depends: "libc6", Compression: "none"},
		{Name: "unrelated", Version: "1"},
	}
	for _, p := range append(packages, more...) {
		a.AddPackage("trixie", "main", p)
	}
	a.Publish("trixie")
	c, err := archive.Open(t.TempDir(), archive.Options{})
	if err != nil {
		t.Fatal(err)
	}
	states, err := c.Update(context.Background(), []archive.Source{a.Serve(t).Source("trixie")})
	if err != nil {
		t.Fatal(err)
	}
	suite, err := archive.FindSuite("trixie")
	if err != nil {
		t.Fatal(err)
	}
	return Options{Suite: suite, States: states, Copy: c, Arch: "amd64",
		Epoch: time.Unix(1700000000, 0), Labels: map[string]string{"dbuild.state": "s"}}
}

func create(t *testing.T, o Options) (*fakeContainer, Result) {
	t.Helper()
	e := newFakeEngine()
	o.Engine = e
	res, err := Create(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return e.container, res
}

func TestCreate(t *testing.T) {
	c, res := create(t, tinyArchive(t))

	var got []string
	for _, p := range res.Packages {
		s := p.Name + " " + p.Version + " " + p.Arch
		if p.Auto {
			s += " auto"
		}
		if len(p.SHA256) != 64 {
			t.Errorf("%s: SHA256 %q", p.Name, p.SHA256)
		}
		got = append(got, s)
	}
	want := []string{
		"base-files 13 all", "base-passwd 3 all", "build-essential 12 all", "gcc 14 all auto",
		"libc-bin 2.41-1 all", "libc6 1:2.41-1 amd64", "xz-utils 5 all auto",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("packages -want +got\n%s", diff)
	}

	if c.spec.Purpose != engine.PurposeDeps || c.spec.Network != engine.NetworkNone || c.spec.Image != "" {
		t.Errorf("spec %+v", c.spec)
	}
	if c.config == nil || c.config.Tag != "base:trixie-amd64" || c.config.Labels["dbuild.state"] != "s" {
		t.Errorf("config %+v", c.config)
	}
	if c.closed != 1 {
		t.Errorf("closed %d times", c.closed)
	}
}

func TestCreateWritesDatabase(t *testing.T) {
	c, _ := create(t, tinyArchive(t))
	for name, want := range map[string]string{
		"var/lib/dpkg/arch":                          "amd64\n",
		"var/lib/dpkg/info/format":                   "1\n",
		"var/lib/dpkg/info/libc6:amd64.shlibs":       "libc 6\n",
		"var/lib/dpkg/info/gcc.list":                 "/.\n/usr\n/usr/share\n/usr/share/doc\n/usr/share/doc/gcc\n/usr/share/doc/gcc/copyright\n",
		"var/lib/dpkg/info/gcc.md5sums":              "7bba206a12d096faff80d2ed17ea6d14  usr/share/doc/gcc/copyright\n",
		"var/lib/dpkg/info/base-files.md5sums":       "aa  usr/share/doc/base-files/README\n",
		"var/lib/dpkg/triggers/File":                 "/usr/lib/x libc-bin/noawait\n",
		"var/lib/dpkg/triggers/ldconfig":             "libc-bin\n",
		"var/lib/dpkg/triggers/Unincorp":             "",
		"var/lib/dpkg/dbuild-preinst/000/templates":  "Template: x\n",
		"var/lib/dpkg/dbuild-preinst/001/conffiles":  "/etc/debian_version\n",
		"var/lib/apt/extended_states":                "Package: gcc\nArchitecture: amd64\nAuto-Installed: 1\n\nPackage: xz-utils\nArchitecture: amd64\nAuto-Installed: 1\n\n",
		"etc/fstab":                                  "# UNCONFIGURED FSTAB FOR BASE SYSTEM\n",
		"usr/share/doc/build-essential/copyright":    "Public domain.\n",
		"var/lib/dpkg/info/base-passwd.preinst":      "#!/bin/sh\n",
		"var/lib/dpkg/dbuild-preinst/000/control":    archivetest.Package{Name: "base-passwd", Version: "3", Fields: "Essential: yes"}.Control(),
		"var/lib/dpkg/dbuild-preinst/000/preinst":    "#!/bin/sh\n",
		"var/lib/apt/lists/lock":                     "",
		"var/cache/apt/archives/lock":                "",
		"usr/share/doc/base-files/README":            "x",
		"var/lib/dpkg/info/libc-bin.triggers":        "# comment\ninterest ldconfig\ninterest-noawait /usr/lib/x\n",
		"var/lib/dpkg/info/libc6:amd64.triggers":     "activate-noawait ldconfig\n",
		"var/lib/dpkg/dbuild-preinst/001/md5sums":    "aa  usr/share/doc/base-files/README\n",
		"usr/share/doc/xz-utils/copyright":           "Public domain.\n",
		"var/lib/dpkg/info/libc6:amd64.md5sums":      "bb  x\n",
		"usr/share/doc/unrelated/copyright (absent)": "",
	} {
		name, absent := strings.CutSuffix(name, " (absent)")
		f, there := c.files[name]
		if there == absent {
			t.Errorf("%s: there %v", name, there)
		} else if f.content != want {
			t.Errorf("%s: %q, want %q", name, f.content, want)
		}
	}
	status := c.files["var/lib/dpkg/status"].content
	for _, want := range []string{
		"Package: base-files\n", "Status: install ok unpacked\nConffiles:\n /etc/debian_version aa6ed9e0f26a6eba784aae8267df1951\n\n",
	} {
		if !strings.Contains(status, want) {
			t.Errorf("status lacks %q:\n%s", want, status)
		}
	}
	if _, ok := c.files["var/lib/dpkg/info/base-files.control"]; ok {
		t.Error("control is stored in info; dpkg keeps it in status only")
	}
	if mode := c.files["var/lib/dpkg/info/base-files.preinst"].header.Mode; mode != 0o755 {
		t.Errorf("mode of preinst %o", mode)
	}
}

// dpkg is the judge of what was written.
func TestDatabaseIsReadByDpkg(t *testing.T) {
	dpkg := testenv.NeedProgram(t, "dpkg-query")
	c, _ := create(t, tinyArchive(t))
	dir := t.TempDir()
	status := c.files[adminDir+"/status"]
	status.content += c.files[moreStatus].content // as the script does it
	c.files[adminDir+"/status"] = status
	for name, f := range c.files {
		rel, ok := strings.CutPrefix(name, adminDir+"/")
		if !ok || f.header.FileInfo().IsDir() {
			continue
		}
		path := filepath.Join(dir, rel)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(f.content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"-W", "-f", "${binary:Package} ${db:Status-Abbrev}${Conffiles}\n"},
			"base-files iU  /etc/debian_version aa6ed9e0f26a6eba784aae8267df1951\nbase-passwd iU \nbuild-essential iU \ngcc iU \nlibc-bin iU \nlibc6:amd64 iU \nxz-utils iU \n"},
		{[]string{"-L", "gcc"}, "/.\n/usr\n/usr/share\n/usr/share/doc\n/usr/share/doc/gcc\n/usr/share/doc/gcc/copyright\n"},
		{[]string{"--control-show", "base-files", "preinst"}, "#!/bin/sh\n"},
	} {
		out, err := exec.Command(dpkg, append([]string{"--admindir=" + dir}, tt.args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", tt.args, err, out)
		}
		// Conffiles begins with a line feed in some versions of dpkg.
		got := strings.ReplaceAll(string(out), "iU \n /", "iU  /")
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%v -want +got\n%s", tt.args, diff)
		}
	}
}

func TestCreateRunsInOrder(t *testing.T) {
	c, _ := create(t, tinyArchive(t))
	var got []string
	for i, s := range c.ran {
		text := strings.Join(s.Argv, " ")
		switch {
		case strings.HasPrefix(text, "/usr/bin/xz --version"):
			continue // only if a worker is free when the seeds are done
		case strings.Contains(text, "md5sum"):
			got = append(got, "md5sum")
		case strings.Contains(text, "tmp.ci"):
			got = append(got, "preinst "+strings.ReplaceAll(c.lists[i], "\n", ";"))
		case strings.Contains(text, "--configure"):
			got = append(got, "configure "+strings.Join(s.Argv[4:], " "))
		case strings.Contains(text, "newermt"):
			got = append(got, "finish "+strings.Join(s.Argv[4:8], " "))
		default:
			got = append(got, text)
		}
		if s.User != engine.Root || !strings.Contains(strings.Join(s.Env, "\n"), "SOURCE_DATE_EPOCH=1700000000") {
			t.Errorf("step %q: user %v env %q", text, s.User, s.Env)
		}
	}
	want := []string{
		"md5sum",
		"preinst 000 base-passwd all;001 base-files all;",
		"configure base-files base-passwd libc6:amd64 libc-bin",
		"md5sum", "preinst ", "configure xz-utils gcc build-essential",
		"finish 1700000000 builder 1234 1234",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestCreateFails(t *testing.T) {
	essential := "Essential: yes"
	tests := []struct {
		name  string
		more  archivetest.Package
		fail  string // script
		class fault.Class
		want  string
	}{
		{"a script fails", archivetest.Package{Name: "more", Version: "1"}, "--configure", fault.Engine, "no such tool"},
		{"two packages ship one file", archivetest.Package{Name: "more", Version: "1", Fields: essential,
			Files: map[string]string{"etc/debian_version": "14\n"}}, "", fault.Input, `"base-files" and "more" both ship /etc/debian_version`},
		{"a conffile is not shipped", archivetest.Package{Name: "more", Version: "1", Fields: essential,
			Scripts: map[string]string{"conffiles": "/etc/gone\n"}}, "", fault.Input, `"/etc/gone"`},
		{"an unsafe conffile", archivetest.Package{Name: "more", Version: "1", Fields: essential,
			Scripts: map[string]string{"conffiles": "/etc/../x\n"}}, "", fault.Input, `"/etc/../x"`},
		{"an unknown trigger directive", archivetest.Package{Name: "more", Version: "1", Fields: essential,
			Scripts: map[string]string{"triggers": "wish x\n"}}, "", fault.Input, `"wish"`},
		{"a trigger that would leave its directory", archivetest.Package{Name: "more", Version: "1", Fields: essential,
			Scripts: map[string]string{"triggers": "interest ../x\n"}}, "", fault.Input, `"../x"`},
		{"a dependency is missing", archivetest.Package{Name: "more", Version: "1", Fields: essential, Depends: "gone"}, "", fault.DepWait, `"gone"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := tinyArchive(t, tt.more)
			e := newFakeEngine()
			e.container.fail = tt.fail
			o.Engine = e
			_, err := Create(context.Background(), o)
			if err == nil || !strings.Contains(err.Error(), tt.want) || fault.ClassOf(err) != tt.class {
				t.Fatalf("got %v (%s), want %q (%s)", err, fault.ClassOf(err), tt.want, tt.class)
			}
			if e.container.config != nil {
				t.Error("committed all the same")
			}
			if tt.class != fault.DepWait && e.container.closed != 1 {
				t.Errorf("closed %d times", e.container.closed)
			}
		})
	}
}

func TestCreateCancelled(t *testing.T) {
	o := tinyArchive(t)
	o.Engine = newFakeEngine()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Create(ctx, o); fault.ClassOf(err) != fault.Interrupted {
		t.Errorf("got %v", err)
	}
}
