package buildenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dbuild/cache"
	"dbuild/internal/atomicfile"
	"dbuild/internal/fault"
	"dbuild/internal/userns"
	"dbuild/repo"
)

// publish is stage 9: the results go to the output directory, the signed build
// statement is written, and the binaries and the verified input source go into
// the local repository. Each is atomic; nothing is published without a
// statement, which knows what is published.
func (b *build) publish(ctx context.Context) error {
	if err := b.writeOutputs(ctx); err != nil {
		return err
	}
	var ready repo.Prepared
	var refused error
	var signed map[string]string
	if !b.req.NoRepo {
		if ready, refused = b.prepareUpload(ctx); refused != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		if refused == nil {
			signed = ready.Signed()
		}
	}
	if err := b.record(signed); err != nil {
		return err
	}
	if !b.req.NoRepo {
		if refused == nil {
			refused = b.intoRepo(ctx, ready)
		}
		if refused != nil {
			return fmt.Errorf("publish: %w", refused)
		}
	}
	if b.res.Reused != "" {
		return nil
	}
	return b.remember(ctx)
}

// sourceResults are the .dsc and its files: those that were built from, or as
// they are handed out if dbuild made and signed them.
func (b *build) sourceResults() []result {
	var out []result
	for _, f := range b.src.AllFiles() {
		if r := b.find(f.Name); r != nil && b.packed {
			out = append(out, *r)
			continue
		}
		out = append(out, result{Name: f.Name, Path: f.Path, Size: f.Size, SHA256: f.SHA256})
	}
	return out
}

// prepareUpload checks what is to be published: the binaries, and the input
// source byte for byte.
func (b *build) prepareUpload(ctx context.Context) (ready repo.Prepared, err error) {
	up := repo.Upload{
		Suite: b.suite.Name, Component: b.component, Source: b.src.Name, Version: b.changes.Version.String(),
		Architectures: []string{b.req.Arch}, Build: b.id,
	}
	for _, r := range b.results {
		switch {
		case isBinary(r.Name):
			up.Files = append(up.Files, repo.File{Name: r.Name, Path: r.Path, Size: r.Size, SHA256: r.SHA256, Link: true})
		case strings.HasSuffix(r.Name, ".changes"), strings.HasSuffix(r.Name, ".buildinfo"):
			data, err := os.ReadFile(r.Path)
			if err != nil {
				return ready, err
			}
			doc := repo.Document{Name: r.Name, Data: data}
			if strings.HasSuffix(r.Name, ".changes") {
				up.Changes = doc
			} else {
				up.Buildinfo = doc
			}
		}
	}
	for _, r := range b.sourceResults() {
		up.Files = append(up.Files, repo.File{Name: r.Name, Path: r.Path, Size: r.Size, SHA256: r.SHA256, Link: b.packed})
	}
	return b.Repo.Prepare(ctx, up)
}

func (b *build) intoRepo(ctx context.Context, ready repo.Prepared) error {
	done, err := b.Repo.PublishPrepared(ctx, ready)
	if err != nil {
		return err
	}
	b.res.Repo = &RepoResult{Path: done.Path, Suite: done.Suite}
	return nil
}

// record writes the signed statement of the build: what was built from what,
// in which image. signed are the hashes of the repository's copies to which it
// added a signature; nil if nothing is published.
func (b *build) record(signed map[string]string) error {
	if b.res.Reused != "" {
		return b.recordReused(signed)
	}
	s := newStatement(b.suite, b.components(), b.req.Arch, b.states, b.req.Switches, b.Version)
	b.origins(&s)
	s.Deps = b.deps.Hash
	for _, f := range b.src.AllFiles() {
		s.Source = append(s.Source, cache.File{Name: f.Name, SHA256: f.SHA256})
	}
	for _, r := range b.results {
		s.Artifacts = append(s.Artifacts, cache.File{Name: r.Name, SHA256: r.SHA256, Published: signed[r.Name]})
	}
	data, sig, err := b.Cache.SignBuild(s)
	if err != nil {
		return fmt.Errorf("sign build statement: %w", err)
	}
	return b.writeStatement(data, sig)
}

// recordReused writes the statement of the build whose result this is: what was
// signed of that is true of this. It is signed anew only where the repository's
// copies are others now.
func (b *build) recordReused(signed map[string]string) error {
	s, err := cache.ParseStatement(b.reused[0])
	if err != nil {
		return err
	}
	same := true
	for i, a := range s.Artifacts {
		same = same && (signed == nil || a.Published == signed[a.Name])
		s.Artifacts[i].Published = signed[a.Name]
	}
	if same {
		return b.writeStatement(b.reused[0], b.reused[1])
	}
	data, sig, err := b.Cache.SignBuild(s)
	if err != nil {
		return fmt.Errorf("sign build statement: %w", err)
	}
	return b.writeStatement(data, sig)
}

