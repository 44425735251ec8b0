package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"dbuild/engine"
	"dbuild/internal/atomicfile"
	"dbuild/internal/fault"
	"dbuild/internal/tree"
)

// Manifester is an optional power of engines that do not seal: the complete
// merged manifest of an image in one go, with what engines replace, contents
// hashed again. Others are asked for Digest and Export.
type Manifester interface {
	Manifest(ctx context.Context, id engine.ImageID) (tree.Manifest, error)
}

// AddBase puts a new base image in force: it is sealed and hashed, scanned for
// what no image may hold (an error of class trust), stated, signed and listed.
// st carries what the caller knows; see [Statement]. On error the image is not
// in force, and the caller removes it. The caller closes the entry.
func (s *Store) AddBase(ctx context.Context, img engine.Image, st Statement) (*Entry, error) {
	st.Kind, st.Parent, st.Tree, st.Created = KindBase, "", "", s.o.Now()
	return s.add(ctx, nil, img, st)
}

// AddDeps is [Store.AddBase] for an image that was committed on parent, whose
// files must have been checked. Suite, architecture, archive and the like are
// the parent's unless st says otherwise; switches are added to the parent's.
func (s *Store) AddDeps(ctx context.Context, parent *Entry, img engine.Image, st Statement) (*Entry, error) {
	from := &parent.Statement
	st.Kind, st.Parent, st.Tree, st.Created = KindDeps, parent.Hash, "", s.o.Now()
	st.Suite, st.Arch, st.HostArch, st.Variant, st.Recipe = from.Suite, from.Arch, from.HostArch, from.Variant, from.Recipe
	if st.Components == nil {
		st.Components = from.Components
	}
	if st.Archive == nil {
		st.Archive = from.Archive
	}
	st.Switches = union(from.Switches, st.Switches)
	return s.add(ctx, parent, img, st)
}

// add puts an image in force. Parent is what it was committed on, nil for an
// image that has all its layers to itself. If st names a tree, it must be that.
func (s *Store) add(ctx context.Context, parent *Entry, img engine.Image, st Statement) (*Entry, error) {
	sealed, err := s.examine(ctx, parent, img)
	if err != nil {
		return nil, fmt.Errorf("add %s image: %w", st.Kind, err)
	}
	problems, setid := tree.Scan(sealed.manifest)
	if len(problems) > 0 {
		return nil, fault.New(fault.Trust, "add %s image: the tree is not fit for use: %s", st.Kind, strings.Join(problems, "; "))
	}
	if st.Tree != "" && st.Tree != sealed.digest {
		return nil, fault.New(fault.Trust, "add %s image: its tree is %s, signed was %s", st.Kind, sealed.digest, st.Tree)
	}
	st.V, st.EngineFormat, st.Created, st.Signer = Version, EngineFormat, whole(st.Created), s.key.Fingerprint()
	for i, path := range setid {
		setid[i] = strings.ToValidUTF8(path, "\uFFFD") // JSON has no other
	}
	st.Tree, st.SetID, st.Packages, st.Switches = sealed.digest, setid, Sort(st.Packages), union(st.Switches, nil)
	if st.Tool == "" {
		st.Tool = s.o.Tool
	}
	st.Engine = Stored{Kind: s.info.Kind, ID: s.info.ID, Image: string(img.ID)}
	if sealed.seal != nil {
		st.Engine.Seal = hashOf(sealed.seal)
		if err := atomicfile.Write(s.sealPath(st.Engine.Seal), sealed.seal, 0o600); err != nil {
			return nil, fmt.Errorf("add %s image: %w", st.Kind, err)
		}
	}
	e, err := s.enforce(ctx, st)
	if err != nil {
		return nil, fmt.Errorf("add %s image: %w", st.Kind, err)
	}
	s.memo.setVerified(ctx, e.Hash, s.o.BootID)
	if st.Kind == KindDeps {
		s.keepSketch(ctx, e.Hash, st.Packages)
	}
	if err := e.Touch(ctx); err != nil {
		s.report.Note("time of last use is not kept: %v", err)
	}
	return e, nil
}

// enforce writes and lists a complete statement, and opens it.
func (s *Store) enforce(ctx context.Context, st Statement) (e *Entry, err error) {
	l, err := s.lockHead(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Unlock()) }()
	h, err := s.readHead(ctx)
	if err != nil {
		return nil, err
	}
	st.Seq = h.Seq + 1
	hash, err := s.writeStatement(st)
	if err != nil {
		return nil, err
	}
	h.Entries = append(h.Entries, headEntry{Statement: hash, Kind: st.Kind, Key: st.key(), Engine: s.engineName(), Parent: st.Parent})
	if e, err = s.load(h.numbered(st.Seq), hash); err != nil {
		return nil, err
	}
	if err := e.open(ctx); err != nil {
		return nil, err
	}
	if err := s.writeHead(ctx, h); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// numbered is h as it will be once it is written.
func (h *head) numbered(seq int64) *head {
	next := *h
	next.Seq = seq
	return &next
}

// examined is what an engine tells of a new image.
type examined struct {
	digest   tree.Digest
	manifest tree.Manifest
	seal     []byte // nil: the engine does not seal
}

// examine asks for digest, manifest and seal in the cheapest way there is.
func (s *Store) examine(ctx context.Context, parent *Entry, img engine.Image) (x examined, err error) {
	if sealer, ok := s.eng.(engine.Sealer); ok {
		var below []byte
		if parent != nil {
			if below, err = s.readSeal(parent); err != nil {
				return x, err
			}
		}
		if x.digest, x.seal, err = sealer.Seal(ctx, img.ID, below); err != nil {
			return x, err
		}
		stack, err := tree.UnmarshalStack(x.seal)
		if err != nil {
			return x, err
		}
		x.manifest = stack.Manifest()
		return x, nil
	}
	if m, ok := s.eng.(Manifester); ok {
		if x.manifest, err = m.Manifest(ctx, img.ID); err != nil {
			return x, err
		}
		x.digest = x.manifest.Digest()
		return x, nil
	}
	x.manifest, err = s.export(ctx, img.ID)
	x.digest = x.manifest.Digest()
	return x, err
}

// export reads the manifest out of the image's tar.
func (s *Store) export(ctx context.Context, id engine.ImageID) (m tree.Manifest, err error) {
	r, w := io.Pipe()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		err := s.eng.Export(ctx, id, w)
		// Never fails.
		_ = w.CloseWithError(err)
		return err
	})
	g.Go(func() (err error) {
		m, err = tree.ReadTar(ctx, r)
		if err == nil {
			// What follows the end of the tar is padding.
			_, err = io.Copy(io.Discard, r)
		}
		_ = r.CloseWithError(err)
		return err
	})
	return m, g.Wait()
}

// readSeal returns the seal that the entry's statement names.
func (s *Store) readSeal(e *Entry) ([]byte, error) {
	hash := e.Statement.Engine.Seal
	if !isHash(hash) {
		return nil, trust(s.statementPath(e.Hash), errors.New("it names no seal"))
	}
	path := s.sealPath(hash)
	data, err := readBounded(path, maxSeal)
	if err != nil {
		return nil, trust(path, err)
	}
	if got := hashOf(data); got != hash {
		return nil, trust(path, fmt.Errorf("its content has SHA-256 %s, the statement %q says otherwise", got, filepath.Base(s.statementPath(e.Hash))))
	}
	return data, nil
}

const maxSeal = 1 << 30

// union returns the sorted elements of both lists.
func union(a, b []string) []string {
	return sortedSet(append(append([]string{}, a...), b...))
}
