// Package registry keeps images with their statements in an OCI registry. What
// it pushes is an artifact: a manifest whose configuration is the statements and
// whose layers are the trees that they speak of, each titled by its name.
// Nothing that comes from a registry is believed here; blobs only have to be
// those that the manifest names.
package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"dbuild/internal/fault"
)

// statementsType is the media type of the configuration.
const statementsType types.MediaType = "application/vnd.dbuild.statements.v1+json"

const (
	title         = "org.opencontainers.image.title"
	maxStatements = 64 << 20
	maxTrees      = 8
)

// Options say how a registry is spoken to. Who the user is comes from the
// configuration of docker or podman.
type Options struct {
	Insecure bool // plain HTTP is good enough, also beyond this machine
}

// Tree is a compressed tree in a file.
type Tree struct {
	Name string
	File *os.File // read from its beginning
}

// parse reads a reference; a name without a registry is refused, where docker
// would take its own hub.
func parse(ref string) (name.Reference, error) {
	host, _, ok := strings.Cut(ref, "/")
	if !ok || !strings.ContainsAny(host, ".:") && host != "localhost" {
		return nil, fault.WithHint(fault.New(fault.Usage, "%q names no registry", ref), "for example registry.example.org/dbuild/bookworm:latest")
	}
	r, err := name.ParseReference(ref)
	if err != nil {
		return nil, fault.New(fault.Usage, "%w", err)
	}
	return r, nil
}

func (o Options) remote(ctx context.Context, ref name.Reference) ([]remote.Option, name.Reference, error) {
	if o.Insecure {
		var err error
		if ref, err = name.ParseReference(ref.String(), name.Insecure); err != nil {
			return nil, nil, err
		}
	}
	return []remote.Option{
		remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain), remote.WithUserAgent("dbuild"),
		remote.WithTransport(&guard{remote.DefaultTransport, o.Insecure}),
	}, ref, nil
}

// guard keeps plain HTTP on this machine, whatever a redirect or the library
// says of private networks.
type guard struct {
	next     http.RoundTripper
	insecure bool
}

var errPlain = fault.WithHint(fault.New(fault.Trust, "the registry is to be spoken to in plain HTTP"), "--insecure allows it")

func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	host := r.URL.Hostname()
	if r.URL.Scheme != "https" && !g.insecure && host != "localhost" && !net.ParseIP(host).IsLoopback() {
		return nil, errPlain
	}
	return g.next.RoundTrip(r)
}

// Push stores statements and trees under ref and returns the digest of the
// manifest. Trees that the registry has are not sent again.
func Push(ctx context.Context, ref string, statements []byte, trees []Tree, o Options) (digest string, err error) {
	named, err := parse(ref)
	if err != nil {
		return "", err
	}
	options, named, err := o.remote(ctx, named)
	if err != nil {
		return "", err
	}
	a := &artifact{statements: statements, layers: map[v1.Hash]*layer{}}
	if err := a.build(trees); err != nil {
		return "", fmt.Errorf("push %q: %w", ref, err)
	}
	image, err := partial.CompressedToImage(a)
	if err != nil {
		return "", err
	}
	if err := remote.Write(named, image, options...); err != nil {
		return "", classify(fmt.Errorf("push %q: %w", ref, err))
	}
	return a.digest, nil
}

// artifact is what is pushed.
type artifact struct {
	statements []byte
	manifest   []byte
	digest     string
	layers     map[v1.Hash]*layer
}

// build makes the manifest, for which each tree is read once.
func (a *artifact) build(trees []Tree) error {
	config, size, err := v1.SHA256(strings.NewReader(string(a.statements)))
	if err != nil {
		return err
	}
	m := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: v1.Descriptor{MediaType: statementsType, Size: size, Digest: config}}
	for _, t := range trees {
		if _, err := t.File.Seek(0, io.SeekStart); err != nil {
			return err
		}
		hash, size, err := v1.SHA256(t.File)
		if err != nil {
			return err
		}
		d := v1.Descriptor{MediaType: types.OCILayerZStd, Size: size, Digest: hash, Annotations: map[string]string{title: t.Name}}
		m.Layers = append(m.Layers, d)
		a.layers[hash] = &layer{d, t.File}
	}
	if a.manifest, err = json.Marshal(m); err != nil {
		return err
	}
	sum := sha256.Sum256(a.manifest)
	a.digest = "sha256:" + hex.EncodeToString(sum[:])
	return nil
}