func (b *build) writeStatement(data, sig []byte) error {
	path := b.State.Path(statementsDir, b.id+".json")
	if err := atomicfile.Write(path+".asc", sig, 0o600); err != nil {
		return err
	}
	return atomicfile.Write(path, data, 0o600)
}

// openOutputs opens the directory that receives the results and starts the log
// there, under sbuild's name and with sbuild's link to the newest.
func (b *build) openOutputs(defaultDir string) error {
	dir := b.req.Output
	if dir == "" {
		dir = defaultDir
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fault.Wrap(fault.Usage, err)
	}
	if b.output, err = os.Open(dir); err != nil {
		return fault.WithHint(fault.New(fault.Usage, "open output directory: %w", err), "choose another with -o DIR")
	}
	b.atEnd(func(context.Context) error { return b.output.Close() })
	fi, err := b.output.Stat()
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*unix.Stat_t)
	if !fi.IsDir() {
		return fault.New(fault.Usage, "output %q is not a directory", dir)
	}
	b.uid, b.gid = os.Geteuid(), os.Getegid()
	// In a user namespace 0 is the caller, and other owners may have no name.
	if _, user := userns.Inside(); ok && b.uid == 0 && !user {
		b.uid, b.gid = int(st.Uid), int(st.Gid)
	}
	if b.req.NoLog {
		return nil
	}
	return b.openLog()
}

func (b *build) openLog() error {
	stem := fmt.Sprintf("%s_%s_%s", b.src.Name, b.src.Version.NoEpoch(), b.req.Arch)
	f, err := openNewLog(b.output, stem+"-"+b.Now().UTC().Format("2006-01-02T15:04:05Z"), b.uid, b.gid)
	if err != nil {
		return err
	}
	name := filepath.Base(f.Name())
	if err := b.log.tee(f); err != nil {
		return errors.Join(err, f.Close())
	}
	b.res.Log = filepath.Join(b.output.Name(), name)
	fd, link := int(b.output.Fd()), stem+".build"
	tmp := "." + link + "." + b.id
	if err := unix.Symlinkat(name, fd, tmp); err != nil {
		return fmt.Errorf("link log: %w", err)
	}
	if err := unix.Fchownat(fd, tmp, b.uid, b.gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("link log: %w", err)
	}
	return unix.Renameat(fd, tmp, fd, link)
}

// writeSummary ends the log with sbuild's summary; scripts all over the world
// read its Status and Fail-Stage lines.
func (b *build) writeSummary(err error) {
	if err != nil {
		b.log.Printf("\nE: %s", Printable(err.Error()))
	}
	b.log.Section("Summary", b.Now())
	fields := map[string]string{
		"Build Architecture": b.req.Arch,
		"Host Architecture":  b.req.Arch,
		"Build Type":         b.typeName(),
		"Build Profiles":     strings.Join(b.profiles(), " "),
		"Distribution":       b.suiteName(),
		"Status":             string(b.res.Status),
		"Fail-Stage":         b.res.FailStage,
		"Build-Time":         fmt.Sprint(int(b.res.Stages[string(StageBuild)])),
		"Install-Time":       fmt.Sprint(int(b.res.Stages[string(StageDeps)])),
	}
	total := 0.0
	for _, s := range b.res.Stages {
		total += s
	}
	fields["Package-Time"] = fmt.Sprint(int(total))
	if b.src != nil {
		fields["Job"] = b.req.Source
		fields["Package"] = b.src.Name
		fields["Version"] = b.src.Version.String()
		fields["Source-Version"] = b.src.Version.String()
	}
	fields["Machine Architecture"] = b.req.Arch
	b.log.Fields(fields)
	took := time.Duration(total * float64(time.Second)).Round(time.Second)
	b.log.Printf("%s\nFinished at %s\nBuild needed %02d:%02d:%02d, %dk disk space", strings.Repeat("-", logWidth),
		b.Now().UTC().Format("2006-01-02T15:04:05Z"), int(took.Hours()), int(took.Minutes())%60, int(took.Seconds())%60, b.resultBytes()/1024)
}

func (b *build) resultBytes() int64 {
	var n int64
	for _, r := range b.results {
		n += r.Size
	}
	return n
}

// typeName is sbuild's word for what is built.
func (b *build) typeName() string {
	switch b.buildType() {
	case "-b":
		return "binary"
	case "-B":
		return "any"
	case "-A":
		return "all"
	case "-S":
		return "source"
	}
	return "full"
}
