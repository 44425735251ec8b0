package dsc

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"dbuild/deb"
	"dbuild/internal/fault"
	"dbuild/sign"
)

// maxSource bounds what one source package may list, in bytes.
const maxSource = 64 << 30

// docLimits bounds a .dsc, .changes or .buildinfo; the largest that Debian has
// are below 1 MiB.
var docLimits = deb.Limits{Document: sign.MaxDocument, Field: 4 << 20, Fields: 200}

// Read reads a .dsc and verifies the files that it lists, which must lie
// beside it: size and every checksum that is listed, of which SHA-256 must be.
// If path is a symbolic link, it is followed to the .dsc itself; the files may
// be no links. Nothing is written.
func Read(ctx context.Context, path string, o Options) (*Source, error) {
	s, err := read(ctx, path, o)
	if err != nil {
		return nil, fmt.Errorf("read source package %q: %w", path, err)
	}
	return s, nil
}

func read(ctx context.Context, path string, o Options) (*Source, error) {
	real, err := filepath.EvalSymlinks(path)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Input, err)
	}
	doc, err := ReadFile(real, sign.MaxDocument)
	if err != nil {
		return nil, err
	}
	s, err := parse(doc, filepath.Base(real), o)
	if err != nil {
		return nil, err
	}
	s.Origin, s.Dsc.Path = path, real
	for i := range s.Files {
		s.Files[i].Path = filepath.Join(filepath.Dir(real), s.Files[i].Name)
	}
	return s, checkFiles(ctx, s.Files)
}

// parse reads the document of a .dsc that is, or will be, called name. The
// paths of its files are left empty.
func parse(doc []byte, name string, o Options) (*Source, error) {
	text, signature, err := checkSignature(doc, o)
	if err != nil {
		return nil, err
	}
	p, err := deb.ParseParagraph(text, docLimits)
	if err != nil {
		return nil, fault.Wrap(fault.Input, err)
	}
	sum := sha256.Sum256(doc)
	s := &Source{Paragraph: p, Signature: signature}
	s.Dsc = File{Name: name, Size: int64(len(doc)), SHA256: hex.EncodeToString(sum[:])}
	for _, step := range []func() error{s.readIdentity, s.readBinaries, s.readFiles, s.checkLayout, s.checkRelations} {
		if err := step(); err != nil {
			return nil, fault.Wrap(fault.Input, err)
		}
	}
	if want := s.ID() + ".dsc"; name != want {
		return nil, fault.WithHint(fault.New(fault.Input, "file name %q does not fit %s %s", name, s.Name, s.Version), "rename it to %s", want)
	}
	s.Component = componentOf(p.Get("Section"))
	return s, nil
}

// readIdentity reads who the package is.
func (s *Source) readIdentity() (err error) {
	s.Name, s.Version, err = identity(s.Paragraph, "Source")
	if err != nil {
		return err
	}
	s.Format = s.Paragraph.Get("Format")
	return checkFormat(s.Format)
}

// identity reads a package name from field and the version beside it.
func identity(p *deb.Paragraph, field string) (string, deb.Version, error) {
	name := p.Get(field)
	if err := deb.CheckPackageName(name); err != nil {
		return "", deb.Version{}, fmt.Errorf("field %s: %w", field, err)
	}
	text := p.Get("Version")
	v, err := deb.ParseVersion(text)
	if err == nil {
		// Longer ones make file names that no file system takes.
		err = deb.CheckFileName(name + "_" + v.NoEpoch())
	}
	if err != nil {
		return "", v, fmt.Errorf("field Version: %w", err)
	}
	return name, v, nil
}

func (s *Source) readBinaries() error {
	for name := range strings.SplitSeq(s.Paragraph.Get("Binary"), ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		if err := deb.CheckPackageName(name); err != nil {
			return fmt.Errorf("field Binary: %w", err)
		}
		s.Binary = append(s.Binary, name)
	}
	var err error
	s.Architecture, err = architectures(s.Paragraph.Get("Architecture"))
	return err
}

// architectures reads a list of architectures and wildcards.
func architectures(value string) ([]string, error) {
	list := strings.Fields(value)
	for _, a := range list {
		if len(a) > 40 || strings.Trim(a, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return nil, fmt.Errorf("field Architecture: %.60q is not an architecture", a)
		}
	}
	return list, nil
}

func (s *Source) readFiles() error {
	files, err := deb.ParseFiles(s.Paragraph)
	if err != nil {
		return err
	}
	total := s.Dsc.Size
	for _, f := range files {
		if total += f.Size; f.Size > maxSource || total > maxSource {
			return fmt.Errorf("field Checksums-Sha256: lists more than %d bytes", int64(maxSource))
		}
		if f.Size == 0 {
			return fmt.Errorf("field Checksums-Sha256: %q is empty", f.Name)
		}
		s.Files = append(s.Files, File{Name: f.Name, Size: f.Size, SHA256: f.SHA256, md5: f.MD5, sha1: f.SHA1})
	}
	return nil
}

// componentOf returns the archive component in a Section (Policy 2.4), or
// "main".
func componentOf(section string) string {
	component, _, ok := strings.Cut(section, "/")
	if !ok || component == "" || strings.Trim(component, "abcdefghijklmnopqrstuvwxyz-") != "" {
		return "main"
	}
	return component
}

// relationFields are the fields that [Source.BuildDepends] collects.
var relationFields = []string{
	"Build-Depends", "Build-Depends-Arch", "Build-Depends-Indep",
	"Build-Conflicts", "Build-Conflicts-Arch", "Build-Conflicts-Indep",
}

// checkRelations refuses relations that cannot be read, here rather than in
// the middle of a build.
func (s *Source) checkRelations() error {
	var errs error
	for _, field := range relationFields {
		if _, err := deb.ParseDependency(s.Paragraph.Get(field)); err != nil {
			errs = errors.Join(errs, fmt.Errorf("field %s: %w", field, err))
		}
	}
	return errs
}

// BuildDepends has the relationship fields of Policy 7.7 as they are written,
// "" where a field is absent.
type BuildDepends struct {
	Depends, Arch, Indep                     string // Build-Depends, Build-Depends-Arch, …
	Conflicts, ConflictsArch, ConflictsIndep string // Build-Conflicts, …
	// Note says that the package declares no dependency at all, which no
	// package of today's Debian can mean.
	Note string
}

// BuildDepends returns the relationship fields. All of them can be read by
// [deb.ParseDependency].
func (s *Source) BuildDepends() BuildDepends {
	get := s.Paragraph.Get
	d := BuildDepends{
		Depends: get("Build-Depends"), Arch: get("Build-Depends-Arch"), Indep: get("Build-Depends-Indep"),
		Conflicts: get("Build-Conflicts"), ConflictsArch: get("Build-Conflicts-Arch"), ConflictsIndep: get("Build-Conflicts-Indep"),
	}
	if d.Depends+d.Arch+d.Indep == "" {
		d.Note = "the source package declares no build dependencies"
	}
	return d
}