func (a *artifact) RawConfigFile() ([]byte, error)      { return a.statements, nil }
func (a *artifact) RawManifest() ([]byte, error)        { return a.manifest, nil }
func (a *artifact) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

func (a *artifact) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	if l, ok := a.layers[h]; ok {
		return l, nil
	}
	return nil, fmt.Errorf("no layer %s", h)
}

type layer struct {
	d v1.Descriptor
	f *os.File
}

func (l *layer) Digest() (v1.Hash, error)            { return l.d.Digest, nil }
func (l *layer) Size() (int64, error)                { return l.d.Size, nil }
func (l *layer) MediaType() (types.MediaType, error) { return l.d.MediaType, nil }
func (l *layer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(l.f, 0, l.d.Size)), nil
}

// Remote is an image in a registry.
type Remote struct {
	Statements []byte
	Digest     string // of the manifest
	trees      map[string]v1.Layer
}

// Find asks for the manifest and the statements under ref.
func Find(ctx context.Context, ref string, o Options) (*Remote, error) {
	named, err := parse(ref)
	if err != nil {
		return nil, err
	}
	options, named, err := o.remote(ctx, named)
	if err != nil {
		return nil, err
	}
	r, err := find(named, options)
	if err != nil {
		return nil, classify(fmt.Errorf("pull %q: %w", ref, err))
	}
	return r, nil
}

func find(ref name.Reference, options []remote.Option) (*Remote, error) {
	image, err := remote.Image(ref, options...)
	if err != nil {
		return nil, err
	}
	m, err := image.Manifest()
	if err != nil {
		return nil, err
	}
	if m.Config.MediaType != statementsType || m.Config.Size > maxStatements || len(m.Layers) > maxTrees {
		return nil, fault.New(fault.Input, "it is none that dbuild images push wrote")
	}
	digest, err := image.Digest()
	if err != nil {
		return nil, err
	}
	r := &Remote{Digest: digest.String(), trees: map[string]v1.Layer{}}
	if r.Statements, err = image.RawConfigFile(); err != nil {
		return nil, err
	}
	for _, d := range m.Layers {
		if r.trees[d.Annotations[title]], err = image.LayerByDigest(d.Digest); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Fetch downloads the tree of this name to an unnamed file in dir. The caller
// closes it.
func (r *Remote) Fetch(name, dir string) (f *os.File, err error) {
	l, ok := r.trees[name]
	if !ok {
		return nil, fault.New(fault.Input, "tree %q is missing", name)
	}
	if f, err = os.CreateTemp(dir, ".pull-*.tmp"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if err := os.Remove(f.Name()); err != nil {
		return f, err
	}
	content, err := l.Compressed()
	if err != nil {
		return f, classify(err)
	}
	n, err := io.Copy(f, content)
	if err := errors.Join(err, content.Close()); err != nil {
		err = fmt.Errorf("fetch tree %q: %w", name, err)
		if size, e := l.Size(); e == nil && n == size { // all of it, so it is another
			return f, fault.Wrap(fault.Trust, err)
		}
		return f, classify(err)
	}
	return f, nil
}

// classify gives an error of the library its class.
func classify(err error) error {
	var t *transport.Error
	switch {
	case errors.As(err, &t) && t.StatusCode == http.StatusNotFound:
		return fault.Wrap(fault.Usage, err)
	case fault.ClassOf(err) != fault.Internal:
		return err
	}
	return fault.Wrap(fault.Network, err)
}
