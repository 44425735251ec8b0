package userns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"dbuild/internal/fault"
	"dbuild/internal/testenv"
)

// TestMain lets this program be entered: run with "copy" it says who it is.
func TestMain(m *testing.M) {
	Continue()
	if n, ok := Inside(); ok {
		fmt.Println(os.Getuid(), os.Getgid(), n.UID, n.GID)
		fmt.Println(unix.Chown(os.Getenv("COPY_FILE"), 1, Count))
		os.Exit(7)
	}
	if os.Getenv("COPY_FILE") != "" {
		code, err := Enter()
		fmt.Println(code, err)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestEnter: the copy is root of a namespace in which the subordinate ids can
// own files, and its exit code comes back.
func TestEnter(t *testing.T) {
	u := testenv.NeedUser(t)
	file := filepath.Join(u.Home, "file")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Chown(file, u.UID, u.GID)); err != nil {
		t.Fatal(err)
	}
	out, err := u.Command(t.Context(), []string{"COPY_FILE=" + file}, "/proc/self/exe").CombinedOutput()
	want := fmt.Sprintf("0 0 %d %d\n<nil>\n7 <nil>\n", u.UID, u.GID)
	if err != nil || string(out) != want {
		t.Fatalf("printed %q (%v), want %q", out, err, want)
	}
	n, err := realHost.namespace(u.UID, u.GID)
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil || int(st.Uid) != n.Users[0].First {
		t.Errorf("id 1 of the namespace is %d on the host (%v), want %d", st.Uid, err, n.Users[0].First)
	}
}

func TestRanges(t *testing.T) {
	const lines = "other:100000:65536\njo:200000:1000\n\njo:bad:65536\n1000:300000:65536\njo:0:65536\njo:4294967000:65536\n"
	for _, x := range []struct {
		name, text, user string
		want             []Range
		total            int
	}{
		{"by number, for it is large enough", lines, "jo", []Range{{300000, Count}}, Count},
		{"together", "jo:100000:40000\njo:200000:40000\n", "jo", []Range{{100000, 40000}, {200000, Count - 40000}}, Count},
		{"larger than needed", "jo:100000:1000000\n", "jo", []Range{{100000, Count}}, Count},
		{"too few", "jo:100000:1000\n", "jo", []Range{{100000, 1000}}, 1000},
		{"of nobody", lines, "", []Range{{300000, Count}}, Count},
		{"none", "other:100000:65536\n:1:65536\n", "", nil, 0},
	} {
		t.Run(x.name, func(t *testing.T) {
			all, err := parseRanges(strings.NewReader(x.text), x.user, 1000)
			if err != nil {
				t.Fatal(err)
			}
			got, total := pick(all)
			if diff := cmp.Diff(x.want, got); diff != "" || total != x.total {
				t.Errorf("%d ids, want %d\n%s", total, x.total, diff)
			}
		})
	}
	if diff := cmp.Diff([]Range{{100000, Count}}, parseGetsubids("0: jo 100000 65536\nnonsense\n")); diff != "" {
		t.Error(diff)
	}
	if got := strings.Join(mapArgs(1000, []Range{{100000, 40000}, {200000, 25536}}), " "); got != "0 1000 1 1 100000 40000 40001 200000 25536" {
		t.Errorf("map %q", got)
	}
}

// TestFaults plants what keeps users from user namespaces: each is named, with
// the command that mends it.
func TestFaults(t *testing.T) {
	for _, x := range []struct {
		name          string
		sysctl, value string
		subuid        string
		missing       string // program
		err           error  // of the kernel
		want, hint    string
	}{
		{name: "no range", subuid: "other:1:65536\n", want: "has 0 subordinate ids", hint: "usermod --add-subuids"},
		{name: "small range", subuid: "4242:100000:100\n", want: "has 100 subordinate ids", hint: "usermod --add-subuids"},
		{name: "no newuidmap", missing: "newuidmap", want: "find newuidmap", hint: "apt install uidmap"},
		{name: "no newgidmap", missing: "newgidmap", want: "find newgidmap", hint: "apt install uidmap"},
		{name: "none allowed", sysctl: "user/max_user_namespaces", value: "0", want: "user.max_user_namespaces is 0", hint: "sysctl -w user.max_user_namespaces="},
		{name: "Debian's switch", sysctl: "kernel/unprivileged_userns_clone", value: "0", want: "unprivileged_userns_clone is 0", hint: "sysctl -w kernel.unprivileged_userns_clone=1"},
		{name: "AppArmor", sysctl: "kernel/apparmor_restrict_unprivileged_userns", value: "1", want: "apparmor_restrict", hint: "AppArmor profile"},
		{name: "container", err: unix.EPERM, want: "operation not permitted", hint: "--engine docker"},
		{name: "too many", err: unix.ENOSPC, want: "no space", hint: "max_user_namespaces"},
		{name: "map refused", err: &mapError{"/usr/bin/newuidmap", "write to uid_map failed", exec.ErrNotFound}, want: "newuidmap: write to uid_map failed", hint: "set-user-ID"},
	} {
		t.Run(x.name, func(t *testing.T) {
			dir := t.TempDir()
			h := host{
				subuid: filepath.Join(dir, "subuid"), subgid: filepath.Join(dir, "subgid"), sysctl: dir,
				look: func(name string) (string, error) {
					if name == x.missing {
						return "", exec.ErrNotFound
					}
					return "/usr/bin/" + name, nil
				},
				ids: func(...string) (string, error) { return "", exec.ErrNotFound },
			}
			if x.subuid == "" {
				x.subuid = "4242:100000:65536\n"
			}
			err := errors.Join(os.WriteFile(h.subuid, []byte(x.subuid), 0o600), os.WriteFile(h.subgid, []byte("4242:100000:65536\n"), 0o600))
			if x.sysctl != "" {
				path := filepath.Join(dir, x.sysctl)
				err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(x.value+"\n"), 0o600))
			}
			if err != nil {
				t.Fatal(err)
			}
			if err = x.err; err == nil {
				err = h.check(4242, 4242)
			} else {
				err = h.explain(err)
			}
			if fault.ClassOf(err) != fault.Engine || !strings.Contains(fmt.Sprint(err), x.want) || !strings.Contains(fault.HintOf(err), x.hint) {
				t.Errorf("%v of class %s, hint %q; want %q, %q", err, fault.ClassOf(err), fault.HintOf(err), x.want, x.hint)
			}
		})
	}
}
