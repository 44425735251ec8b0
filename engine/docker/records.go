package docker

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"dbuild/engine"
	"dbuild/internal/atomicfile"
	"dbuild/internal/fault"
)

const recordFormat = 2

// imageRecord is the file records/ID.json. It is the last thing written of an
// image and the last one removed. The id of an image is docker's own, a hash
// over all of it; that of a kept container is the container's.
type imageRecord struct {
	V       int               `json:"v"`
	ID      engine.ImageID    `json:"id"`
	Docker  string            `json:"docker"` // docker's id
	Parent  engine.ImageID    `json:"parent,omitempty"`
	Layers  int               `json:"layers"`
	Size    int64             `json:"size"`
	Total   int64             `json:"total"` // with all parents
	Created time.Time         `json:"created"`
	Kept    bool              `json:"kept,omitempty"`
	Half    bool              `json:"half,omitempty"` // of keepAreas: goes with the one on it
	Facts   facts             `json:"facts"`
	Tag     string            `json:"tag,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
}

func (r imageRecord) image() engine.Image {
	return engine.Image{
		ID: r.ID, Parent: r.Parent, Layers: r.Layers, Size: r.Size, Created: r.Created,
		Config: engine.Config{Tag: r.Tag, Labels: r.Labels},
	}
}

// recordName is the file name for an image; ok is false for what is no id.
func recordName(id engine.ImageID) (name string, ok bool) {
	if sum, found := strings.CutPrefix(string(id), "sha256:"); found {
		_, err := hex.DecodeString(sum)
		return sum + ".json", err == nil && len(sum) == 64
	}
	return string(id) + ".json", validID(string(id))
}

func (e *Engine) recordPath(name string) string { return filepath.Join(e.dir, "records", name) }

func (e *Engine) readRecord(id engine.ImageID) (imageRecord, error) {
	var r imageRecord
	name, ok := recordName(id)
	if !ok {
		return r, fmt.Errorf("image %q: %w", id, engine.ErrNotFound)
	}
	b, err := os.ReadFile(e.recordPath(name))
	if errors.Is(err, fs.ErrNotExist) {
		return r, fmt.Errorf("image %q: %w", id, engine.ErrNotFound)
	}
	if err != nil {
		return r, err
	}
	err = json.Unmarshal(b, &r)
	if err == nil && r.V < recordFormat {
		return r, fmt.Errorf("image %q of an older dbuild: %w", id, engine.ErrNotFound) // Reap removes it
	}
	if err != nil || r.ID != id || r.V != recordFormat || !r.Kept && r.Docker != string(id) {
		return r, fault.New(fault.Engine, "read image record %q: %w", id, errors.Join(err, engine.ErrDamaged))
	}
	return r, nil
}

func (e *Engine) writeRecord(r imageRecord) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	name, _ := recordName(r.ID)
	return atomicfile.Write(e.recordPath(name), b, 0o600)
}

func (e *Engine) removeRecord(id engine.ImageID) error {
	name, _ := recordName(id)
	err := os.Remove(e.recordPath(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// hasRecord reports whether a file is there for an image of docker's, whatever
// it says.
func (e *Engine) hasRecord(docker string) bool {
	name, ok := recordName(engine.ImageID(docker))
	if !ok {
		return false
	}
	_, err := os.Lstat(e.recordPath(name))
	return err == nil
}

// records returns all records in order of creation, without damaged ones.
func (e *Engine) records() ([]imageRecord, error) {
	entries, err := os.ReadDir(filepath.Join(e.dir, "records"))
	if err != nil {
		return nil, err
	}
	var all []imageRecord
	for _, entry := range entries {
		id, ok := strings.CutSuffix(entry.Name(), ".json")
		if !ok {
			continue
		}
		if len(id) == 64 {
			id = "sha256:" + id
		}
		r, err := e.readRecord(engine.ImageID(id))
		if errors.Is(err, engine.ErrNotFound) {
			continue // removed meanwhile
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

// present asks the daemon for the images of this state, with their owners.
func (e *Engine) present(ctx context.Context) (map[string]string, error) {
	list, err := e.api.ImageList(ctx, client.ImageListOptions{All: true, Filters: e.ours()})
	if err != nil {
		return nil, classify(err)
	}
	owners := make(map[string]string, len(list.Items))
	for _, im := range list.Items {
		owners[im.ID] = im.Labels[labelOwner]
	}
	return owners, nil
}

func (e *Engine) ours() client.Filters {
	return client.Filters{}.Add("label", labelState+"="+e.state)
}

// Image returns one image; a kept container counts.
func (e *Engine) Image(ctx context.Context, id engine.ImageID) (engine.Image, error) {
	r, err := e.readRecord(id)
	if err != nil {
		return engine.Image{}, err
	}
	if _, err := e.api.ImageInspect(ctx, r.Docker); err != nil {
		return engine.Image{}, fmt.Errorf("image %q: %w", id, classify(err))
	}
	return r.image(), nil
}

// Images returns all images in order of creation, without kept containers.
func (e *Engine) Images(ctx context.Context) ([]engine.Image, error) {
	all, err := e.records()
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	present, err := e.present(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var images []engine.Image
	for _, r := range all {
		if _, ok := present[r.Docker]; ok && !r.Kept {
			images = append(images, r.image())
		}
	}
	return images, nil
}

// Remove deletes an image or a kept container. Its parents stay.
func (e *Engine) Remove(ctx context.Context, id engine.ImageID) error {
	r, err := e.readRecord(id)
	if errors.Is(err, engine.ErrDamaged) {
		r, err = imageRecord{Docker: string(id)}, nil // what a kept container was goes with Reap
	}
	if err != nil {
		return err
	}
	all, err := e.records()
	if err != nil {
		return fmt.Errorf("remove image %q: %w", id, err)
	}
	for _, other := range all {
		if other.Parent == id {
			return fmt.Errorf("remove image %q: %w by image %q", id, engine.ErrInUse, other.ID)
		}
	}
	err = e.deleteImage(ctx, r.Docker)
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove image %q: %w", id, classify(err))
	}
	missing := err
	if err := e.removeRecord(id); err != nil {
		return fmt.Errorf("remove image %q: %w", id, err)
	}
	if below, err := e.readRecord(r.Parent); err == nil && below.Half {
		return e.Remove(ctx, below.ID)
	}
	return classify(missing)
}

// Tag changes the decoration only.
func (e *Engine) Tag(ctx context.Context, id engine.ImageID, tag string) error {
	r, err := e.readRecord(id)
	if err != nil {
		return err
	}
	old := r.Tag
	r.Tag = tag
	if err := e.tag(ctx, r); err != nil {
		return fmt.Errorf("tag image %q: %w", id, err)
	}
	if old != tag {
		e.untag(ctx, r.Docker, old)
	}
	return e.writeRecord(r)
}

// tag gives an image its name in docker's own list.
func (e *Engine) tag(ctx context.Context, r imageRecord) error {
	if r.Tag == "" {
		return nil
	}
	_, err := e.api.ImageTag(ctx, client.ImageTagOptions{Source: r.Docker, Target: e.reference(r.Tag)})
	return classify(err)
}

// untag drops a name that an image had, unless another one has it by now. It
// is decoration, so failing does not matter.
func (e *Engine) untag(ctx context.Context, docker, tag string) {
	if tag == "" {
		return
	}
	im, err := e.api.ImageInspect(ctx, docker)
	if err == nil && len(im.RepoTags) > 1 && slices.Contains(im.RepoTags, e.reference(tag)) {
		_, _ = e.api.ImageRemove(ctx, e.reference(tag), client.ImageRemoveOptions{})
	}
}

// reference makes a name as docker allows it: "base:bookworm-amd64" becomes
// "dbuild/base:bookworm-amd64".
func reference(tag string) string {
	clean := func(s, more string) string {
		return strings.Trim(strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune(more, r) {
				return r
			}
			return '-'
		}, strings.ToLower(s)), "-.")
	}
	name, version, found := strings.Cut(tag, ":")
	if version = clean(version, "._"); !found || version == "" {
		version = "latest"
	}
	return "dbuild/" + cmp.Or(clean(name, ""), "image") + ":" + version[:min(len(version), 128)]
}

// classify makes an error of the client one of ours.
func classify(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errdefs.IsNotFound(err):
		return fault.Wrap(fault.Engine, fmt.Errorf("%w: %w", engine.ErrNotFound, err))
	case errdefs.IsConflict(err):
		return fault.Wrap(fault.Engine, fmt.Errorf("%w: %w", engine.ErrInUse, err))
	case errdefs.IsNotImplemented(err):
		return fault.Wrap(fault.Engine, fmt.Errorf("%w: %w", engine.ErrUnsupported, err))
	}
	return fault.Wrap(fault.Engine, err)
}
