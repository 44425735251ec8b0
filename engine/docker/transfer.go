package docker

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/moby/moby/client"

	"dbuild/engine"
	"dbuild/internal/fault"
	"dbuild/internal/tree"
)

// Import stores a tar as an image of one layer. It is checked and written
// anew on its way to the daemon.
func (e *Engine) Import(ctx context.Context, r io.Reader, cfg engine.Config) (engine.Image, error) {
	var known facts
	id, err := e.importTar(ctx, func(w io.Writer) (err error) {
		known, err = repack(r, w)
		return err
	})
	if err != nil {
		return engine.Image{}, fmt.Errorf("import image: %w", err)
	}
	im, err := e.enter(ctx, imageRecord{Docker: id, Layers: 1, Facts: known, Tag: cfg.Tag, Labels: cfg.Labels}, 0)
	if err != nil {
		return engine.Image{}, fmt.Errorf("import image: %w", err)
	}
	return im, nil
}

// importEmpty makes an image with nothing in it.
func (e *Engine) importEmpty(ctx context.Context) (string, error) {
	return e.importTar(ctx, func(w io.Writer) error {
		t := tar.NewWriter(w)
		return errors.Join(t.WriteHeader(rootHeader()), t.Close())
	})
}

// importTar gives the daemon the tar that write writes and returns the id of
// the image. An error of write ends the request before its end, upon which the
// daemon drops what it has.
func (e *Engine) importTar(ctx context.Context, write func(io.Writer) error) (string, error) {
	if e.kind == KindPodman {
		return e.importSpooled(ctx, write)
	}
	reader, writer := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := write(writer)
		_ = writer.CloseWithError(err)
		written <- err
	}()
	id, err := e.importStream(ctx, reader)
	_ = reader.Close() // ends the writer if the daemon has stopped reading
	werr := <-written
	switch {
	case werr == nil || errors.Is(werr, io.ErrClosedPipe) && err != nil:
		return id, err
	case id != "":
		werr = errors.Join(werr, e.discard(context.WithoutCancel(ctx), id))
	}
	return "", werr
}

func (e *Engine) importStream(ctx context.Context, r io.Reader) (id string, err error) {
	result, err := e.api.ImageImport(ctx, client.ImageImportSource{Source: r, SourceName: "-"}, "", client.ImageImportOptions{
		Message: "dbuild",
		// Podman takes two labels on one line for one.
		Changes: []string{"LABEL " + labelState + "=" + e.state, "LABEL " + labelOwner + "=" + e.owner.id, `CMD ["/bin/sh"]`},
	})
	if err != nil {
		return "", classify(err)
	}
	defer func() { err = errors.Join(err, result.Close()) }()
	for d := json.NewDecoder(result); ; {
		var m struct{ Status, Error string }
		if err := d.Decode(&m); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return "", fault.Wrap(fault.Engine, fmt.Errorf("read the daemon's answer: %w", err))
		}
		if m.Error != "" {
			return "", fault.New(fault.Engine, "docker import: %s", m.Error)
		}
		id = m.Status
	}
	if _, ok := recordName(engine.ImageID(id)); !ok {
		return "", fault.New(fault.Engine, "docker import: no image id in %q", id)
	}
	return id, nil
}

// read gives fn the tree of a container as a tar, in manifest order. The agent
// packs it: what the daemon exports depends on how its storage driver counts
// links.
func (c *container) read(ctx context.Context, known facts, fn func(io.Reader) error) error {
	packed, packer := io.Pipe()
	seen, copier := io.Pipe()
	var done sync.WaitGroup
	done.Go(func() { _ = packer.CloseWithError(c.session.Pack(ctx, "/", packer)) })
	done.Go(func() {
		err := known.copy(packed, copier)
		_ = packed.CloseWithError(err)
		_ = copier.CloseWithError(err)
	})
	err := fn(seen)
	_ = seen.Close()
	done.Wait()
	return err
}

// readImage is read for an image: its files are read anew, in a container in
// which nothing but the agent runs.
func (e *Engine) readImage(ctx context.Context, id engine.ImageID, fn func(io.Reader) error) (err error) {
	c, err := e.create(ctx, engine.Spec{Image: id, Purpose: engine.PurposeDeps, Network: engine.NetworkNone})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close(ctx)) }()
	return c.read(ctx, c.image.Facts, fn)
}

// Manifest lists an image's merged tree, with hashes; for the cache.
func (e *Engine) Manifest(ctx context.Context, id engine.ImageID) (m tree.Manifest, err error) {
	err = e.readImage(ctx, id, func(r io.Reader) error {
		m, err = tree.ReadTar(ctx, r)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read image %q: %w", id, err)
	}
	return m, nil
}

// Digest reads every byte of the image's merged tree again.
func (e *Engine) Digest(ctx context.Context, id engine.ImageID) (tree.Digest, error) {
	m, err := e.Manifest(ctx, id)
	if err != nil {
		return "", err
	}
	return m.Digest(), nil
}

// Export writes the image's merged tree as canonical tar. It needs room for
// one copy of it beside the records.
func (e *Engine) Export(ctx context.Context, id engine.ImageID, w io.Writer) (err error) {
	copied, err := os.CreateTemp(e.dir, ".export-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, copied.Close()) }()
	if err := os.Remove(copied.Name()); err != nil {
		return err
	}
	var m tree.Manifest
	err = e.readImage(ctx, id, func(r io.Reader) error {
		m, err = tree.ReadTar(ctx, io.TeeReader(r, copied))
		if err == nil {
			_, err = io.Copy(copied, r) // the end of the archive, which ReadTar need not see
		}
		return err
	})
	if err == nil {
		_, err = copied.Seek(0, io.SeekStart)
	}
	if err == nil {
		err = tree.CopyTar(ctx, w, m, copied, tree.TarOptions{})
	}
	if err != nil {
		return fmt.Errorf("export image %q: %w", id, err)
	}
	return nil
}
