package archive

import (
	"net/url"
	"strconv"
	"strings"

	"dbuild/internal/fault"
)

// FilesFromURIs reads what apt-get --print-uris printed in a container with a
// [View] of sts: lines of the form
//
//	'file:/run/dbuild/archive/0/pool/main/h/hello/hello_2.10-3_amd64.deb' hello_2.10-3_amd64.deb 53080 SHA256:…
//
// and returns the files that they name, to be fetched from where the states
// come from. Other lines are passed over. The sizes and hashes are apt's, from
// the verified index.
func FilesFromURIs(sts []*State, printed []byte) ([]File, error) {
	var files []File
	for line := range strings.Lines(string(printed)) {
		if !strings.HasPrefix(line, "'") {
			continue
		}
		f, err := fileFromURI(sts, strings.TrimSpace(line))
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

func fileFromURI(sts []*State, line string) (File, error) {
	bad := func() (File, error) {
		return File{}, fault.New(fault.Internal, "read apt's list of files: unexpected line %q", line)
	}
	quoted, rest, _ := strings.Cut(line[1:], "' ")
	fields := strings.Fields(rest)
	path, ok := strings.CutPrefix(strings.TrimPrefix(quoted, "file://"), "file:")
	if !ok {
		path = strings.TrimPrefix(quoted, "file://")
	}
	below, ok := strings.CutPrefix(path, ViewMount+"/")
	if !ok || len(fields) != 3 {
		return bad()
	}
	number, escaped, _ := strings.Cut(below, "/")
	n, err := strconv.Atoi(number)
	if err != nil || n < 0 || n >= len(sts) {
		return bad()
	}
	name, err := url.PathUnescape(escaped)
	size, serr := strconv.ParseInt(fields[1], 10, 64)
	sum, ok := strings.CutPrefix(fields[2], "SHA256:")
	if err != nil || serr != nil || size < 0 || !ok || checkSHA256(sum) != nil {
		return bad()
	}
	return File{URL: sts[n].Source.fileURL(name), Filename: name, Size: size, SHA256: sum, Name: fields[0]}, nil
}
