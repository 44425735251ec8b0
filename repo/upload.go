package repo

import "time"

// Upload is what one build, or one person, puts into a suite at once. All of
// it becomes visible in the same generation, or nothing does.
type Upload struct {
	// Suite is the suite to publish into. A suite that does not exist is
	// created with [DefaultSuite], immutable if so asked.
	Suite     string
	Immutable bool
	// Component of all files. When it is empty, each file goes where its
	// section says: "contrib/net" is in contrib, "net" in main.
	Component string
	// Source and Version are what the caller believes to publish, the version
	// being that of the .changes. They are checked when they are not empty.
	Source, Version string
	// Architectures are those whose indexes must exist after this, besides the
	// ones of the files. A build names its host architecture, so that a
	// package that is only Architecture: all can be seen.
	Architectures []string
	// Files are the .deb and .udeb files and, if the source is published, the
	// .dsc with every file that it lists.
	Files []File
	// Changes describes the upload, signed or not. Without it (Data is nil)
	// the binaries are only compared with each other.
	Changes Document
	// Buildinfo is kept beside Changes.
	Buildinfo Document
	// Build names the directory that keeps Changes and Buildinfo. When it is
	// empty a name is made from the hash of Changes.
	Build string
}

// File is a file on disk that is to enter the pool.
type File struct {
	Name string // base name in the pool, as in the .changes or .dsc
	Path string // where its bytes are now; the file is not changed
	// Size in bytes and SHA256 in hex are checked; SHA256 may be empty when a
	// .changes or .dsc has it.
	Size   int64
	SHA256 string
	// Link says that nobody will write to this inode any more (dbuild's own
	// collected results): the pool may then share it, made mode 0644, where
	// the file system allows. Otherwise the bytes are copied.
	Link bool
}

// Document is a small file that is kept as it is.
type Document struct {
	Name string
	Data []byte
}

// Published says what [Repo.Publish] did.
type Published struct {
	Path       string    `json:"path"`       // the repository's directory
	Suite      string    `json:"suite"`      // the suite's name
	Generation int       `json:"generation"` // the generation that clients see now
	Date       time.Time `json:"date"`       // its Date
	// Unchanged is true when the suite held all of this before.
	Unchanged bool `json:"unchanged"`
	// Replaced are the pool paths that the suite no longer lists. The files
	// stay for the grace time.
	Replaced []string `json:"replaced"`
	// Files are the published packages and sources.
	Files []PublishedFile `json:"files"`
}

// PublishedFile is where a file of an upload is found now.
type PublishedFile struct {
	Name   string `json:"name"`
	Path   string `json:"path"` // relative to the repository: pool/…
	SHA256 string `json:"sha256"`
}
