package archive

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dbuild/deb"
)

// aptEntry is one entry of the host's apt sources, as far as it matters for
// choosing a mirror.
type aptEntry struct {
	uris, suites, components, signedBy []string
}

// maxAptFile bounds a file of apt's configuration.
const maxAptFile = 1 << 20

// readAptSources reads sources.list and sources.list.d below root/etc/apt in
// apt's order. A file that cannot be read or understood is passed over: it is
// the host's configuration, asked for a suggestion only.
func readAptSources(root string) []aptEntry {
	var entries []aptEntry
	dir := filepath.Join(root, "etc/apt")
	names := []string{filepath.Join(dir, "sources.list")}
	list, _ := os.ReadDir(filepath.Join(dir, "sources.list.d")) // sorted by name
	for _, e := range list {
		names = append(names, filepath.Join(dir, "sources.list.d", e.Name()))
	}
	for _, name := range names {
		data, err := readSmall(name, maxAptFile)
		if err != nil {
			continue
		}
		switch filepath.Ext(name) {
		case ".list":
			entries = append(entries, parseOneLine(data)...)
		case ".sources":
			entries = append(entries, parseDeb822Sources(data)...)
		}
	}
	return entries
}

// readSmall reads a regular file and refuses anything that could block or is
// larger than limit.
func readSmall(name string, limit int64) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, &os.PathError{Op: "read", Path: name, Err: os.ErrInvalid}
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

// parseOneLine reads the one-line style of sources.list(5). Lines that are not
// well formed are passed over.
func parseOneLine(data []byte) []aptEntry {
	var entries []aptEntry
	for line := range strings.Lines(string(data)) {
		line, _, _ = strings.Cut(line, "#")
		kind, rest, ok := cutField(line)
		if !ok || kind != "deb" && kind != "deb-src" {
			continue
		}
		var e aptEntry
		if strings.HasPrefix(rest, "[") {
			options, after, ok := strings.Cut(rest[1:], "]")
			if !ok {
				continue
			}
			rest = after
			for _, o := range strings.Fields(options) {
				if value, ok := strings.CutPrefix(strings.ToLower(o), "signed-by="); ok {
					e.signedBy = append(e.signedBy, strings.Split(o[len(o)-len(value):], ",")...)
				}
			}
		}
		fields := strings.Fields(rest)
		if len(fields) < 2 {
			continue
		}
		e.uris, e.suites, e.components = fields[:1], fields[1:2], fields[2:]
		entries = append(entries, e)
	}
	return entries
}

func cutField(s string) (first, rest string, ok bool) {
	s = strings.TrimSpace(s)
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return s, "", false
	}
	return s[:i], strings.TrimSpace(s[i:]), true
}

// parseDeb822Sources reads the deb822 style of sources.list(5), in which, other
// than in the documents of an archive, comment lines may stand anywhere.
func parseDeb822Sources(data []byte) []aptEntry {
	var plain bytes.Buffer
	for line := range bytes.Lines(data) {
		if !bytes.HasPrefix(line, []byte("#")) {
			plain.Write(line)
		}
	}
	var entries []aptEntry
	r := deb.NewReader(&plain, deb.Limits{})
	for {
		p, err := r.Next()
		if err != nil {
			return entries
		}
		enabled := strings.ToLower(strings.TrimSpace(p.Get("Enabled")))
		types := strings.Fields(p.Get("Types"))
		if slices.Contains([]string{"no", "false", "without", "off", "disable", "0"}, enabled) ||
			!slices.Contains(types, "deb") && !slices.Contains(types, "deb-src") {
			continue
		}
		entries = append(entries, aptEntry{
			uris:       strings.Fields(p.Get("URIs")),
			suites:     strings.Fields(p.Get("Suites")),
			components: strings.Fields(p.Get("Components")),
			signedBy:   strings.Fields(strings.ReplaceAll(p.Get("Signed-By"), ",", " ")),
		})
	}
}
