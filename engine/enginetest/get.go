package enginetest

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"dbuild/engine"
)

// testGet: only plain files come out, whatever a build left.
func testGet(t *testing.T, s *suite) {
	c := s.container(t, s.spec(engine.PurposeDeps))
	for _, line := range [][]string{
		{"mkdir", "/home/out"},
		{"write", "/home/out/a.deb", "content of a"},
		{"write", "/home/out/empty", ""},
		{"write", "/home/out/-strange\n\x1b[2Jname", "strange"},
		{"symlink", "/etc/plain", "/home/out/symlink"},
		{"symlink", "/home/out", "/home/behind"},
		{"write", "/home/out/linked", "two names"},
		{"link", "/home/out/linked", "/home/other"},
		{"mkfifo", "/home/out/fifo"},
		{"mkdir", "/home/out/dir"},
		{"write", "/home/out/dir/inside", "x"},
		{"write", "/home/out/closed", "mode 0"},
		{"chmod", "0", "/home/out/closed"},
	} {
		must(t, c, line...)
	}
	quiesce(t, c)
	generous := engine.GetLimits{Files: 100, Bytes: 1 << 30}
	for _, x := range []struct {
		name, dir string
		names     []string
		lim       engine.GetLimits
		want      string // what comes out, or
		wrong     string // a word that the error must hold
		is        error
	}{
		{name: "in order", names: []string{"empty", "a.deb", "closed"}, want: `"empty"="" "a.deb"="content of a" "closed"="mode 0"`},
		{name: "strange name", names: []string{"-strange\n\x1b[2Jname"}, want: `"-strange\n\x1b[2Jname"="strange"`},
		{name: "nothing", names: nil, want: ""},
		{name: "missing", names: []string{"a.deb", "missing"}, wrong: "missing", is: engine.ErrNotFound},
		{name: "symlink", names: []string{"symlink"}, wrong: "symlink"},
		{name: "hard link", names: []string{"linked"}, wrong: "linked"},
		{name: "fifo", names: []string{"fifo"}, wrong: "fifo"},
		{name: "directory", names: []string{"dir"}, wrong: "dir"},
		{name: "inside", names: []string{"dir/inside"}, wrong: "inside"},
		{name: "parent", names: []string{"../../etc/plain"}, wrong: "plain"},
		{name: "dots", names: []string{".."}, wrong: ".."},
		{name: "behind a symlink", dir: "/home/behind", names: []string{"a.deb"}, wrong: "behind"},
		{name: "no such directory", dir: "/home/none", names: []string{"a.deb"}, wrong: "none", is: engine.ErrNotFound},
		{name: "star", dir: "/home/out/dir", names: []string{"*"}, want: `"inside"="x"`},
		{name: "star with a hard link", names: []string{"*"}, wrong: "linked"},
		{name: "too many", names: []string{"a.deb", "empty"}, lim: engine.GetLimits{Files: 1, Bytes: 1000}, is: engine.ErrTooMuch},
		{name: "too large", names: []string{"empty", "a.deb"}, lim: engine.GetLimits{Files: 9, Bytes: 11}, is: engine.ErrTooMuch},
		{name: "just not too large", names: []string{"a.deb"}, lim: engine.GetLimits{Files: 1, Bytes: 12}, want: `"a.deb"="content of a"`},
	} {
		t.Run(x.name, func(t *testing.T) {
			if x.dir == "" {
				x.dir = "/home/out"
			}
			if x.lim == (engine.GetLimits{}) {
				x.lim = generous
			}
			var got []string
			err := c.GetFiles(t.Context(), x.dir, x.names, x.lim, func(f engine.GotFile, r io.Reader) error {
				b, err := io.ReadAll(r)
				if int64(len(b)) != f.Size || time.Since(f.MTime) > time.Hour {
					t.Errorf("head %+v, content of %d bytes", f, len(b))
				}
				got = append(got, fmt.Sprintf("%q=%q", f.Name, b))
				return err
			})
			fails := x.wrong != "" || x.is != nil
			switch {
			case fails && err == nil:
				t.Errorf("succeeded with %v", got)
			case fails && (!strings.Contains(err.Error(), x.wrong) || x.is != nil && !errors.Is(err, x.is)):
				t.Errorf("error is %v; want %q, %v", err, x.wrong, x.is)
			case !fails && (err != nil || strings.Join(got, " ") != x.want):
				t.Errorf("got %v (%v), want %s", got, err, x.want)
			}
		})
	}
	mine := errors.New("mine")
	if err := c.GetFiles(t.Context(), "/home/out", []string{"a.deb"}, generous, func(engine.GotFile, io.Reader) error { return mine }); !errors.Is(err, mine) {
		t.Errorf("error of the callback came back as %v", err)
	}
}
