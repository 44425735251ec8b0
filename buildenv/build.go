package buildenv

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"runtime"
	"strconv"
	"strings"
	"time"

	"dbuild/chroot"
	"dbuild/dsc"
	"dbuild/engine"
	"dbuild/internal/cleanup"
	"dbuild/internal/fault"
)

// buildRoot is where sources are unpacked, as on Debian's builders.
const buildRoot = "/build/reproducible-path"

// build is stage 5: the source package is unpacked and built by an ordinary
// user in a container that nothing else ever runs in.
func (b *build) build(ctx context.Context) error {
	b.log.Section("Build", b.Now())
	if b.src.Tree != "" {
		if err := b.pack(ctx); err != nil {
			return err
		}
	}
	start := time.Now()
	took := time.Duration(0)
	checked := make(chan error, 1) // beside start and unpacking
	go func() {
		err := b.checkImage(b.res.Deps.Hit, b.depsCheck)
		took = time.Since(start)
		checked <- err
	}()
	c, err := b.Engine.Create(ctx, b.spec(b.deps.Image.ID, engine.PurposeBuild))
	if err != nil {
		return errors.Join(EngineError(ctx, fmt.Errorf("create build container: %w", err)), <-checked)
	}
	b.atEnd(c.Close)
	b.container = c
	err = b.putSource(ctx, c)
	if err == nil {
		b.timed(TimingContainer, start)
		err = b.unpack(ctx, c)
	}
	// A damaged image explains whatever went wrong in it.
	if damage := <-checked; damage != nil {
		return damage
	}
	b.res.Timings[TimingImage] = took.Seconds()
	if err != nil {
		return err
	}
	return b.buildpackage(ctx, c)
}

// unpack runs dpkg-source in the container; the host's tools never see the
// source.
func (b *build) unpack(ctx context.Context, c engine.Container) error {
	b.log.Printf("Unpack source\n-------------\n")
	err := b.userStep(ctx, c, buildRoot, "dpkg-source", "--no-check", "-x", b.src.Dsc.Name, b.treeName())
	if fault.ClassOf(err) == fault.Build {
		return fault.New(fault.Build, "unpack source: %w", err)
	}
	return err
}

func (b *build) buildpackage(ctx context.Context, c engine.Container) error {
	b.log.Printf("\ndpkg-buildpackage\n-----------------\n")
	tree := path.Join(buildRoot, b.treeName())
	if err := b.userStep(ctx, c, tree, b.buildpackageCommand()...); err != nil || !b.req.SourceOnlyChanges {
		return err
	}
	argv := []string{"dpkg-genchanges", "--build=source", "-O../" + b.sourceChangesName()}
	if b.req.Suite != "" {
		argv = append(argv, "-DDistribution="+b.suiteName())
	}
	return b.userStep(ctx, c, tree, argv...)
}

// sourceChangesName is the name of the .changes for a source-only upload.
func (b *build) sourceChangesName() string {
	return b.src.Name + "_" + b.src.Version.NoEpoch() + "_source.changes"
}

// userStep runs a command as the build user, its output into the log.
func (b *build) userStep(ctx context.Context, c engine.Container, dir string, argv ...string) error {
	b.log.Printf("Command: %s", strings.Join(argv, " "))
	return runStep(ctx, c, engine.Step{
		Argv: argv, Env: b.buildEnv(), Dir: dir, User: builder(),
		Stdout: b.log, Timeout: b.req.Timeout, Idle: b.req.Idle,
	})
}

func builder() engine.User {
	u := chroot.DefaultBuilder()
	return engine.User{UID: u.UID, GID: u.GID}
}

// treeName is the directory of the unpacked source.
func (b *build) treeName() string { return b.src.Name + "-" + b.src.Version.Upstream }

// buildpackageCommand is dpkg-buildpackage as sbuild calls it.
func (b *build) buildpackageCommand() []string {
	argv := []string{"dpkg-buildpackage", "--sanitize-env", "-us", "-uc", b.buildType()}
	if b.req.Jobs > 0 {
		argv = append(argv, "-j"+strconv.Itoa(b.req.Jobs))
	}
	if p := b.profiles(); len(p) > 0 {
		argv = append(argv, "-P"+strings.Join(p, ","))
	}
	if b.req.Suite != "" {
		argv = append(argv, "--changes-option=-DDistribution="+b.suiteName())
	}
	if b.req.ForceOrig {
		argv = append(argv, "-sa")
	}
	return append(argv, b.req.BuildpackageOptions...)
}

// buildType is dpkg-buildpackage's flag for what is built.
func (b *build) buildType() string {
	switch {
	case b.req.ArchAny && b.req.ArchAll && b.req.WithSource:
		return "-F"
	case b.req.ArchAny && b.req.ArchAll:
		return "-b"
	case b.req.ArchAny && b.req.WithSource:
		return "-G"
	case b.req.ArchAny:
		return "-B"
	case b.req.ArchAll && b.req.WithSource:
		return "-g"
	case b.req.ArchAll:
		return "-A"
	}
	return "-S"
}

// jobs is the N of parallel=N.
func (b *build) jobs() int {
	if b.req.Jobs > 0 {
		return b.req.Jobs
	}
	return runtime.NumCPU()
}

// putSource sends the .dsc and its files.
func (b *build) putSource(ctx context.Context, c engine.Container) error {
	return stream(ctx, c, io.Discard, func(tw *tar.Writer) error {
		root := strings.TrimPrefix(buildRoot, "/")
		if err := putDirs(tw, "build", root); err != nil {
			return err
		}
		return putSourceFiles(tw, root, b.src.AllFiles())
	})
}

// putSourceFiles writes verified files into dir. They are verified again while
// they are sent, so that what is built is what was verified.
func putSourceFiles(tw *tar.Writer, dir string, files []dsc.File) error {
	for _, f := range files {
		if err := putSourceFile(tw, path.Join(dir, f.Name), f); err != nil {
			return err
		}
	}
	return nil
}

func putSourceFile(tw *tar.Writer, name string, f dsc.File) (err error) {
	r, err := f.Open()
	if err != nil {
		return err
	}
	defer cleanup.Close(&err, r)
	u := builder()
	h := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Uid: u.UID, Gid: u.GID, Size: f.Size, ModTime: time.Unix(0, 0)}
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.Copy(tw, r)
	return err
}

// stream sends a tar to the container while write makes it; also gets a copy.
func stream(ctx context.Context, c engine.Container, also io.Writer, write func(*tar.Writer) error) error {
	r, w := io.Pipe()
	go func() {
		tw := tar.NewWriter(io.MultiWriter(also, w))
		err := write(tw)
		if err == nil {
			err = tw.Close()
		}
		_ = w.CloseWithError(err)
	}()
	_, err := c.PutFiles(ctx, r, engine.PutOptions{})
	_ = r.Close() // ends the writer if PutFiles gave up
	if err != nil {
		return EngineError(ctx, fmt.Errorf("send source: %w", err))
	}
	return nil
}

// putDirs writes directory entries that belong to the build user.
func putDirs(tw *tar.Writer, names ...string) error {
	u := builder()
	for _, name := range names {
		h := &tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: 0o755, Uid: u.UID, Gid: u.GID, ModTime: time.Unix(0, 0)}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
	}
	return nil
}
