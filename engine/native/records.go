package native

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dbuild/engine"
	"dbuild/internal/atomicfile"
	"dbuild/internal/fault"
)

// imageRecord is the file records/ID.json. It is the last thing written of an
// image and the first one removed.
type imageRecord struct {
	V       int               `json:"v"`
	ID      engine.ImageID    `json:"id"`
	Parent  engine.ImageID    `json:"parent,omitempty"`
	Layers  int               `json:"layers"`
	Size    int64             `json:"size"`
	Created time.Time         `json:"created"`
	Kept    bool              `json:"kept,omitempty"` // the writable layer of a container
	Tag     string            `json:"tag,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
}

func (r imageRecord) image() engine.Image {
	return engine.Image{
		ID: r.ID, Parent: r.Parent, Layers: r.Layers, Size: r.Size, Created: r.Created,
		Config: engine.Config{Tag: r.Tag, Labels: r.Labels},
	}
}

func (e *Engine) recordPath(id engine.ImageID) string {
	return filepath.Join(e.dir, "records", string(id)+".json")
}

func (e *Engine) layerDir(id engine.ImageID) string {
	return filepath.Join(e.dir, "layers", string(id))
}

func (e *Engine) readRecord(id engine.ImageID) (imageRecord, error) {
	var r imageRecord
	if !validID(string(id)) {
		return r, fmt.Errorf("image %q: %w", id, engine.ErrNotFound)
	}
	b, err := os.ReadFile(e.recordPath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return r, fmt.Errorf("image %q: %w", id, engine.ErrNotFound)
	}
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil || r.ID != id || r.V != storeFormat {
		return r, fault.New(fault.Engine, "read image record %q: %w", id, errors.Join(err, engine.ErrDamaged))
	}
	return r, nil
}

func (e *Engine) writeRecord(r imageRecord) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return atomicfile.Write(e.recordPath(r.ID), b, 0o600)
}

// records returns all images in order of creation; those that vanish meanwhile
// are left out, and so are those whose record is damaged: the rest is not to
// suffer from it.
func (e *Engine) records() ([]imageRecord, error) {
	entries, err := os.ReadDir(filepath.Join(e.dir, "records"))
	if err != nil {
		return nil, err
	}
	var all []imageRecord
	for _, entry := range entries {
		id, ok := strings.CutSuffix(entry.Name(), ".json")
		if !ok || !validID(id) {
			continue
		}
		r, err := e.readRecord(engine.ImageID(id))
		if errors.Is(err, engine.ErrNotFound) {
			continue
		}
		if errors.Is(err, engine.ErrDamaged) {
			e.report.Warn("%v", err)
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b imageRecord) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	return all, nil
}

// chain returns the image and its ancestors, topmost first.
func (e *Engine) chain(id engine.ImageID) ([]imageRecord, error) {
	var chain []imageRecord
	for id != "" {
		r, err := e.readRecord(id)
		if err != nil {
			return nil, err
		}
		chain = append(chain, r)
		if len(chain) > r.Layers && len(chain) > chain[0].Layers {
			return nil, fault.New(fault.Engine, "image %q has an endless chain: %w", id, engine.ErrDamaged)
		}
		id = r.Parent
	}
	return chain, nil
}

// Image returns one image; a kept container counts.
func (e *Engine) Image(_ context.Context, id engine.ImageID) (engine.Image, error) {
	r, err := e.readRecord(id)
	return r.image(), err
}

// Images returns all images in order of creation, without kept containers.
func (e *Engine) Images(context.Context) ([]engine.Image, error) {
	all, err := e.records()
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var images []engine.Image
	for _, r := range all {
		if !r.Kept {
			images = append(images, r.image())
		}
	}
	return images, nil
}

// Tag changes the decoration only.
func (e *Engine) Tag(_ context.Context, id engine.ImageID, tag string) error {
	used, err := e.use(id)
	if err != nil {
		return err
	}
	r, err := e.readRecord(id)
	if err == nil {
		r.Tag = tag
		err = e.writeRecord(r)
	}
	return errors.Join(err, used.Close())
}

// Remove deletes an image or a kept container.
func (e *Engine) Remove(ctx context.Context, id engine.ImageID) error {
	if _, err := e.readRecord(id); err != nil && !errors.Is(err, engine.ErrDamaged) {
		return err
	}
	dir, err := lockDir(e.layerDir(id), unix.LOCK_EX)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("remove image %q: %w", id, engine.ErrInUse)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove image %q: %w", id, err)
	}
	if dir != nil {
		defer dir.Close()
	}
	all, err := e.records()
	if err != nil {
		return fmt.Errorf("remove image %q: %w", id, err)
	}
	for _, r := range all {
		if r.Parent == id {
			return fmt.Errorf("remove image %q: %w by image %q", id, engine.ErrInUse, r.ID)
		}
	}
	if err := os.Remove(e.recordPath(id)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("image %q: %w", id, engine.ErrNotFound)
		}
		return err
	}
	// From here on it is a leftover, which Reap would remove too.
	return removeTree(e.layerDir(id))
}

// use holds an image: it cannot be removed until the file is closed.
func (e *Engine) use(id engine.ImageID) (*os.File, error) {
	if _, err := e.readRecord(id); err != nil {
		return nil, err
	}
	dir, err := lockDir(e.layerDir(id), unix.LOCK_SH)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK), errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("image %q: %w", id, engine.ErrNotFound) // being removed
	case err != nil:
		return nil, fmt.Errorf("use image %q: %w", id, err)
	}
	if _, err := e.readRecord(id); err != nil { // removed while we locked it
		return nil, errors.Join(err, dir.Close())
	}
	return dir, nil
}

// lockDir opens a directory and locks it without waiting; unix.EWOULDBLOCK if
// another holds it.
func lockDir(path string, how int) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	if err := unix.Flock(fd, how|unix.LOCK_NB); err != nil {
		return nil, errors.Join(&fs.PathError{Op: "lock", Path: path, Err: err}, f.Close())
	}
	return f, nil
}
