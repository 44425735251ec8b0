package buildenv

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"dbuild/cache"
	"dbuild/dsc"
)

// reuseInput is all that the result of a build depends on, apart from what a
// package reads from clock and machine. The engine and the limits are not part
// of it.
type reuseInput struct {
	V       int          `json:"v"`
	Tool    string       `json:"tool"`
	Arch    string       `json:"arch"`
	Suite   string       `json:"suite"`
	Source  []cache.File `json:"source"`
	Tree    string       `json:"tree"` // hash of what a source tree is sent as
	Deps    string       `json:"deps"` // key of the resolved set
	Env     []string     `json:"env"`
	Command []string     `json:"command"`
	Options []string     `json:"options"`
}

// inputHash is the name under which the result of this build is remembered. It
// is "" for one whose result depends on more than that: it may use the network.
// tree is the hash of the source tree, "" if the source was not one.
func (b *build) inputHash(tree string) (string, error) {
	if b.req.Network {
		return "", nil
	}
	in := reuseInput{
		V: 1, Tool: b.Version, Arch: b.req.Arch, Suite: b.suite.Name, Tree: tree, Deps: b.res.Deps.Key,
		Env: b.buildEnv(), Command: b.buildpackageCommand(),
		Options: []string{
			fmt.Sprint("source-only-changes ", b.req.SourceOnlyChanges), fmt.Sprint("clean-source ", b.req.CleanSource),
			"key " + b.req.SignKey, "path " + buildRoot, "component " + b.component,
		},
	}
	if tree == "" {
		in.Source = sourceFiles(b.src)
	}
	data, err := json.Marshal(in)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// hashTree hashes a source tree as it would be sent to be packed.
func (b *build) hashTree(ctx context.Context) (string, error) {
	origs, err := b.origs(ctx)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	tw := tar.NewWriter(h)
	if err := b.writeTree(ctx, tw, origs); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func sourceFiles(s *dsc.Source) (files []cache.File) {
	for _, f := range s.AllFiles() {
		files = append(files, cache.File{Name: f.Name, SHA256: f.SHA256})
	}
	return files
}

// reuse takes the result of an earlier, equal build if there is one whose every
// file is still what its signed statement says. Anything that is wrong with it
// is a reason to build.
func (b *build) reuse(ctx context.Context) error {
	if !b.req.Reuse {
		return nil
	}
	tree := ""
	if b.src.Tree != "" {
		var err error
		if tree, err = b.hashTree(ctx); err != nil {
			return ctx.Err() // the build will say what is wrong with it
		}
	}
	input, err := b.inputHash(tree)
	if err != nil || input == "" {
		return err
	}
	id, ok := b.Cache.Reusable(ctx, input)
	if !ok {
		return nil
	}
	src := b.src
	if err := b.takeResults(ctx, id); err == nil {
		b.res.Reused = id
		b.log.Printf("Reused: the result of build %s, whose source, build dependencies and options are equal", id)
		return nil
	} else if !errors.Is(err, os.ErrNotExist) {
		b.Observer.Warn("the result of build %s is not reused: %v", id, err)
	}
	b.src, b.results, b.changes, b.packed, b.reused = src, nil, nil, false, [2][]byte{}
	b.res.Deps.Digest = ""
	return os.RemoveAll(filepath.Join(b.dir, "results"))
}

var buildID = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}$`)

// takeResults links what an earlier build made into this build's directory, and
// verifies it there: the statement's signature, that this run's policy would
// have made it of this source, and each file.
func (b *build) takeResults(ctx context.Context, id string) error {
	if !buildID.MatchString(id) {
		return fmt.Errorf("%q names no build", id)
	}
	from := b.State.Path("builds", id)
	st, err := b.earlierStatement(ctx, id)
	if err != nil {
		return err
	}
	dir := filepath.Join(b.dir, "results")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for _, a := range st.Artifacts {
		r, err := takeResult(from, dir, a)
		if err != nil {
			return err
		}
		b.results = append(b.results, r)
	}
	changes := b.find(b.changesName())
	if changes == nil {
		return fmt.Errorf("it has no %s", b.changesName())
	}
	raw, err := os.ReadFile(changes.Path)
	if err != nil {
		return err
	}
	if b.changes, err = dsc.ReadChanges(raw); err != nil {
		return err
	}
	if b.src.Tree == "" {
		return nil
	}
	packed, err := dsc.Read(ctx, filepath.Join(dir, b.src.ID()+".dsc"), dsc.Options{Now: b.Now()})
	if err != nil {
		return err
	}
	packed.Packaging, packed.Component = b.src.Packaging, b.src.Component
	b.src, b.packed = packed, true
	return nil
}

// earlierStatement reads and verifies what was signed about a build.
func (b *build) earlierStatement(ctx context.Context, id string) (*cache.Statement, error) {
	path := b.State.Path(statementsDir, id+".json")
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	sig, err := os.ReadFile(path + ".asc")
	if err != nil {
		return nil, err
	}
	st, err := b.Cache.VerifyBuild(data, sig)
	if err != nil {
		return nil, err
	}
	if why := b.policy.AcceptsResult(&st); why != "" {
		return nil, errors.New(why)
	}
	if b.src.Tree == "" && fmt.Sprint(st.Source) != fmt.Sprint(sourceFiles(b.src)) {
		return nil, errors.New("it is of another source")
	}
	below, err := b.Cache.Statement(ctx, st.Deps)
	if err != nil {
		return nil, err
	}
	if key := cache.DepsKey(below.Packages, below.Recipe); key != b.res.Deps.Key {
		return nil, fmt.Errorf("it was built with the packages %s", key)
	}
	b.res.Deps.Digest, b.res.Deps.Packages = string(below.Tree), len(added(b.baseSet, below.Packages))
	b.reused = [2][]byte{data, sig}
	return &st, nil
}

// takeResult links or copies one file, which is among the results or, if
// dbuild packed the source, beside them.
func takeResult(from, dir string, a cache.File) (result, error) {
	if a.Name != filepath.Base(a.Name) || strings.HasPrefix(a.Name, ".") {
		return result{}, fmt.Errorf("file name %q", a.Name)
	}
	path := filepath.Join(dir, a.Name)
	err := os.Link(filepath.Join(from, "results", a.Name), path)
	if errors.Is(err, os.ErrNotExist) {
		err = os.Link(filepath.Join(from, "source", a.Name), path)
	}
	if err != nil {
		return result{}, err
	}
	r, err := readResult(dir, a.Name)
	if err == nil && r.SHA256 != a.SHA256 {
		err = fmt.Errorf("%q is not what was signed", a.Name)
	}
	return r, err
}

// remember makes the result of this build one that equal builds may take.
func (b *build) remember(ctx context.Context) error {
	if b.packed && b.treeHash == "" {
		return nil
	}
	input, err := b.inputHash(b.treeHash)
	if err != nil || input == "" {
		return err
	}
	return b.Cache.PutReusable(ctx, input, b.id)
}
