package tests

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"

	"dbuild/internal/testenv"
)

// cmdOrdinaryUser gives an ordinary user a home with a copy of dbuild, and the
// script a program that acts as that user with nothing of root's environment.
func cmdOrdinaryUser(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 0, "ordinaryuser")
	u, err := testenv.FindUser()
	ts.Check(err)
	home, bin := ts.MkAbs("userhome"), ts.MkAbs(".bin")
	ts.Check(errors.Join(os.Mkdir(home, 0o700), os.Mkdir(bin, 0o755)))
	ts.Check(copyProgram(filepath.Join(bin, "dbuild")))
	ts.Check(os.Chown(home, u.UID, u.GID))
	as := ""
	if os.Getuid() != u.UID {
		as = fmt.Sprintf("setpriv --reuid %d --regid %d --clear-groups ", u.UID, u.GID)
	}
	wrapper := fmt.Sprintf("#!/bin/sh\ncd %q\nexec %senv -i HOME=%q PATH=%q:/usr/bin:/bin LC_ALL=C.UTF-8 DBUILD_ENGINE=native http_proxy=\"$http_proxy\" https_proxy=\"$https_proxy\" no_proxy=\"$no_proxy\" \"$@\"\n",
		home, as, home, bin)
	tools := ts.MkAbs(".tools")
	ts.Check(os.Mkdir(tools, 0o755))
	ts.Check(os.WriteFile(filepath.Join(tools, "asuser"), []byte(wrapper), 0o755)) //nolint:gosec // a program
	ts.Setenv("PATH", tools+string(os.PathListSeparator)+ts.Getenv("PATH"))
	ts.Setenv("USERHOME", home)
}

// copyProgram copies this program, which others may not reach where go test
// put it.
func copyProgram(to string) (err error) {
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer from.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, from)
	return errors.Join(err, out.Close())
}
