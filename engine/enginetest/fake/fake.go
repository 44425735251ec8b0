// Package fake is an engine in memory, for tests of what stands on engines:
// images, containers and files behave as the contract says, while a step calls
// a Go function. It needs no root and no kernel feature and passes
// [enginetest.RunStore]. It isolates nothing.
package fake

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"dbuild/engine"
	"dbuild/internal/fault"
	"dbuild/internal/tree"
)

// Program stands for a program in a container. It returns the exit code. It
// should end soon after ctx does.
type Program func(ctx context.Context, p *Process) int

// Process is what a Program sees.
type Process struct {
	engine.Step
	Spec  engine.Spec
	Files *Files
	Trees map[string]string // host directory of each mounted tree by its target
	Out   io.Writer         // Step.Stdout, never nil
	Err   io.Writer         // Step.Stderr or Out, never nil
}

// Options configure [New].
type Options struct {
	Arch string // Debian architecture; "" is "amd64"
	// Programs by name: the whole of argv[0], or its last part. Tool is always
	// there under its path.
	Programs map[string]Program
}

// Engine implements [engine.Engine].
type Engine struct {
	options Options

	mu     sync.Mutex
	last   int
	images map[engine.ImageID]*image
	trees  map[engine.TreeID]string
	using  map[engine.ImageID]int // containers that run from an image
}

var _ engine.Engine = (*Engine)(nil)

type image struct {
	engine.Image
	files *Files
	kept  bool
}

// New returns an empty engine.
func New(o Options) *Engine {
	if o.Arch == "" {
		o.Arch = "amd64"
	}
	return &Engine{
		options: o,
		images:  map[engine.ImageID]*image{},
		trees:   map[engine.TreeID]string{},
		using:   map[engine.ImageID]int{},
	}
}

// newID returns the next id; the caller holds mu.
func (e *Engine) newID() string {
	e.last++
	return fmt.Sprintf("%020x", e.last)
}

// Info says that this is a fake.
func (e *Engine) Info(context.Context) (engine.Info, error) {
	return engine.Info{Kind: "fake", ID: fmt.Sprintf("fake-%p", e), Version: "1", Arch: e.options.Arch}, nil
}

// Import reads the tar into memory.
func (e *Engine) Import(ctx context.Context, tar io.Reader, cfg engine.Config) (engine.Image, error) {
	files := newFiles()
	if _, err := files.unpack(ctx, tar, "", engine.PutOptions{}); err != nil {
		return engine.Image{}, fmt.Errorf("import image: %w", err)
	}
	return e.add("", &image{Image: engine.Image{Config: cfg}, files: files}), nil
}

// add stores an image under a new id, or under the given one.
func (e *Engine) add(id engine.ImageID, im *image) engine.Image {
	e.mu.Lock()
	defer e.mu.Unlock()
	if id == "" {
		id = engine.ImageID(e.newID())
	}
	im.ID, im.Layers, im.Created = id, 1, time.Now()
	if parent := e.images[im.Parent]; parent != nil {
		im.Layers = parent.Layers + 1
	}
	im.Size = im.files.size()
	e.images[id] = im
	return im.Image
}

func (e *Engine) find(id engine.ImageID) (*image, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	im, ok := e.images[id]
	if !ok {
		return nil, fmt.Errorf("image %q: %w", id, engine.ErrNotFound)
	}
	return im, nil
}

// Export writes a tar in canonical order.
func (e *Engine) Export(_ context.Context, id engine.ImageID, w io.Writer) error {
	im, err := e.find(id)
	if err != nil {
		return err
	}
	return im.files.writeTar(w)
}

// Digest is computed by package tree.
func (e *Engine) Digest(_ context.Context, id engine.ImageID) (tree.Digest, error) {
	im, err := e.find(id)
	if err != nil {
		return "", err
	}
	return im.files.manifest().Digest(), nil
}

// Image returns one image.
func (e *Engine) Image(_ context.Context, id engine.ImageID) (engine.Image, error) {
	im, err := e.find(id)
	if err != nil {
		return engine.Image{}, err
	}
	return im.Image, nil
}

