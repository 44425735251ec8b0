package repo

import (
	"fmt"
	"strings"
)

// Code is the stable name of a reason to reject an upload. Programs may rely
// on it; the text beside it is for people.
type Code string

// The reasons for which an upload is rejected.
const (
	CodeSyntax       Code = "syntax"        // a document or package that cannot be read
	CodeField        Code = "field"         // a field is missing or malformed
	CodeFileName     Code = "file-name"     // unsafe, or not the one that the control data asks for
	CodeFileKind     Code = "file-kind"     // neither a package nor part of the source
	CodeFileRepeated Code = "file-repeated" // one name twice
	CodeFileMissing  Code = "file-missing"  // listed, but not in the upload or not there
	CodeFileUnlisted Code = "file-unlisted" // in the upload, but not listed
	CodeFileSize     Code = "file-size"     // not the size that was announced
	CodeFileHash     Code = "file-hash"     // not the bytes that were announced
	CodeSource       Code = "source"        // control data, .dsc and .changes disagree on the source
	CodeVersion      Code = "version"       // they disagree on the version
	CodeArchitecture Code = "architecture"  // .changes does not list the package's architecture
	CodeBinary       Code = "binary"        // .changes does not list the package in Binary
	CodeComponent    Code = "component"     // not a component's name
	CodeBuild        Code = "build"         // the build's name cannot name a directory
	CodeTaken        Code = "taken"         // another source or component has this package and version
	CodeImmutable    Code = "immutable"     // the suite holds other bytes under this name
	CodeOlder        Code = "older"         // below the version that the suite has, in a suite whose versions rise
	CodeShared       Code = "shared"        // another version of the source uses other bytes of this name
)

// Problem is one reason to reject an upload.
type Problem struct {
	Code  Code   `json:"code"`
	File  string `json:"file,omitempty"`
	Field string `json:"field,omitempty"`
	Want  string `json:"want,omitempty"`
	Got   string `json:"got,omitempty"`
	Text  string `json:"text,omitempty"`
}

// String returns the problem on one line, the code first.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(string(p.Code))
	if p.File != "" {
		fmt.Fprintf(&b, ": %q", p.File)
	}
	if p.Field != "" {
		b.WriteString(": " + p.Field)
	}
	if p.Text != "" {
		b.WriteString(": " + p.Text)
	}
	if p.Want != "" || p.Got != "" {
		fmt.Fprintf(&b, ": %q, expected %q", p.Got, p.Want)
	}
	return b.String()
}

// RejectedError says why an upload was refused: everything that was found, not
// only the first reason. Nothing was changed. Its class is input.
type RejectedError struct {
	Suite    string
	Problems []Problem
}

// Error returns all problems on one line.
func (e *RejectedError) Error() string {
	all := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		all[i] = p.String()
	}
	return fmt.Sprintf("publish into %q: rejected: %s", e.Suite, strings.Join(all, "; "))
}
