package repo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"dbuild/deb"
	"dbuild/internal/fault"
)

// checked is an upload that passed the gate: its files are what their names,
// their control data and the .changes say.
type checked struct {
	Upload
	items []item
	// all are the items of the upload where this is a part of it.
	all []item
}

// item is what becomes one entry: a package with its one file, or a source
// with the .dsc first and its other files behind.
type item struct {
	entry
	files []measured
	came  string // SHA-256 of a package as it was given
}

// gate collects the problems of one upload.
type gate struct {
	upload   Upload
	problems []Problem
	measured map[string]measured // by name, those that could be read
	names    map[string]bool     // of all files of the upload

	// From the .changes; listed is nil without one.
	listed        map[string]deb.File
	source        string
	sourceVersion string
	version       string
	architectures []string
	binaries      []string
	dscListed     map[string]bool // by a .dsc
}

func (g *gate) reject(p Problem) { g.problems = append(g.problems, p) }

func (g *gate) rejected() error {
	if len(g.problems) == 0 {
		return nil
	}
	return fault.Wrap(fault.Input, &RejectedError{Suite: g.upload.Suite, Problems: g.problems})
}

// check runs every check that needs no look into the suite, so without the
// lock. It fails with a [RejectedError] that holds all problems.
func (r *Repo) check(ctx context.Context, u Upload) (checked, error) {
	g := &gate{upload: u, measured: map[string]measured{}, names: map[string]bool{}, dscListed: map[string]bool{}}
	g.checkChanges()
	if err := g.checkFiles(ctx); err != nil {
		return checked{}, err
	}
	g.checkBuild()
	var items []item
	for _, f := range u.Files {
		m, ok := g.measured[f.Name]
		if !ok {
			continue
		}
		var it item
		var err error
		switch ext := path.Ext(f.Name); ext {
		case ".deb", ".udeb":
			it, ok, err = r.checkBinary(ctx, g, m, kind(ext[1:]))
		case ".dsc":
			it, ok, err = g.checkSource(m)
		default:
			continue
		}
		if err != nil {
			return checked{}, err
		}
		if ok {
			items = append(items, it)
		}
	}
	g.checkLists()
	g.upload.Source = g.source
	return checked{Upload: g.upload, items: items, all: items}, g.rejected()
}

// checkChanges reads the .changes.
func (g *gate) checkChanges() {
	u := &g.upload
	g.source = u.Source
	if u.Changes.Data == nil {
		return
	}
	name := u.Changes.Name
	if err := deb.CheckFileName(name); err != nil || path.Ext(name) != ".changes" {
		g.reject(Problem{Code: CodeFileName, File: name, Text: "not the name of a .changes"})
	}
	p, files, err := parseControl(u.Changes.Data)
	if err != nil {
		g.reject(Problem{Code: CodeSyntax, File: name, Text: err.Error()})
		return
	}
	g.listed = map[string]deb.File{}
	for _, f := range files {
		g.listed[f.Name] = f
		if _, ok := p.Lookup("Files"); ok && (f.Section == "" || f.Priority == "") {
			g.reject(Problem{Code: CodeField, File: name, Field: "Files", Got: f.Name, Text: "no section or no priority"})
		}
	}
	for _, field := range []string{"Source", "Version", "Architecture", "Distribution"} {
		if p.Get(field) == "" {
			g.reject(Problem{Code: CodeField, File: name, Field: field, Text: "missing"})
		}
	}
	version := p.Get("Version")
	source, sourceVersion, err := sourceOf(p.Get("Source"), "", version)
	if err != nil {
		g.reject(Problem{Code: CodeField, File: name, Field: "Source", Text: err.Error()})
	}
	if u.Source != "" && u.Source != source {
		g.reject(Problem{Code: CodeSource, File: name, Field: "Source", Want: u.Source, Got: source})
	}
	if u.Version != "" && u.Version != version {
		g.reject(Problem{Code: CodeVersion, File: name, Field: "Version", Want: u.Version, Got: version})
	}
	if d := p.Get("Distribution"); d != "" && !suiteName.MatchString(d) {
		g.reject(Problem{Code: CodeField, File: name, Field: "Distribution", Got: d, Text: "not the name of one suite"})
	}
	if _, ok := g.listed[name]; ok {
		g.reject(Problem{Code: CodeFileKind, File: name, Text: "lists itself"})
	}
	if _, ok := p.Lookup("Files"); !ok {
		g.reject(Problem{Code: CodeField, File: name, Field: "Files", Text: "missing"})
	}
	g.source, g.sourceVersion, g.version = source, sourceVersion, version
	g.architectures = strings.Fields(p.Get("Architecture"))
	g.binaries = strings.Fields(p.Get("Binary"))
}

