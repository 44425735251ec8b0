package repo

import (
	"crypto/sha256"
	"encoding/hex"
	"path"
	"strings"

	"dbuild/deb"
)

// checkBuildinfo compares the .buildinfo (deb-buildinfo(5)) with the .changes.
func (g *gate) checkBuildinfo() {
	doc := g.upload.Buildinfo
	if err := deb.CheckFileName(doc.Name); err != nil || path.Ext(doc.Name) != ".buildinfo" {
		g.reject(Problem{Code: CodeFileName, File: doc.Name, Text: "not the name of a .buildinfo"})
	}
	if row, ok := g.listed[doc.Name]; ok {
		sum := sha256.Sum256(doc.Data)
		if got := hex.EncodeToString(sum[:]); got != row.SHA256 {
			g.reject(Problem{Code: CodeFileHash, File: doc.Name, Want: row.SHA256, Got: got})
		}
	}
	p, files, err := parseControl(doc.Data)
	if err != nil {
		g.reject(Problem{Code: CodeSyntax, File: doc.Name, Text: err.Error()})
		return
	}
	if dir := p.Get("Build-Path"); dir != "" && !plainDir(dir) {
		g.reject(Problem{Code: CodeField, File: doc.Name, Field: "Build-Path", Got: dir, Text: "not the path of a directory"})
	}
	if g.listed == nil {
		return
	}
	source, sourceVersion, err := sourceOf(p.Get("Source"), "", p.Get("Version"))
	switch {
	case err != nil:
		g.reject(Problem{Code: CodeField, File: doc.Name, Field: "Source", Text: err.Error()})
	case source != g.source:
		g.reject(Problem{Code: CodeSource, File: doc.Name, Field: "Source", Want: g.source, Got: source})
	case sourceVersion != g.sourceVersion || p.Get("Version") != g.version:
		g.reject(Problem{Code: CodeVersion, File: doc.Name, Field: "Version", Want: g.version, Got: p.Get("Version")})
	}
	for _, f := range files {
		if row, ok := g.listed[f.Name]; ok && row.SHA256 != f.SHA256 {
			g.reject(Problem{Code: CodeFileHash, File: f.Name, Text: "in " + doc.Name, Want: row.SHA256, Got: f.SHA256})
		}
	}
}

// plainDir tells whether a path is absolute, without detours, and of characters
// that no shell and no template takes for more.
func plainDir(dir string) bool {
	return path.IsAbs(dir) && path.Clean(dir) == strings.TrimSuffix(dir, "/") && !strings.ContainsAny(dir, "\"'`\\$;&|<>*?\n\r\t")
}
