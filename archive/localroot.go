package archive

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"dbuild/internal/fault"
)

// localPrefix begins the archive roots that are directories of this machine.
// Only an extra source may have one; no redirect leads there.
const localPrefix = "file:///"

// local says that the archive root is a directory: it is read at each use,
// whatever the network and the settings for it are.
func (s Source) local() bool { return strings.HasPrefix(s.URL, localPrefix) }

// checkRoot accepts the archive root of a source.
func (s Source) checkRoot() error {
	if !s.Extra || !s.local() {
		return checkMirror(s.URL)
	}
	u, err := url.Parse(s.URL)
	if err != nil || u.RawQuery != "" || u.Fragment != "" || path.Clean(u.Path) != u.Path || strings.ContainsFunc(u.Path, isControl) {
		return fault.New(fault.Usage, "%q names no directory", s.URL)
	}
	return nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// openLocal opens a file below a local archive root as if a server had sent it.
func openLocal(q request) (*response, error) {
	fail := func(status int, err error) (*response, error) {
		return nil, fault.Wrap(fault.Network, &TransferError{URL: q.url, Status: status, Err: err})
	}
	u, err := url.Parse(q.url)
	if err != nil {
		return nil, fault.Wrap(fault.Input, fmt.Errorf("%w %q", errURL, q.url))
	}
	f, err := os.OpenFile(u.Path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return fail(http.StatusNotFound, err)
	}
	if err != nil {
		return fail(0, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err == nil {
		_, err = f.Seek(q.offset, io.SeekStart)
	}
	if err != nil {
		_, err = fail(0, errors.Join(err, f.Close()))
		return nil, err
	}
	return &response{status: http.StatusOK, total: info.Size(), offset: q.offset, body: f}, nil
}
