package dsc

import (
	"fmt"
	"path/filepath"

	"dbuild/sign"
)

// ListedFiles returns the names of the files that the .dsc at path lists, as
// strictly checked as by [Read], without asking that they are there.
func ListedFiles(path string) ([]string, error) {
	doc, err := ReadFile(path, sign.MaxDocument)
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", path, err)
	}
	s, err := parse(doc, filepath.Base(path), Options{})
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", path, err)
	}
	names := make([]string, len(s.Files))
	for i, f := range s.Files {
		names[i] = f.Name
	}
	return names, nil
}
