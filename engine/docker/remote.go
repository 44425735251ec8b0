package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"

	"dbuild/agent"
	"dbuild/engine"
)

// sight is what is known about the daemon's view of this file system.
type sight int

const (
	unproven sight = iota // the next container tells
	shares                // a container ran the agent from a file of a name that nobody else has
	apart                 // what containers need is sent into volumes
)

func (e *Engine) sight() sight {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.seen
}

func (e *Engine) setSight(s sight) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seen = s
}

// blind tells whether the daemon refused a container because it does not see a
// file that is to be mounted.
func blind(err error, path string) bool {
	return errdefs.IsInvalidArgument(err) || strings.Contains(err.Error(), path)
}

// agentMount is where containers get the agent's program from.
func (e *Engine) agentMount(ctx context.Context) (mount.Mount, error) {
	if e.sight() != apart {
		program, err := e.agentProgram()
		return bind(program, programDir+"/"+agent.Name), err
	}
	e.sending.Lock()
	defer e.sending.Unlock()
	if e.agentVolume == "" {
		volume, err := e.sendAgent(ctx)
		if err != nil {
			return mount.Mount{}, fmt.Errorf("send agent: %w", err)
		}
		e.agentVolume = volume
	}
	return named(e.agentVolume, programDir, true), nil
}

// sendAgent puts the agent's program into a volume, through a container that
// never starts and has nothing else in it.
func (e *Engine) sendAgent(ctx context.Context) (volume string, err error) {
	program, err := e.agentProgram()
	if err != nil {
		return "", err
	}
	data, err := os.ReadFile(program)
	if err != nil {
		return "", err
	}
	if volume, err = e.newVolume(ctx); err != nil {
		return "", err
	}
	empty, err := e.importEmpty(ctx)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, e.discard(context.WithoutCancel(ctx), empty)) }()
	config := plainConfig(e.labels(nil))
	config.Image = empty
	made, err := e.api.ContainerCreate(ctx, client.ContainerCreateOptions{
		Config: config, HostConfig: &api.HostConfig{NetworkMode: "none", Mounts: []mount.Mount{named(volume, "/agent", false)}}, Name: "dbuild-" + newID(),
	})
	if err != nil {
		return "", classify(err)
	}
	defer func() { err = errors.Join(err, e.removeContainer(context.WithoutCancel(ctx), made.ID)) }()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	h := &tar.Header{Typeflag: tar.TypeReg, Name: agent.Name, Mode: 0o555, Size: int64(len(data)), ModTime: time.Unix(0, 0)}
	if err := w.WriteHeader(h); err != nil {
		return "", err
	}
	if _, err := w.Write(data); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	_, err = e.api.CopyToContainer(ctx, made.ID, client.CopyToContainerOptions{DestinationPath: "/agent", Content: &b})
	return volume, classify(err)
}

// tree is a directory of the host that containers see. Where the daemon is
// apart it is kept in a volume, which a container of ours fills.
type hostTree struct {
	dir string

	mu     sync.Mutex
	volume string
	filler *container
	sent   map[string]bool
}

// treeTarget is where the filler has the volume.
const treeTarget = "/tree"

// send brings the volume up to date: files are only ever added. Containers
// that have it mounted see them.
func (t *hostTree) send(ctx context.Context, e *Engine) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.volume == "" {
		volume, err := e.newVolume(ctx)
		if err != nil {
			return "", err
		}
		spec := engine.Spec{Purpose: engine.PurposeDeps, Network: engine.NetworkNone}
		if t.filler, err = e.create(ctx, spec, named(volume, treeTarget, false)); err != nil {
			return "", err
		}
		t.volume, t.sent = volume, map[string]bool{}
	}
	var added []string
	r, w := io.Pipe()
	go func() {
		tw := tar.NewWriter(w)
		err := t.pack(tw, &added)
		if err == nil {
			err = tw.Close()
		}
		_ = w.CloseWithError(err)
	}()
	_, err := t.filler.PutFiles(ctx, r, engine.PutOptions{Dir: treeTarget, KeepDirs: true})
	_ = r.CloseWithError(io.ErrClosedPipe)
	if err != nil {
		return "", err
	}
	for _, name := range added {
		t.sent[name] = true
	}
	return t.volume, nil
}

// pack writes what the volume does not have.
func (t *hostTree) pack(w *tar.Writer, added *[]string) error {
	root, err := os.OpenRoot(t.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || t.sent[name] {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		h := &tar.Header{Name: filepath.ToSlash(name), Mode: int64(info.Mode().Perm()), ModTime: info.ModTime(), Format: tar.FormatPAX}
		switch {
		case d.IsDir():
			h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
		case info.Mode().IsRegular():
			h.Typeflag, h.Size = tar.TypeReg, info.Size()
		case info.Mode()&fs.ModeSymlink != 0:
			h.Typeflag = tar.TypeSymlink
			if h.Linkname, err = root.Readlink(name); err != nil {
				return err
			}
		default:
			return nil
		}
		*added = append(*added, name)
		if err := w.WriteHeader(h); err != nil || h.Typeflag != tar.TypeReg {
			return err
		}
		return copyFile(w, root, name)
	})
}

func copyFile(w io.Writer, root *os.Root, name string) (err error) {
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.Copy(w, f)
	return err
}
