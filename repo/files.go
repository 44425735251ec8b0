package repo

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"dbuild/deb"
	"dbuild/internal/cleanup"
	"dbuild/internal/fault"
)

// ReadUploads makes uploads into a suite of files that a person names: each
// .changes with what it lists, each .dsc with what it lists, and the packages
// of each source. What they list is looked for beside them. Whether it all
// fits is [Repo.Publish]'s to say; an error is about a file that cannot be
// read at all (class input) or is none of these (class usage).
func ReadUploads(suite string, paths []string) (uploads []Upload, err error) {
	bySource := map[string]int{} // source of loose packages → index in uploads
	for _, p := range paths {
		u := Upload{Suite: suite}
		switch ext := filepath.Ext(p); ext {
		case ".changes":
			err = u.readChanges(p)
		case ".dsc":
			_, err = u.readList(p)
			if err == nil {
				err = u.addFile(p)
			}
		case ".deb", ".udeb":
			source, e := looseSource(p, kind(ext[1:]))
			if e != nil {
				return nil, fault.New(fault.Input, "read %q: %w", p, e)
			}
			if i, ok := bySource[source]; ok {
				if err := uploads[i].addFile(p); err != nil {
					return nil, err
				}
				continue
			}
			bySource[source] = len(uploads)
			err = u.addFile(p)
		default:
			err = fault.New(fault.Usage, "add %q: neither a .changes, a .dsc, a .deb nor a .udeb", p)
		}
		if err != nil {
			return nil, err
		}
		uploads = append(uploads, u)
	}
	return uploads, nil
}

// readChanges adds a .changes, the packages and the source that it lists, and
// its .buildinfo if that is there.
func (u *Upload) readChanges(path string) error {
	rows, err := u.readList(path)
	if err != nil {
		return err
	}
	data, err := readDocument(path)
	if err != nil {
		return err
	}
	u.Changes = Document{Name: filepath.Base(path), Data: data}
	// Logs and custom uploads are not for an archive; the gate knows what is.
	u.Files = slices.DeleteFunc(u.Files, func(f File) bool { return filepath.Ext(f.Name) == ".buildinfo" })
	for _, row := range rows {
		beside := filepath.Join(filepath.Dir(path), row.Name)
		switch filepath.Ext(row.Name) {
		case ".dsc":
			if _, err := u.readList(beside); err != nil {
				return err
			}
		case ".buildinfo":
			if data, err := readDocument(beside); err == nil {
				u.Buildinfo = Document{Name: row.Name, Data: data}
			}
		}
	}
	return nil
}

// readList adds the files that a .changes or .dsc lists, as it describes them.
func (u *Upload) readList(path string) ([]deb.File, error) {
	doc, err := readDocument(path)
	if err != nil {
		return nil, err
	}
	_, rows, err := parseControl(doc)
	if err != nil {
		return nil, fault.New(fault.Input, "read %q: %w", path, err)
	}
	for _, row := range rows {
		if slices.ContainsFunc(u.Files, func(f File) bool { return f.Name == row.Name }) {
			continue // a .changes with source lists what its .dsc lists
		}
		u.Files = append(u.Files, File{Name: row.Name, Path: filepath.Join(filepath.Dir(path), row.Name), Size: row.Size, SHA256: row.SHA256})
	}
	return rows, nil
}

// epochInName is an epoch in a file's name, as in those that apt downloads.
var epochInName = regexp.MustCompile(`^([^_]+_)[0-9]+%3a([^_]+_[^_]+\.u?deb)$`)

// addFile adds a file with the size that it has. An archive has no epochs in its
// names.
func (u *Upload) addFile(path string) error {
	fi, err := os.Lstat(path)
	if err != nil {
		return fault.Wrap(fault.Input, fmt.Errorf("read %q: %w", path, err))
	}
	name := epochInName.ReplaceAllString(filepath.Base(path), "$1$2")
	u.Files = append(u.Files, File{Name: name, Path: path, Size: fi.Size()})
	return nil
}

// looseSource is the source of a package, from its control data.
func looseSource(path string, k kind) (source string, err error) {
	f, fi, err := File{Path: path}.open()
	if err != nil {
		return "", err
	}
	defer cleanup.Close(&err, f)
	s, err := readBinary(f, k, fi.Size(), "")
	return s.source, err
}

// maxDocument bounds a .changes, .dsc or .buildinfo, in bytes; those of Debian's
// largest source have less than one MiB.
const maxDocument = 32 << 20

// readDocument reads a small regular file.
func readDocument(path string) (b []byte, err error) {
	f, _, err := File{Path: path}.open()
	if err != nil {
		return nil, fault.Wrap(fault.Input, fmt.Errorf("read %q: %w", path, err))
	}
	defer cleanup.Close(&err, f)
	b, err = io.ReadAll(io.LimitReader(f, maxDocument+1))
	if err == nil && int64(len(b)) > maxDocument {
		err = fault.New(fault.Input, "read %q: larger than %d bytes", path, maxDocument)
	}
	return b, err
}
