package buildenv

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"dbuild/archive"
	"dbuild/deb"
	"dbuild/dsc"
	"dbuild/internal/fault"
	"dbuild/sign"
)

// source is stage 1: the source package is found, its files are checked against
// their sums, its signature is reported. Of a tree only debian/control and
// debian/changelog are read.
func (b *build) source(ctx context.Context) error {
	name, isName, err := b.readSource(ctx)
	if err != nil {
		return err
	}
	if isName {
		err = b.fromArchive(ctx, name)
	} else {
		err = b.chooseSuite(ctx)
	}
	if err != nil {
		return err
	}
	b.component = b.src.Component
	b.res.Source, b.res.Version, b.res.Suite = b.src.Name, b.src.Version.String(), b.suite.Name
	b.res.Signature = string(b.src.Signature.State)
	if err := b.openOutputs(b.defaultOutput()); err != nil {
		return err
	}
	b.writeHeader()
	b.say("%s %s for %s", b.src.Name, b.src.Version, b.suite.Name)
	if !b.hasWork() {
		return errSkipped
	}
	return nil
}

// readSource reads what the SOURCE argument names on this machine or by URL. A
// word that names no file is a package in the archive.
func (b *build) readSource(ctx context.Context) (name dsc.Name, isName bool, err error) {
	arg := b.req.Source
	o, err := b.dscOptions()
	if err != nil {
		return name, false, err
	}
	switch {
	case strings.HasPrefix(arg, "http://"), strings.HasPrefix(arg, "https://"):
		dir, err := b.sourceDir()
		if err != nil {
			return name, false, err
		}
		b.src, err = dsc.Fetch(ctx, b.Archive, arg, dir, o)
		return name, false, err
	case strings.HasSuffix(arg, ".dsc"):
		b.src, err = dsc.Read(ctx, arg, o)
		return name, false, err
	}
	if fi, statErr := os.Stat(arg); statErr == nil && fi.IsDir() && (strings.ContainsAny(arg, "/.") || isTree(arg)) {
		b.src, err = dsc.ReadTree(ctx, arg)
		return name, false, err
	}
	name, ok := dsc.ParseName(arg)
	if !ok {
		return name, false, fault.WithHint(fault.New(fault.Input, "%q is neither a .dsc, a source tree nor the name of a source package", arg),
			"give a .dsc file or URL, a directory with debian/control, or a name such as hello=2.10-3")
	}
	return name, true, nil
}

// dscOptions says how the signature of a .dsc is judged.
func (b *build) dscOptions() (dsc.Options, error) {
	o := dsc.Options{RequireSignature: b.req.RequireSignature, Now: b.Now(), Offline: b.req.Offline}
	if len(b.Keyrings) == 0 {
		return o, nil
	}
	var err error
	o.Keyring, err = sign.OpenKeyring(b.Keyrings...)
	return o, err
}

func isTree(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "debian", "control"))
	return err == nil
}

// sourceDir holds what is downloaded for this build.
func (b *build) sourceDir() (string, error) {
	dir := filepath.Join(b.dir, "source")
	return dir, os.Mkdir(dir, 0o700)
}

// fromArchive takes a source package of an archive; trust comes from its
// signed index.
func (b *build) fromArchive(ctx context.Context, name dsc.Name) error {
	from := name.Suite
	if from == "" {
		from = b.req.Suite
	}
	if from == "" {
		from = HostSuite()
	}
	if from == "" {
		return fault.WithHint(fault.New(fault.Usage, "no suite for %q", b.req.Source), "name one with -d SUITE")
	}
	suite, err := archive.FindSuite(from)
	if err != nil {
		return err
	}
	if err := b.setSuite(from); err != nil {
		return err
	}
	dir, err := b.sourceDir()
	if err != nil {
		return err
	}
	components := merged(suite.Components, b.req.Components)
	states, err := b.update(ctx, suite, components)
	if err != nil {
		return err
	}
	o, err := b.dscOptions()
	if err != nil {
		return err
	}
	b.src, err = dsc.FromArchive(ctx, b.Archive, states, components, name, dir, o)
	return err
}

