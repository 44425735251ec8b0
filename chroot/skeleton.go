package chroot

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"dbuild/internal/cleanup"
	"dbuild/internal/fault"
)

// baseFiles is the package that ships the directories of the root.
const baseFiles = "base-files"

// aliases are the directories that a merged /usr has in /usr alone.
var aliases = []string{"bin", "lib", "lib32", "lib64", "libo32", "libx32", "sbin"}

// tarball writes a plain tar in memory. Its methods remember the first error,
// which finish returns.
type tarball struct {
	buf  bytes.Buffer
	w    *tar.Writer
	time time.Time
	err  error
}

func newTarball(at time.Time) *tarball {
	t := &tarball{time: at}
	t.w = tar.NewWriter(&t.buf)
	return t
}

func (t *tarball) add(h tar.Header, content []byte) {
	if t.err != nil {
		return
	}
	if h.ModTime.IsZero() {
		h.ModTime = t.time
	}
	h.Size = int64(len(content))
	if t.err = t.w.WriteHeader(&h); t.err == nil {
		_, t.err = t.w.Write(content)
	}
}

func (t *tarball) dir(name string, mode int64) {
	t.add(tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode}, nil)
}

func (t *tarball) file(name string, mode int64, content string) {
	t.add(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode}, []byte(content))
}

func (t *tarball) symlink(name, target string) {
	t.add(tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}, nil)
}

func (t *tarball) finish() (*bytes.Buffer, error) {
	if t.err == nil {
		t.err = t.w.Close()
	}
	if t.err != nil {
		return nil, fmt.Errorf("write tar: %w", t.err)
	}
	return &t.buf, nil
}

// skeletonTar is what must be there before the first package: the root and,
// for a merged /usr, the links, which a directory of a package must not take
// the place of.
func skeletonTar(links []tar.Header, at time.Time) (*bytes.Buffer, error) {
	t := newTarball(at)
	t.dir(".", 0o755)
	if len(links) > 0 {
		t.dir("usr", 0o755)
	}
	for _, l := range links {
		t.dir("usr/"+l.Name, 0o755)
		t.add(l, nil)
	}
	return t.finish()
}

// mergedLinks returns the links of a merged /usr as headers, or nil for a
// suite without one. base-files ships the links since Debian 13. In Debian 12
// the package usrmerge makes them; then the result is the same if they are
// there from the start, and the conversion need not run. Debian 11's buildd
// base has neither.
func mergedLinks(baseFiles []tar.Header, set *packageSet, arch string) []tar.Header {
	var links []tar.Header
	for _, h := range baseFiles {
		name := strings.TrimPrefix(h.Name, "./")
		for _, alias := range aliases {
			if h.Typeflag == tar.TypeSymlink && name == alias && h.Linkname == "usr/"+alias {
				links = append(links, tar.Header{Typeflag: tar.TypeSymlink, Name: alias, Linkname: h.Linkname, Mode: 0o777, ModTime: h.ModTime})
			}
		}
	}
	if len(links) > 0 || !set.has("usrmerge") && !set.has("usr-is-merged") {
		return links
	}
	for _, name := range append([]string{"bin", "lib", "sbin"}, loaderDirs(arch)...) {
		links = append(links, tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: "usr/" + name, Mode: 0o777})
	}
	return links
}

// loaderDirs are the top-level directories, beside /lib, in which the ABI of
// arch puts the dynamic loader. usrmerge converts only what is there.
func loaderDirs(arch string) []string {
	switch arch {
	case "amd64", "loong64", "mips64el", "ppc64", "ppc64el", "sparc64":
		return []string{"lib64"}
	case "x32":
		return []string{"libx32"}
	}
	return nil
}

// baseFilesHeaders reads the tar headers of base-files' data member, which
// tell whether the suite has a merged /usr.
func (b *bootstrap) baseFilesHeaders() (_ []tar.Header, err error) {
	m := b.set.byName[baseFiles]
	f, err := os.Open(b.Copy.Path(m.SHA256))
	if err != nil {
		return nil, err
	}
	defer cleanup.Close(&err, f)
	data, err := m.control.Data(f)
	if err != nil {
		return nil, fault.Wrap(fault.Input, err)
	}
	defer cleanup.Close(&err, data)
	return tarHeaders(data)
}

// tarHeaders reads all headers of a tar.
func tarHeaders(r io.Reader) ([]tar.Header, error) {
	var headers []tar.Header
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return headers, nil
		}
		if err != nil {
			return nil, fault.New(fault.Input, "read data member: %w", err)
		}
		headers = append(headers, *h)
	}
}
