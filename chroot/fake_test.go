package chroot

import (
	"archive/tar"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"dbuild/engine"
)

// fakeEngine makes one [fakeContainer] and counts what becomes of it.
type fakeEngine struct {
	engine.Engine
	container *fakeContainer
}

func (e *fakeEngine) Create(_ context.Context, spec engine.Spec) (engine.Container, error) {
	e.container.spec = spec
	return e.container, nil
}

// fakeContainer keeps unpacked files in memory. Of all programs it only knows
// md5sum; other scripts succeed unless fail names a word of them, and are
// recorded in ran.
type fakeContainer struct {
	engine.Container
	fail string // scripts that contain this word exit with 1

	mu     sync.Mutex
	spec   engine.Spec
	files  map[string]fakeFile
	ran    []engine.Step
	lists  []string // standard input of each
	quiet  bool
	config *engine.Config
	closed int
}

type fakeFile struct {
	header  tar.Header
	content string
}

func newFakeEngine() *fakeEngine {
	return &fakeEngine{container: &fakeContainer{files: map[string]fakeFile{}}}
}

func (c *fakeContainer) PutFiles(_ context.Context, r io.Reader, o engine.PutOptions) ([]engine.PutEntry, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(o.Decoder) > 0 {
		return nil, errors.New("the fake has no decoder")
	}
	var entries []engine.PutEntry
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return entries, nil
		}
		if err != nil {
			return nil, err
		}
		content, err := io.ReadAll(t)
		if err != nil {
			return nil, err
		}
		name := cleanName(h.Name)
		if _, there := c.files[name]; !there || h.Typeflag != tar.TypeDir || !o.KeepDirs {
			c.files[name] = fakeFile{*h, string(content)}
		}
		if name == "" {
			name = "."
		}
		entries = append(entries, engine.PutEntry{Name: name, Type: h.Typeflag, Link: h.Linkname,
			Mode: h.Mode, UID: h.Uid, GID: h.Gid, Size: h.Size})
	}
}

func (c *fakeContainer) Run(_ context.Context, s engine.Step) (engine.Exit, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []byte
	if s.Stdin != nil {
		var err error
		if list, err = io.ReadAll(s.Stdin); err != nil {
			return engine.Exit{}, err
		}
	}
	c.ran = append(c.ran, s)
	c.lists = append(c.lists, string(list))
	text := strings.Join(s.Argv, " ")
	if strings.Contains(text, xzCommand[0]) {
		return engine.Exit{Code: 126}, nil
	}
	if c.fail != "" && strings.Contains(text, c.fail) {
		fmt.Fprintf(s.Stdout, "Setting up x ...\nno such tool\ndpkg: error processing package x (--configure):\n exit status 1\nSetting up y ...\n")
		return engine.Exit{Code: 1}, nil
	}
	if strings.Contains(text, "md5sum") {
		for _, name := range strings.Split(string(list), "\x00") {
			fmt.Fprintf(s.Stdout, "%x  %s\n", md5.Sum([]byte(c.files[cleanName(name)].content)), name)
		}
	}
	return engine.Exit{}, nil
}

func (c *fakeContainer) Quiesce(context.Context) error {
	c.quiet = true
	return nil
}

func (c *fakeContainer) Commit(_ context.Context, cfg engine.Config) (engine.Image, error) {
	if !c.quiet {
		return engine.Image{}, engine.ErrNotQuiet
	}
	c.config = &cfg
	return engine.Image{ID: "image", Config: cfg}, nil
}

func (c *fakeContainer) Close(context.Context) error {
	c.closed++
	return nil
}