// chooseSuite sets the suite to build for: the one asked for, else what the
// changelog says.
func (b *build) chooseSuite(ctx context.Context) error {
	if b.req.Suite != "" {
		return b.setSuite(b.req.Suite)
	}
	if err := b.src.ReadPackaging(ctx); err != nil {
		return fault.WithHint(err, "name the suite with -d SUITE")
	}
	name := dsc.Suite(b.src.Changelog)
	if name == "" && len(b.src.Changelog) > 0 {
		name = developmentSuite()
	}
	if name == "" {
		name = HostSuite()
	}
	if name == "" {
		return fault.WithHint(fault.New(fault.Usage, "%s names no suite to build for", b.src.Name), "name one with -d SUITE")
	}
	return b.setSuite(name)
}

// setSuite looks the suite up; -d wins over every other word.
func (b *build) setSuite(name string) (err error) {
	if b.req.Suite != "" {
		name = b.req.Suite
	}
	b.suite, err = archive.FindSuite(name)
	return err
}

// suiteName is the suite as the user spelt it: it becomes the Distribution.
func (b *build) suiteName() string {
	if b.req.Suite != "" {
		return b.req.Suite
	}
	return b.suite.Name
}

// developmentSuite is where a package that names no release goes: the
// development suite of the vendor that this machine runs, else Debian's.
func developmentSuite() string {
	if s, err := archive.FindSuite(HostSuite()); err == nil {
		return s.DevelopmentSuite()
	}
	return "sid"
}

// HostSuite is the suite that this machine runs, "" if it does not say.
func HostSuite() string { return hostSuite("/etc/os-release") }

// hostSuite is the suite that this machine runs, "" if it does not say.
func hostSuite(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for _, line := range strings.Split(string(data), "\n") {
		if v, ok := strings.CutPrefix(line, "VERSION_CODENAME="); ok {
			return strings.Trim(v, `"`)
		}
	}
	return ""
}

// hasWork reports whether the source has packages for what is asked for.
func (b *build) hasWork() bool {
	if b.req.WithSource {
		return true
	}
	for _, a := range b.src.Architecture {
		if a == "all" && b.req.ArchAll || a != "all" && b.req.ArchAny && deb.ArchMatches(b.req.Arch, a) {
			return true
		}
	}
	return false
}

// defaultOutput is sbuild's: the current directory, the parent for a tree.
func (b *build) defaultOutput() string {
	if b.src.Tree != "" {
		return filepath.Dir(b.src.Tree)
	}
	return "."
}

// writeHeader opens the log as sbuild does.
func (b *build) writeHeader() {
	now := b.Now()
	b.log.Printf("dbuild %s on %s", b.Version, Hostname)
	b.log.Title(b.src.Name+" "+b.src.Version.String()+" ("+b.req.Arch+")", now)
	for _, f := range [][2]string{
		{"Package", b.src.Name}, {"Version", b.src.Version.String()}, {"Source Version", b.src.Version.String()},
		{"Distribution", b.suiteName()}, {"Machine Architecture", b.req.Arch}, {"Host Architecture", b.req.Arch},
		{"Build Architecture", b.req.Arch}, {"Build Profiles", strings.Join(b.profiles(), " ")}, {"Build Type", b.typeName()},
	} {
		if f[1] != "" {
			b.log.Printf("%s: %s", f[0], f[1])
		}
	}
	b.log.Section("Fetch source files", now)
	for _, f := range b.src.AllFiles() {
		b.log.Printf("%s  %s", f.SHA256, f.Name)
	}
	if b.src.Tree == "" {
		b.log.Printf("Signature: %s %s %s", b.src.Signature.State, b.src.Signature.Signer, b.src.Signature.Note)
	}
}

// origs finds the upstream tarballs of a tree: beside it, else in the archive.
// It looks once.
func (b *build) origs(ctx context.Context) (found []dsc.File, err error) {
	if b.origsFound != nil {
		return b.origsFound()
	}
	found, err = b.findOrigs(ctx)
	b.origsFound = func() ([]dsc.File, error) { return found, err }
	return found, err
}

func (b *build) findOrigs(ctx context.Context) ([]dsc.File, error) {
	found, err := dsc.FindOrig(ctx, b.src, filepath.Dir(b.src.Tree), b.output.Name())
	if !errors.Is(err, dsc.ErrNoOrig) {
		return found, err
	}
	dir := filepath.Join(b.dir, "orig")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	found, archiveErr := dsc.OrigFromArchive(ctx, b.Archive, b.states, b.src, dir)
	if errors.Is(archiveErr, dsc.ErrNoOrig) {
		return nil, err // what it says of the directories helps more
	}
	return found, archiveErr
}
