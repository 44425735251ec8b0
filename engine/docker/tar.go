package docker

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"dbuild/engine"
	"dbuild/internal/fault"
	"dbuild/internal/tree"
)

// point is what a directory below a mount is like.
type point struct {
	Mode int64 `json:"mode"`
	UID  int   `json:"uid,omitempty"`
	GID  int   `json:"gid,omitempty"`
}

// mountPoints are the directories that the daemon or the agent mounts on, as
// they are unless a tree says otherwise.
var mountPoints = map[string]point{
	"dev": {Mode: 0o755}, "proc": {Mode: 0o755}, "sys": {Mode: 0o755}, "run": {Mode: 0o755}, "tmp": {Mode: 0o1777},
}

// mergePoints returns mountPoints with what is known better.
func mergePoints(known map[string]point) map[string]point {
	all := maps.Clone(mountPoints)
	maps.Copy(all, known)
	return all
}

// needed are the directories that a container has whether its image does or
// not. In an image they must not be anything else: the daemon would follow or
// remove what stands there.
var needed = []string{"dev", "proc", "sys", "run", "tmp", "etc", "var", "var/tmp"}

// capabilityRecord carries file capabilities, as docker and GNU tar do.
const capabilityRecord = "SCHILY.xattr.security.capability"

// idCount is how many user and group ids a container has.
const idCount = 65536

// rootHeader is the root directory of every image. Docker keeps no other
// attributes of it.
func rootHeader() *tar.Header {
	return &tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755, ModTime: time.Unix(0, 0)}
}

// plain returns h with nothing but what a tree knows.
func plain(name string, h *tar.Header) *tar.Header {
	p := &tar.Header{
		Typeflag: h.Typeflag, Name: name, Linkname: h.Linkname, Mode: h.Mode & 0o7777, Uid: h.Uid, Gid: h.Gid, Size: h.Size,
		ModTime: h.ModTime, Devmajor: h.Devmajor, Devminor: h.Devminor, Format: tar.FormatPAX,
	}
	switch h.Typeflag {
	case tar.TypeDir:
		p.Name += "/"
	case tar.TypeGNUSparse:
		p.Typeflag = tar.TypeReg
	}
	if v := h.PAXRecords[capabilityRecord]; v != "" {
		p.PAXRecords = map[string]string{capabilityRecord: v}
	}
	return p
}

// repacker copies a tar of a whole tree and checks it on the way.
type repacker struct {
	in    *tar.Reader
	out   *tar.Writer
	kinds map[string]byte
	heads map[string]*tar.Header // of what hard links may lead to
	facts facts
}

// facts is what a container of an image does not show of it.
type facts struct {
	Absent []string         `json:"absent,omitempty"` // directories that docker makes and the tree lacks
	Points map[string]point `json:"points,omitempty"` // directories that mounts cover
}

// callerReader tells an error of the caller's reader from one of the tar.
type callerReader struct {
	io.Reader
	err error
}

func (c *callerReader) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}

// repack copies a tar without what every engine replaces and returns what a
// container will not show of it. What a tree must not hold is an error of class
// input.
func repack(r io.Reader, w io.Writer) (facts, error) {
	source := &callerReader{Reader: r}
	p := &repacker{
		in: tar.NewReader(source), out: tar.NewWriter(w), kinds: map[string]byte{}, heads: map[string]*tar.Header{},
		facts: facts{Points: map[string]point{}},
	}
	err := p.run()
	switch {
	case source.err != nil:
		return facts{}, source.err
	case errors.Is(err, io.ErrClosedPipe): // the daemon has stopped reading
		return facts{}, err
	case err != nil:
		return facts{}, fault.Wrap(fault.Input, err)
	}
	for _, name := range needed {
		if _, ok := p.kinds[name]; !ok {
			p.facts.Absent = append(p.facts.Absent, name)
		}
	}
	_, err = io.Copy(io.Discard, source)
	return p.facts, err
}

func (p *repacker) run() error {
	if err := p.out.WriteHeader(rootHeader()); err != nil {
		return err
	}
	for {
		h, err := p.in.Next()
		if errors.Is(err, io.EOF) {
			return p.out.Close()
		}
		if err != nil {
			return fmt.Errorf("read tar: %w", err)
		}
		if err := p.entry(h); err != nil {
			return fmt.Errorf("tar entry %q: %w", h.Name, err)
		}
	}
}

