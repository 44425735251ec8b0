package buildenv

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path"
	"strings"

	"dbuild/archive"
	"dbuild/cache"
	"dbuild/engine"
)

// What apt makes of the archives when it reads and verifies them (its lists and
// the caches of their content) depends on nothing but the base and the archives.
// It is kept from the first run, before anything is installed, for later ones,
// which saves them most of a second. apt looks itself whether the caches fit the
// lists; where they do not, it makes them anew.

const (
	viewCaches = "apt" // directory of the view with the caches, which are large
	listsName  = "lists"
	cacheName  = "cache"
)

// keptLists are the lists of one resolver.
type keptLists struct {
	store *cache.Store
	input string        // what they depend on
	known bool          // they were made by an earlier run
	files []putFile     // then: the lists
	done  chan struct{} // closed when they have been taken out; nil: nobody does
	note  func(format string, args ...any)
}

// findLists takes the lists of an earlier run, and lays the caches into the view.
// Engines that do not bind trees would have to send them, which costs more than
// it saves, and archives that are added to the suite are rarely met twice.
func (b *build) findLists(ctx context.Context, r *resolver) error {
	if _, local := b.Engine.(engine.Sealer); !local || len(b.extra.from) > 0 {
		return nil
	}
	sum, err := r.view.Sum()
	if err != nil {
		return err
	}
	question := []string{"lists 1", b.base.Hash, r.arch, sum}
	for _, st := range r.states {
		question = append(question, st.SHA256)
	}
	text, err := json.Marshal(question)
	if err != nil {
		return err
	}
	input := sha256.Sum256(text)
	r.lists = &keptLists{store: b.Cache, input: hex.EncodeToString(input[:]), note: b.Observer.Note}
	d, ok := b.Cache.Kept(ctx, r.lists.input)
	if !ok {
		return nil
	}
	return r.lists.lay(r.view, d)
}

// lay takes what was kept. The lists have to be where they were made, since the
// caches name them, and have their old times.
func (k *keptLists) lay(v *archive.View, d cache.KeptDir) error {
	top := strings.TrimPrefix(path.Dir(aptLists), "/")
	for name, target := range d.Links {
		k.files = append(k.files, putFile{Name: path.Join(top, name), Link: target})
	}
	caches := map[string]string{}
	for name, sum := range d.Files {
		file := k.store.KeptPath(sum)
		if base, ok := strings.CutPrefix(name, cacheName+"/"); ok {
			caches[base] = file
			continue
		}
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		k.files = append(k.files, putFile{Name: path.Join(top, name), Text: string(text), Mode: 0o644, Time: info.ModTime()})
	}
	k.known = true
	return v.AddFiles(viewCaches, caches)
}

// put are the lists for a container; nil if it has to make them.
func (k *keptLists) put() []putFile {
	if k == nil || !k.known {
		return nil
	}
	return k.files
}

// settings tells apt where the caches are.
func (k *keptLists) settings() string {
	if k == nil || !k.known {
		return ""
	}
	top := path.Join(archive.ViewMount, viewCaches)
	return `Dir::Cache::pkgcache "` + path.Join(top, "pkgcache.bin") + `";
Dir::Cache::srcpkgcache "` + path.Join(top, "srcpkgcache.bin") + `";
`
}

// take begins to take the lists out of a container in which nothing has run but
// apt, to keep them. That it fails costs the next run its time only.
func (k *keptLists) take(ctx context.Context, c engine.Container) {
	if k == nil || k.known || k.done != nil {
		return
	}
	done := make(chan struct{})
	k.done = done
	go func() {
		defer close(done)
		if err := k.copyOut(ctx, c); err != nil {
			k.note("apt's lists are not kept: %v", err)
		}
	}()
}

// wait returns when the container may be changed or closed.
func (k *keptLists) wait() {
	if k != nil && k.done != nil {
		<-k.done
	}
}

func (k *keptLists) copyOut(ctx context.Context, c engine.Container) error {
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := runStep(ctx, c, engine.Step{
			Argv: []string{"tar", "-C", path.Dir(aptLists), "-cf", "-", listsName, cacheName},
			Env:  rootEnv(), Stdout: w,
		})
		_ = w.CloseWithError(err) // nil is the end of the file
		ended <- err
	}()
	d, err := k.read(r)
	_, drained := io.Copy(io.Discard, r) // tar pads what it writes
	_ = r.Close()
	if err = errors.Join(err, drained, <-ended); err != nil {
		return err
	}
	return k.store.Keep(ctx, k.input, d)
}

// read keeps the files of a tar, and returns what it holds.
func (k *keptLists) read(r io.Reader) (cache.KeptDir, error) {
	d := cache.KeptDir{Links: map[string]string{}, Files: map[string]string{}}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return d, nil
		}
		if err != nil {
			return d, err
		}
		name := path.Clean(h.Name)
		switch {
		case h.Typeflag == tar.TypeSymlink && strings.HasPrefix(h.Linkname, archive.ViewMount+"/"):
			d.Links[name] = h.Linkname
		case h.Typeflag == tar.TypeReg && h.Size > 0: // the lock is empty
			if d.Files[name], err = k.store.KeepFile(tr, h.ModTime); err != nil {
				return d, err
			}
		}
	}
}
