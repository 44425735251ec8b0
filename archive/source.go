package archive

import (
	"net/url"
	"path"
	"strings"

	"dbuild/deb"
)

// Source is one suite of one archive: what a line of sources.list(5) names.
type Source struct {
	URL         string // archive root, http or https (file for Extra), no trailing slash; may hold credentials, see [RedactURL]
	Suite       string // directory below dists/, or for Flat the directory below URL ("./")
	Codename    string // the Codename that its Release must carry; "" accepts any that fits Suite
	Components  []string
	Keyrings    []string // files that hold the archive's keys
	AllowedKeys []string // primary fingerprints that may sign; empty: any key of Keyrings
	Pin         int      // apt's pin priority for the whole source; 0 leaves apt's default
	Flat        bool     // no dists/, no components: the repository format's flat layout
	Extra       bool     // added by the user: Release with Release.gpg and file: roots are accepted, and a suite mismatch only warns
}

// File returns the file that p, a stanza of one of this source's Packages
// indexes, describes.
func (s Source) File(p *deb.Package) File {
	return File{
		URL:      s.fileURL(p.Filename),
		Filename: p.Filename,
		Size:     p.Size,
		SHA256:   p.SHA256,
		Name:     p.Name + " " + p.Version,
	}
}

// SourceFiles returns the files of e, a stanza of one of this source's Sources
// indexes: the .dsc and what it names.
func (s Source) SourceFiles(e *deb.SourceEntry) []File {
	files := make([]File, 0, len(e.Files))
	for _, f := range e.Files {
		name := path.Join(e.Directory, f.Name)
		files = append(files, File{URL: s.fileURL(name), Filename: name, Size: f.Size, SHA256: f.SHA256, Name: f.Name})
	}
	return files
}

// Offers reports whether f is a file of this source.
func (s Source) Offers(f File) bool { return f.URL == s.fileURL(f.Filename) }

// label is the source's short name in messages.
func (s Source) label() string {
	return strings.TrimSuffix(RedactURL(s.URL)+" "+s.Suite, " ./")
}

// dir is the directory that holds the Release file, below URL; "" for URL.
func (s Source) dir() string {
	if s.Flat {
		return strings.Trim(path.Clean("/"+s.Suite), "/")
	}
	return "dists/" + s.Suite
}

// fileURL is the URL of a path below the archive root.
func (s Source) fileURL(name ...string) string {
	return s.URL + "/" + escapePath(strings.TrimPrefix(path.Clean("/"+path.Join(name...)), "/"))
}

// escapePath percent-encodes a path as apt does: a plus sign too, which some
// stores of objects behind mirrors otherwise read as a blank.
func escapePath(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = strings.ReplaceAll(url.PathEscape(p), "+", "%2B")
	}
	return strings.Join(parts, "/")
}
