package repo

import (
	"bytes"
	"cmp"
	"path"
	"strings"

	"dbuild/deb"
)

// kind is what sort of file an entry stands for; each has indexes of its own.
type kind string

const (
	kindDeb    kind = "deb"
	kindUdeb   kind = "udeb"
	kindSource kind = "dsc"

	// Of indexes only; they are about packages of kindDeb.
	kindTranslation kind = "translation"
	kindContents    kind = "contents"
)

// archSource is the architecture of a source entry.
const archSource = "source"

// stanza is what an index says about a file, wherever the file is.
type stanza struct {
	kind                  kind
	name, version, arch   string
	source, sourceVersion string
	section               string
	sha256                string
	size                  int64
	// text is the paragraph without the fields that say where the file is:
	// Filename, Size and SHA256 of a package, Directory of a source.
	text []byte
}

// entry is a stanza in a suite.
type entry struct {
	stanza
	component string
	path      string // Filename of a package, Directory of a source
	// The indexes list entries by rising serial, the order in which they came:
	// what is new is at the end, so that all before it can stay as it is.
	serial int64
	added  int64 // when it came, in seconds of Unix
}

// id is what is unique in a suite.
type id struct {
	kind                kind
	name, version, arch string
}

func (s stanza) id() id { return id{s.kind, s.name, s.version, s.arch} }

// fileName is the only name that the file of a stanza may have: Debian's
// NAME_VERSION_ARCH, the version without its epoch.
func (s stanza) fileName() string {
	version := s.version
	if v, err := deb.ParseVersion(version); err == nil {
		version = v.NoEpoch()
	}
	if s.kind == kindSource {
		return s.name + "_" + version + ".dsc"
	}
	return s.name + "_" + version + "_" + s.arch + "." + string(s.kind)
}

// filePath is where the .deb, .udeb or .dsc of an entry is.
func (e entry) filePath() string {
	if e.kind == kindSource {
		return path.Join(e.path, e.fileName())
	}
	return e.path
}

// index names an index of a suite.
type index struct {
	component string
	kind      kind
	arch      string
}

// lists is the kind of the entries that an index is about.
func (x index) lists() kind {
	if x.kind == kindTranslation || x.kind == kindContents {
		return kindDeb
	}
	return x.kind
}

// has tells whether an index is about entries of an architecture. Those of
// Architecture: all are in the Packages of every one, and only there: apt reads
// a binary-all beside them only from archives that say so, and then would see
// each of these packages twice. Contents-all is an index of its own, as in
// Debian, and Translation-en is of no architecture.
func (x index) has(arch string) bool {
	switch x.kind {
	case kindTranslation:
		return true
	case kindContents:
		return arch == x.arch
	default:
		return arch == x.arch || arch == "all"
	}
}

// path is the name of the uncompressed index in the Release file.
func (x index) path() string {
	switch x.kind {
	case kindTranslation:
		return path.Join(x.component, "i18n", "Translation-en")
	case kindContents:
		return path.Join(x.component, "Contents-"+x.arch)
	case kindSource:
		return path.Join(x.component, "source", "Sources")
	case kindUdeb:
		return path.Join(x.component, "debian-installer", "binary-"+x.arch, "Packages")
	default:
		return path.Join(x.component, "binary-"+x.arch, "Packages")
	}
}

// compare is the order in which entries that come together are added.
func (e entry) compare(o entry) int {
	return cmp.Or(strings.Compare(e.name, o.name), deb.CompareVersions(e.version, o.version), strings.Compare(e.arch, o.arch))
}

func (e entry) touch() touch { return touch{e.component, e.kind, e.arch, e.serial} }

// indexText is the text of a Packages or Sources that lists the given entries.
func indexText(r Rules, entries []entry) ([]byte, error) {
	var text bytes.Buffer
	for _, e := range entries {
		if r.Translations && e.kind == kindDeb {
			short, _, _, err := describe(e.text)
			if err != nil {
				return nil, err
			}
			e.text = short
		}
		e.writeTo(&text)
	}
	return text.Bytes(), nil
}

func (e entry) writeTo(b *bytes.Buffer) {
	b.Write(e.text)
	for _, f := range e.location() {
		b.WriteString(f.Name + ": " + f.Value + "\n")
	}
	b.WriteByte('\n')
}