// Images returns all images but kept containers, oldest first.
func (e *Engine) Images(context.Context) ([]engine.Image, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []engine.Image
	for _, im := range e.images {
		if !im.kept {
			all = append(all, im.Image)
		}
	}
	slices.SortFunc(all, func(a, b engine.Image) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return all, nil
}

// Remove forgets an image.
func (e *Engine) Remove(_ context.Context, id engine.ImageID) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.images[id] == nil {
		return fmt.Errorf("image %q: %w", id, engine.ErrNotFound)
	}
	for _, im := range e.images {
		if im.Parent == id {
			return fmt.Errorf("remove image %q: %w", id, engine.ErrInUse)
		}
	}
	if e.using[id] > 0 {
		return fmt.Errorf("remove image %q: %w", id, engine.ErrInUse)
	}
	delete(e.images, id)
	return nil
}

// Tag changes the decoration.
func (e *Engine) Tag(_ context.Context, id engine.ImageID, tag string) error {
	im, err := e.find(id)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	im.Config.Tag = tag
	return nil
}

// Tree remembers a host directory, which programs find in [Process.Trees].
func (e *Engine) Tree(_ context.Context, name, dir string) (engine.TreeID, error) {
	if st, err := os.Stat(dir); err != nil {
		return "", fmt.Errorf("register tree %q: %w", name, err)
	} else if !st.IsDir() {
		return "", fault.New(fault.Internal, "register tree %q: %q is not a directory", name, dir)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	id := engine.TreeID(name + ":" + dir)
	e.trees[id] = dir
	return id, nil
}

// Create makes a container with a copy of the image's files.
func (e *Engine) Create(ctx context.Context, spec engine.Spec) (engine.Container, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := checkSpec(spec); err != nil {
		return nil, fmt.Errorf("create container: %w", err)
	}
	c := &container{engine: e, spec: spec, files: newFiles(), trees: map[string]string{}}
	e.mu.Lock()
	defer e.mu.Unlock()
	if spec.Image != "" {
		im := e.images[spec.Image]
		if im == nil {
			return nil, fmt.Errorf("create container: image %q: %w", spec.Image, engine.ErrNotFound)
		}
		c.files = im.files.clone()
	}
	for _, m := range spec.Trees {
		dir, ok := e.trees[m.Tree]
		if !ok {
			return nil, fmt.Errorf("create container: tree %q: %w", m.Tree, engine.ErrNotFound)
		}
		c.trees[m.Target] = dir
	}
	c.id = e.newID()
	c.created = c.files.provide(spec)
	if spec.Image != "" {
		e.using[spec.Image]++
	}
	return c, nil
}

func checkSpec(spec engine.Spec) error {
	switch {
	case spec.Purpose != engine.PurposeDeps && spec.Purpose != engine.PurposeBuild && spec.Purpose != engine.PurposeShell:
		return fault.New(fault.Internal, "unknown purpose %q", spec.Purpose)
	case spec.Network != engine.NetworkNone && spec.Network != engine.NetworkHost:
		return fault.New(fault.Internal, "unknown network %q", spec.Network)
	case spec.Image == "" && spec.Purpose != engine.PurposeDeps:
		return fault.New(fault.Internal, "an empty root is for purpose %q only", engine.PurposeDeps)
	}
	for _, l := range []engine.Limit{spec.Limits.PIDs, spec.Limits.Memory, spec.Limits.Disk} {
		if l.Required && l.Value > 0 {
			return fmt.Errorf("limit resources: %w", engine.ErrUnsupported)
		}
	}
	for _, m := range spec.Trees {
		if !path.IsAbs(m.Target) {
			return fault.New(fault.Internal, "mount target %q is not absolute", m.Target)
		}
	}
	return nil
}

// Reap finds nothing: a fake dies with its process.
func (e *Engine) Reap(context.Context) (int, error) { return 0, nil }

// Close does nothing.
func (e *Engine) Close() error { return nil }

// program returns what stands for a command.
func (e *Engine) program(name string) (Program, error) {
	for _, n := range []string{name, path.Base(name)} {
		if p, ok := e.options.Programs[n]; ok {
			return p, nil
		}
	}
	if name == toolPath {
		return Tool, nil
	}
	return nil, fmt.Errorf("find command %q: %w", name, engine.ErrNotFound)
}

// AddImage stores an image with the given files, contents by absolute path,
// for tests that need an image and do not care how it came about.
func (e *Engine) AddImage(files map[string]string, cfg engine.Config) engine.Image {
	f := newFiles()
	for name, content := range files {
		f.Write(name, []byte(content))
	}
	return e.add("", &image{Image: engine.Image{Config: cfg}, files: f})
}

// discard makes a nil writer usable.
func discard(w, otherwise io.Writer) io.Writer {
	if w != nil {
		return w
	}
	return otherwise
}
