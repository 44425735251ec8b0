package deb

import (
	"fmt"
	"iter"
	"math"
	"strings"
)

// File is one file that a .dsc, .changes or .buildinfo lists.
type File struct {
	Name              string // safe base name, see CheckFileName
	Size              int64  // bytes
	MD5, SHA1, SHA256 string // lower-case hexadecimal; MD5 and SHA1 may be ""
	Section, Priority string // .changes only, else ""
}

// ParseFiles merges Files, Checksums-Sha1 and Checksums-Sha256 of a .dsc,
// .changes or .buildinfo, in the order of Checksums-Sha256, which must be
// there and list at least one file. The other two may be absent (a
// .buildinfo has no Files), but where present must name the same files with
// the same sizes. Refused are a file listed twice, a name that is not a safe
// base name, and rows with a wrong number of columns; Files has three
// columns, or five in a .changes.
func ParseFiles(p *Paragraph) ([]File, error) {
	text, ok := p.Lookup("Checksums-Sha256")
	if !ok {
		return nil, ErrNoSHA256
	}
	var files []File
	index := make(map[string]int)
	for row := range rows(text) {
		f, err := parseFileRow(row, 64)
		if err != nil {
			return nil, &SyntaxError{Field: "Checksums-Sha256", Reason: err.Error()}
		}
		if _, ok := index[f.Name]; ok {
			return nil, &SyntaxError{Field: "Checksums-Sha256", Reason: fmt.Sprintf("lists %q twice", f.Name)}
		}
		f.SHA256, f.hash = f.hash, ""
		index[f.Name] = len(files)
		files = append(files, f.File)
	}
	if len(files) == 0 {
		return nil, &SyntaxError{Field: "Checksums-Sha256", Reason: "lists no file"}
	}
	err := mergeRows(p, "Checksums-Sha1", 40, files, index, func(f *File, row fileRow) { f.SHA1 = row.hash })
	if err != nil {
		return nil, err
	}
	err = mergeRows(p, "Files", 32, files, index, func(f *File, row fileRow) {
		f.MD5, f.Section, f.Priority = row.hash, row.Section, row.Priority
	})
	if err != nil {
		return nil, err
	}
	return files, nil
}

// fileRow is a row before it is known what its checksum is.
type fileRow struct {
	File
	hash string
}

// mergeRows adds the rows of one field to files, which must have the same
// names and sizes. It does nothing if the field is absent.
func mergeRows(p *Paragraph, field string, digits int, files []File, index map[string]int, add func(*File, fileRow)) error {
	text, ok := p.Lookup(field)
	if !ok {
		return nil
	}
	fail := func(format string, args ...any) error {
		return &SyntaxError{Field: field, Reason: fmt.Sprintf(format, args...)}
	}
	seen := make(map[string]bool, len(files))
	columns := 0
	for row := range rows(text) {
		if columns == 0 {
			columns = len(row)
		} else if columns != len(row) {
			return fail("rows differ in their number of columns")
		}
		f, err := parseFileRow(row, digits)
		if err != nil {
			return fail("%v", err)
		}
		if seen[f.Name] {
			return fail("lists %q twice", f.Name)
		}
		seen[f.Name] = true
		i, ok := index[f.Name]
		if !ok {
			return fail("lists %q, which Checksums-Sha256 does not", f.Name)
		}
		if files[i].Size != f.Size {
			return fail("size of %q differs from Checksums-Sha256", f.Name)
		}
		add(&files[i], f)
	}
	if len(seen) != len(files) {
		return fail("lists %d of the %d files in Checksums-Sha256", len(seen), len(files))
	}
	return nil
}

// parseFileRow reads "hash size name", or the "md5 size section priority
// name" of a .changes.
func parseFileRow(row []string, digits int) (fileRow, error) {
	if len(row) != 3 && !(len(row) == 5 && digits == 32) {
		return fileRow{}, fmt.Errorf("row of %d columns", len(row))
	}
	var f fileRow
	f.hash, f.Name = row[0], row[len(row)-1]
	if len(row) == 5 {
		f.Section, f.Priority = row[2], row[3]
		if !checkSection(f.Section) || !checkSection(f.Priority) {
			return fileRow{}, fmt.Errorf("section %.40q or priority %.40q is malformed", f.Section, f.Priority)
		}
	}
	if !isHex(f.hash, digits) {
		return fileRow{}, fmt.Errorf("%.70q is not a checksum of %d digits", f.hash, digits)
	}
	var err error
	if f.Size, err = parseSize(row[1]); err != nil {
		return fileRow{}, err
	}
	return f, CheckFileName(f.Name)
}

// checkSection accepts "-", "devel", "non-free/libs" and the like.
func checkSection(s string) bool {
	return len(s) <= maxName && only(s, "-_./+?")
}

// parseSize reads a size in bytes.
func parseSize(s string) (int64, error) {
	n, err := parseDecimal(s, math.MaxInt64)
	if err != nil {
		return 0, fmt.Errorf("size: %w", err)
	}
	return n, nil
}

// rows yields the columns of each line of a multi-line field.
func rows(value string) iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		for line := range strings.SplitSeq(value, "\n") {
			if columns := fields(line); len(columns) > 0 && !yield(columns) {
				return
			}
		}
	}
}

// fields splits at the white space that dpkg knows, not at Unicode's.
func fields(s string) []string { return strings.FieldsFunc(s, isSpace) }