func (p *repacker) entry(h *tar.Header) error {
	name, err := clean(h.Name)
	if err != nil {
		return err
	}
	if h.Uid < 0 || h.Gid < 0 || h.Uid >= idCount || h.Gid >= idCount {
		return fmt.Errorf("owner %d:%d outside the container's ids", h.Uid, h.Gid)
	}
	if name == "." {
		if h.Typeflag != tar.TypeDir || h.Mode&0o7777 != 0o755 || h.Uid != 0 || h.Gid != 0 {
			return fmt.Errorf("docker keeps no root directory but one of 0:0 with mode 755: %w", engine.ErrUnsupported)
		}
		return nil
	}
	if tree.Replaced(name) {
		return nil
	}
	if err := p.place(name, h.Typeflag); err != nil {
		return err
	}
	out := plain(name, h)
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeDir, tar.TypeSymlink, tar.TypeFifo:
	case tar.TypeLink:
		if out.Linkname, err = clean(h.Linkname); err != nil {
			return err
		}
		target, ok := p.heads[out.Linkname]
		if !ok {
			return fmt.Errorf("hard link to %q, which is no earlier file", h.Linkname)
		}
		// Docker gives the file what the link says.
		out.Mode, out.Uid, out.Gid, out.ModTime, out.PAXRecords = target.Mode, target.Uid, target.Gid, target.ModTime, target.PAXRecords
	case tar.TypeChar, tar.TypeBlock:
		return errors.New("device node")
	default:
		return fmt.Errorf("unknown type %q", h.Typeflag)
	}
	if h.Typeflag != tar.TypeDir {
		p.heads[name] = out
	} else if _, ok := mountPoints[name]; ok {
		p.facts.Points[name] = point{out.Mode, out.Uid, out.Gid}
	}
	if err := p.out.WriteHeader(out); err != nil {
		return err
	}
	_, err = io.Copy(p.out, p.in)
	return err
}

// place checks where an entry lies.
func (p *repacker) place(name string, kind byte) error {
	dir, base := path.Split(name)
	if dir = strings.TrimSuffix(dir, "/"); dir != "" && p.kinds[dir] != tar.TypeDir {
		return fmt.Errorf("%q is no directory of the tar", dir)
	}
	if _, twice := p.kinds[name]; twice {
		return errors.New("is there twice")
	}
	if strings.HasPrefix(base, ".wh.") {
		return fmt.Errorf("docker takes such a name for a deletion: %w", engine.ErrUnsupported)
	}
	if kind != tar.TypeDir && slices.Contains(needed, name) {
		return errors.New("must be a directory")
	}
	p.kinds[name] = kind
	return nil
}

// clean makes a name relative and refuses one that leaves the root.
func clean(name string) (string, error) {
	n := path.Clean("./" + strings.TrimLeft(name, "/"))
	if n == ".." || strings.HasPrefix(n, "../") || slices.Contains(strings.Split(name, "/"), "..") {
		return "", errors.New("leaves the root")
	}
	return n, nil
}

// copy copies what the agent packed of a container, without what every engine
// replaces and as the tree has it. The order stays: it is that of a manifest.
func (f facts) copy(r io.Reader, w io.Writer) error {
	in, out := tar.NewReader(r), tar.NewWriter(w)
	if err := out.WriteHeader(rootHeader()); err != nil {
		return err
	}
	var pending []*tar.Header // absent directories in which nothing was seen yet
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return out.Close()
		}
		if err != nil {
			return fmt.Errorf("read container: %w", err)
		}
		name, err := clean(h.Name)
		if err != nil {
			return fmt.Errorf("read container: entry %q: %w", h.Name, err)
		}
		if name == "." || tree.Replaced(name) {
			continue
		}
		for len(pending) > 0 && !strings.HasPrefix(name, pending[len(pending)-1].Name) {
			pending = pending[:len(pending)-1]
		}
		header := f.header(name, h)
		if h.Typeflag == tar.TypeDir && slices.Contains(f.Absent, name) {
			pending = append(pending, header)
			continue
		}
		for _, dir := range append(pending, header) {
			if err := out.WriteHeader(dir); err != nil {
				return fmt.Errorf("copy %q: %w", dir.Name, err)
			}
		}
		pending = nil
		if _, err := io.Copy(out, in); err != nil {
			return fmt.Errorf("copy %q: %w", name, err)
		}
	}
}

func (f facts) header(name string, h *tar.Header) *tar.Header {
	p := plain(name, h)
	if at, ok := f.Points[name]; ok && h.Typeflag == tar.TypeDir {
		p.Mode, p.Uid, p.Gid = at.Mode, at.UID, at.GID
	}
	return p
}
