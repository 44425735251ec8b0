package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"golang.org/x/sys/unix"

	"dbuild/engine"
)

// Commit makes an image of the container's root.
func (c *container) Commit(ctx context.Context, cfg engine.Config) (im engine.Image, err error) {
	if err := c.order.Commit(); err != nil {
		return im, fmt.Errorf("commit container %q: %w", c.id, err)
	}
	if c.scratch {
		im, err = c.commitScratch(ctx, cfg)
	} else {
		im, err = c.commit(ctx, imageRecord{Tag: cfg.Tag, Labels: cfg.Labels})
	}
	if err != nil {
		return im, fmt.Errorf("commit container %q: %w", c.id, err)
	}
	return im, nil
}

// Keep ends the container and keeps its writable layer.
func (c *container) Keep(ctx context.Context) (engine.ImageID, error) {
	if err := c.order.Keep(); err != nil {
		return "", fmt.Errorf("keep container: %w", err)
	}
	if err := c.session.Quiesce(ctx); err != nil {
		return "", fmt.Errorf("keep container %q: %w", c.id, c.diagnose(err))
	}
	kept := imageRecord{ID: engine.ImageID(c.id), Kept: true}
	var err error
	if len(c.areas()) == 0 {
		_, err = c.commit(ctx, kept)
	} else {
		err = c.keepAreas(ctx, kept)
	}
	if err != nil {
		return "", fmt.Errorf("keep container %q: %w", c.id, err)
	}
	return kept.ID, nil
}

// keepAreas commits the container, and what its areas hold as another step on
// that.
func (c *container) keepAreas(ctx context.Context, kept imageRecord) (err error) {
	e := c.engine
	below, err := c.commit(ctx, imageRecord{ID: engine.ImageID(newID()), Kept: true, Half: true})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Remove(context.WithoutCancel(ctx), below.ID))
		}
	}()
	filled, err := e.create(ctx, engine.Spec{Image: below.ID, Purpose: engine.PurposeDeps, Network: engine.NetworkNone})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, filled.Close(ctx)) }()
	for _, dir := range c.areas() {
		r, w := io.Pipe()
		go func() { _ = w.CloseWithError(c.session.Pack(ctx, dir, w)) }()
		_, err := filled.session.PutFiles(ctx, r, engine.PutOptions{Dir: dir})
		_ = r.Close()
		if err != nil {
			return err
		}
	}
	_, err = filled.commit(ctx, kept)
	return err
}

// commit makes docker's image, then its record. The image gets a
// configuration of its own, else it would have the container's.
func (c *container) commit(ctx context.Context, r imageRecord) (engine.Image, error) {
	e := c.engine
	labels := map[string]string{}
	for _, inherited := range []map[string]string{c.image.Labels, c.spec.Labels} {
		for key := range inherited {
			labels[key] = ""
		}
	}
	for key, value := range r.Labels {
		labels[key] = value
	}
	labels[labelState], labels[labelOwner] = e.state, e.owner.id
	made, err := e.api.ContainerCommit(ctx, c.docker, client.ContainerCommitOptions{NoPause: true, Config: plainConfig(labels)})
	if err != nil {
		return engine.Image{}, classify(err)
	}
	r.Docker, r.Parent, r.Layers, r.Facts = imageID(made.ID), c.spec.Image, c.image.Layers+1, c.image.Facts
	return e.enter(ctx, r, c.image.Total)
}

// plainConfig is what a person who runs an image of ours by hand expects. It
// names no user, which is root: for one by number, Podman adds to /etc/passwd
// or makes it.
func plainConfig(labels map[string]string) *api.Config {
	return &api.Config{
		Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		Entrypoint: []string{}, Cmd: []string{"/bin/sh"}, WorkingDir: "/", Labels: labels,
	}
}

// enter completes the record of an image that docker has and writes it; on
// error the image is gone.
func (e *Engine) enter(ctx context.Context, r imageRecord, below int64) (_ engine.Image, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, e.discard(context.WithoutCancel(ctx), r.Docker))
		}
	}()
	if r.ID == "" {
		r.ID = engine.ImageID(r.Docker)
	}
	im, err := e.api.ImageInspect(ctx, r.Docker)
	if err != nil {
		return engine.Image{}, classify(err)
	}
	r.V, r.Created, r.Total = recordFormat, time.Now().UTC(), im.Size
	r.Size = max(r.Total-below, 0)
	if err := e.sync(); err != nil {
		return engine.Image{}, err
	}
	if err := e.writeRecord(r); err != nil {
		return engine.Image{}, err
	}
	if err := e.tag(ctx, r); err != nil { // decoration
		e.report.Warn("image %.19s gets no name: %v", r.Docker, err)
	}
	return r.image(), nil
}

// sync writes the daemon's store to disk, since the daemon itself does not
// before it calls an image complete. Only a store on this machine can be.
func (e *Engine) sync() error {
	if e.sight() == apart {
		return nil
	}
	f, err := os.Open(e.info.DockerRootDir)
	if err != nil {
		return nil //nolint:nilerr // not ours to see
	}
	return errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
}

// commitScratch imports the container's tree as an image of one layer: a
// commit would lack what lies below the mounts.
func (c *container) commitScratch(ctx context.Context, cfg engine.Config) (im engine.Image, err error) {
	c.mu.Lock()
	known := facts{Points: mergePoints(c.points)}
	c.mu.Unlock()
	err = c.read(ctx, known, func(tree io.Reader) error {
		im, err = c.engine.Import(ctx, tree, cfg)
		return err
	})
	return im, err
}
