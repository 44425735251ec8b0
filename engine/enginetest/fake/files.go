package fake

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"dbuild/engine"
	"dbuild/internal/tree"
)

// Files is a tree of files in memory. Paths are absolute or relative to the
// root. Missing parents are made. Its methods are safe for concurrent use.
type Files struct {
	mu    sync.Mutex
	nodes map[string]*node // by clean relative path; "." is the root
}

// node is a file; several names for one node are hard links.
type node struct {
	tree.Entry // without path and hash
	content    []byte
}

func newFiles() *Files {
	return &Files{nodes: map[string]*node{".": {Entry: tree.Entry{Type: tree.TypeDir, Mode: 0o755}}}}
}

// clone copies everything and keeps hard links together.
func (f *Files) clone() *Files {
	f.mu.Lock()
	defer f.mu.Unlock()
	copies := map[*node]*node{}
	nodes := make(map[string]*node, len(f.nodes))
	for name, n := range f.nodes {
		if copies[n] == nil {
			c := *n
			copies[n] = &c
		}
		nodes[name] = copies[n]
	}
	return &Files{nodes: nodes}
}

func clean(name string) string {
	if c := path.Clean("/" + name)[1:]; c != "" {
		return c
	}
	return "."
}

// resolve follows symlinks, of the last part only if last is set, and returns
// the clean path that name means. The path need not exist.
func (f *Files) resolve(name string, last bool) (string, error) {
	todo := strings.Split(clean(name), "/")
	at := "."
	for hops := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		next := clean(at + "/" + part)
		n := f.nodes[next]
		if n == nil || n.Type != tree.TypeSymlink || len(todo) == 0 && !last {
			at = next
			continue
		}
		if hops++; hops > 40 {
			return "", fmt.Errorf("%q: too many symlinks", name)
		}
		target := strings.Split(strings.TrimPrefix(n.Link, "/"), "/")
		if strings.HasPrefix(n.Link, "/") {
			at = "."
		}
		todo = append(target, todo...)
	}
	return at, nil
}

func (f *Files) lookup(name string, last bool) (*node, error) {
	at, err := f.resolve(name, last)
	if err != nil {
		return nil, err
	}
	n := f.nodes[at]
	if n == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return n, nil
}

// place puts n at a path whose parents are made if needed; what is there is
// replaced.
func (f *Files) place(name string, n *node) error {
	at, err := f.resolve(name, false)
	if err != nil {
		return err
	}
	for dir := path.Dir(at); ; dir = path.Dir(dir) {
		parent := f.nodes[dir]
		if parent != nil && parent.Type != tree.TypeDir {
			return fmt.Errorf("%q is not a directory", dir)
		}
		if parent != nil {
			break
		}
		f.nodes[dir] = &node{Entry: tree.Entry{Type: tree.TypeDir, Mode: 0o755}}
	}
	if old := f.nodes[at]; old != nil && old.Type == tree.TypeDir && n.Type != tree.TypeDir {
		return fmt.Errorf("%q is a directory", at)
	}
	f.nodes[at] = n
	return nil
}

// Read returns the content of a regular file, following symlinks.
func (f *Files) Read(name string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.lookup(name, true)
	if err != nil {
		return nil, err
	}
	if n.Type != tree.TypeFile {
		return nil, fmt.Errorf("%q is not a regular file", name)
	}
	return slices.Clone(n.content), nil
}

// Write writes a regular file, following symlinks; a new one has mode 0644. It
// panics where a directory is in the way: a mistake of the test.
func (f *Files) Write(name string, content []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n, err := f.lookup(name, true); err == nil && n.Type == tree.TypeFile {
		n.content, n.Size, n.MTime = slices.Clone(content), int64(len(content)), time.Now().Unix()
		return
	}
	entry := tree.Entry{Type: tree.TypeFile, Mode: 0o644, Size: int64(len(content)), MTime: time.Now().Unix()}
	if err := f.place(name, &node{Entry: entry, content: slices.Clone(content)}); err != nil {
		panic(err)
	}
}

// Remove removes a name and all below it; a missing one is fine.
func (f *Files) Remove(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, err := f.resolve(name, false)
	if err != nil {
		return
	}
	maps.DeleteFunc(f.nodes, func(p string, _ *node) bool {
		return p != "." && (p == at || strings.HasPrefix(p, at+"/"))
	})
}

// Names returns all paths, sorted as package tree sorts them.
func (f *Files) Names() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.SortedFunc(maps.Keys(f.nodes), tree.Compare)
}

// addNode puts a node without content; an error panics, as in Write.
func (f *Files) addNode(name string, entry tree.Entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.nodes[clean(name)]; n != nil && n.Type == tree.TypeDir && entry.Type == tree.TypeDir {
		return
	}
	if err := f.place(name, &node{Entry: entry}); err != nil {
		panic(err)
	}
}

// size adds up the contents.
func (f *Files) size() int64 {
	var total int64
	seen := map[*node]bool{}
	for _, n := range f.nodes {
		if !seen[n] {
			seen[n] = true
			total += int64(len(n.content))
		}
	}
	return total
}

// manifest describes the tree to package tree.
func (f *Files) manifest() tree.Manifest {
	first := map[*node]string{}
	var m tree.Manifest
	for _, name := range f.Names() {
		n := f.nodes[name]
		e := n.Entry
		e.Path = name
		if e.Type == tree.TypeFile {
			e.SHA256 = sha256.Sum256(n.content)
			if e.HardLink = first[n]; e.HardLink == "" {
				first[n] = name
			}
		}
		m = append(m, e)
	}
	return m
}

// provided are the directories that every container has.
var provided = []string{"dev", "etc", "proc", "run", "sys", "tmp", "var", "var/tmp"}

// provide makes what engines put into a container, and returns the directories
// that were missing.
func (f *Files) provide(spec engine.Spec) []string {
	var created []string
	for _, d := range provided {
		if f.nodes[d] == nil {
			created = append(created, d)
			mode := uint32(0o755)
			if strings.HasSuffix(d, "tmp") {
				mode = 0o1777
			}
			f.addNode(d, tree.Entry{Type: tree.TypeDir, Mode: mode})
		}
	}
	f.Write("etc/hosts", []byte("127.0.0.1\tlocalhost "+spec.Hostname+"\n"))
	f.Write("etc/hostname", []byte(spec.Hostname+"\n"))
	f.Write("etc/resolv.conf", nil)
	return created
}

// dropReplaced removes what engines put into a container.
func (f *Files) dropReplaced(created []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.nodes, func(p string, _ *node) bool { return tree.Replaced(p) })
	for _, d := range slices.Backward(created) {
		empty := true
		for p := range f.nodes {
			empty = empty && !strings.HasPrefix(p, d+"/")
		}
		if empty {
			delete(f.nodes, d)
		}
	}
}