var buildName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._~+:-]{0,199}$`)

func (g *gate) checkBuild() {
	u := &g.upload
	if u.Build == "" && u.Changes.Data != nil {
		sum := sha256.Sum256(u.Changes.Data)
		u.Build = "upload-" + hex.EncodeToString(sum[:8])
	}
	if u.Build != "" && !buildName.MatchString(u.Build) {
		g.reject(Problem{Code: CodeBuild, Got: u.Build, Text: "not a name for a directory"})
	}
	if u.Buildinfo.Data != nil {
		g.checkBuildinfo()
	}
}

// checkFiles reads every file of the upload once and compares it with what the
// caller and the .changes announced.
func (g *gate) checkFiles(ctx context.Context) error {
	for _, f := range g.upload.Files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := deb.CheckFileName(f.Name); err != nil {
			g.reject(Problem{Code: CodeFileName, File: f.Name, Text: err.Error()})
			continue
		}
		if g.names[f.Name] {
			g.reject(Problem{Code: CodeFileRepeated, File: f.Name})
			continue
		}
		g.names[f.Name] = true
		m, err := measure(f)
		if errors.Is(err, errNotThere) {
			g.reject(Problem{Code: CodeFileMissing, File: f.Name, Text: err.Error()})
			continue
		}
		if err != nil {
			return fmt.Errorf("read %q: %w", f.Path, err)
		}
		if g.agrees(m, f.Size, f.SHA256) {
			g.measured[f.Name] = m
		}
		if row, ok := g.listed[f.Name]; ok && !g.agrees(m, row.Size, row.SHA256) {
			delete(g.measured, f.Name)
		}
	}
	return nil
}

// agrees compares a file with an announced size and hash.
func (g *gate) agrees(m measured, size int64, sha256 string) bool {
	switch {
	case m.Size != size:
		g.reject(Problem{Code: CodeFileSize, File: m.Name, Want: fmt.Sprint(size), Got: fmt.Sprint(m.Size)})
	case sha256 != "" && m.SHA256 != sha256:
		g.reject(Problem{Code: CodeFileHash, File: m.Name, Want: sha256, Got: m.SHA256})
	default:
		return true
	}
	return false
}

// checkBinary reads a package and compares its control data with its file name
// and the .changes.
func (r *Repo) checkBinary(ctx context.Context, g *gate, m measured, k kind) (item, bool, error) {
	s, ok, err := r.cachedStanza(ctx, m.SHA256)
	if err != nil {
		return item{}, false, err
	}
	if !ok || s.kind != k {
		s, err = openBinary(m, k)
		if err != nil {
			g.reject(Problem{Code: CodeSyntax, File: m.Name, Text: err.Error()})
			return item{}, false, nil
		}
	}
	if want := s.fileName(); m.Name != want {
		g.reject(Problem{Code: CodeFileName, File: m.Name, Want: want, Got: m.Name})
	}
	if g.source == "" {
		g.source = s.source
	}
	if s.source != g.source {
		g.reject(Problem{Code: CodeSource, File: m.Name, Field: "Source", Want: g.source, Got: s.source})
	}
	if g.listed != nil {
		g.compareWithChanges(s, m.Name)
	}
	section := s.section
	if row, ok := g.listed[m.Name]; ok && row.Section != "" {
		section = row.Section
	}
	e := entry{stanza: s, component: g.component(m.Name, section)}
	return item{entry: e, files: []measured{m}, came: m.SHA256}, true, nil
}

func (g *gate) compareWithChanges(s stanza, name string) {
	if s.sourceVersion != g.sourceVersion {
		g.reject(Problem{Code: CodeVersion, File: name, Field: "Source", Want: g.sourceVersion, Got: s.sourceVersion})
	}
	if !slices.Contains(g.architectures, s.arch) {
		g.reject(Problem{Code: CodeArchitecture, File: name, Want: strings.Join(g.architectures, " "), Got: s.arch})
	}
	// Older dpkg leaves automatic debug packages out of Binary.
	parent, _ := strings.CutSuffix(s.name, "-dbgsym")
	if !slices.Contains(g.binaries, s.name) && !slices.Contains(g.binaries, parent) {
		g.reject(Problem{Code: CodeBinary, File: name, Want: strings.Join(g.binaries, " "), Got: s.name})
	}
}

// component is the part of a section before the slash (Policy 2.4), or main.
func (g *gate) component(file, section string) string {
	c := g.upload.Component
	if c == "" {
		var ok bool
		if c, _, ok = strings.Cut(section, "/"); !ok {
			c = "main"
		}
	}
	if !componentName.MatchString(c) {
		g.reject(Problem{Code: CodeComponent, File: file, Got: c})
	}
	return c
}

// checkSource reads a .dsc and makes its Sources stanza.
func (g *gate) checkSource(m measured) (item, bool, error) {
	doc, err := m.read()
	if err != nil {
		return item{}, false, err
	}
	p, rows, err := parseControl(doc)
	if err != nil {
		g.reject(Problem{Code: CodeSyntax, File: m.Name, Text: err.Error()})
		return item{}, false, nil
	}
	files, ok := g.sourceFiles(m, rows)
	s, err := sourceStanza(p, m.row(), rowsOf(files))
	if err != nil {
		g.reject(Problem{Code: CodeSyntax, File: m.Name, Text: err.Error()})
		return item{}, false, nil
	}
	if want := s.fileName(); m.Name != want {
		g.reject(Problem{Code: CodeFileName, File: m.Name, Want: want, Got: m.Name})
	}
	if g.source == "" {
		g.source = s.name
	}
	if s.name != g.source {
		g.reject(Problem{Code: CodeSource, File: m.Name, Field: "Source", Want: g.source, Got: s.name})
	}
	if g.listed != nil && s.version != g.sourceVersion {
		g.reject(Problem{Code: CodeVersion, File: m.Name, Field: "Version", Want: g.sourceVersion, Got: s.version})
	}
	e := entry{stanza: s, component: g.component(m.Name, s.section)}
	return item{entry: e, files: append([]measured{m}, files...)}, ok, nil
}

// sourceFiles finds the files that a .dsc lists in the upload.
func (g *gate) sourceFiles(dsc measured, rows []deb.File) (files []measured, ok bool) {
	ok = true
	g.dscListed[dsc.Name] = true
	for _, row := range rows {
		g.dscListed[row.Name] = true
		m, found := g.measured[row.Name]
		switch {
		case found && g.agrees(m, row.Size, row.SHA256):
			files = append(files, m)
			continue
		case !g.names[row.Name]:
			g.reject(Problem{Code: CodeFileMissing, File: row.Name, Text: "listed in " + dsc.Name})
		}
		ok = false
	}
	return files, ok
}

// checkLists finds files that are listed and not there, or there and not
// listed. What else a .changes may list (build logs, custom uploads) is not
// for an archive.
func (g *gate) checkLists() {
	hasDsc := false
	for _, name := range slices.Sorted(maps.Keys(g.listed)) {
		ext := path.Ext(name)
		hasDsc = hasDsc || ext == ".dsc"
		if (ext == ".deb" || ext == ".udeb" || ext == ".dsc") && !g.names[name] {
			g.reject(Problem{Code: CodeFileMissing, File: name, Text: "listed in " + g.upload.Changes.Name})
		}
	}
	if g.listed != nil && hasDsc != slices.Contains(g.architectures, archSource) {
		g.reject(Problem{Code: CodeArchitecture, File: g.upload.Changes.Name, Text: "names source without listing a .dsc, or the reverse"})
	}
	for _, name := range slices.Sorted(maps.Keys(g.names)) {
		_, inChanges := g.listed[name]
		switch ext := path.Ext(name); {
		case ext == ".deb" || ext == ".udeb":
			if g.listed != nil && !inChanges {
				g.reject(Problem{Code: CodeFileUnlisted, File: name})
			}
		case !g.dscListed[name]:
			g.reject(Problem{Code: CodeFileKind, File: name, Text: "neither a package nor part of a source"})
		}
	}
}
