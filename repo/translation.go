package repo

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"strings"

	"dbuild/deb"
)

// describe splits a package's stanza as a suite with translations has it: the
// long description goes to Translation-en, and the hash under which apt finds
// it there takes its place. apt computes the same hash for packages that are
// installed, over the text with its final newline.
func describe(text []byte) (short []byte, hash, long string, err error) {
	p, err := deb.ParseParagraph(text, deb.DefaultLimits)
	if err != nil {
		return nil, "", "", err
	}
	long, ok := p.Lookup("Description")
	if !ok {
		return text, "", "", nil
	}
	sum := md5.Sum([]byte(long + "\n"))
	hash = hex.EncodeToString(sum[:])
	first, _, _ := strings.Cut(long, "\n")
	var fields []deb.Field
	for _, f := range p.Fields {
		if strings.EqualFold(f.Name, "Description") {
			fields = append(fields, deb.Field{Name: f.Name, Value: first}, deb.Field{Name: "Description-md5", Value: hash})
			continue
		}
		fields = append(fields, f)
	}
	var b bytes.Buffer
	_, err = (&deb.Paragraph{Fields: fields}).WriteTo(&b)
	return b.Bytes(), hash, long, err
}

// translationText is the part of Translation-en that belongs to entries: each
// description of a package once.
func translationText(entries []entry) ([]byte, error) {
	var text bytes.Buffer
	seen := map[string]bool{}
	for _, e := range entries {
		_, hash, long, err := describe(e.text)
		if err != nil {
			return nil, err
		}
		if hash == "" || seen[e.name+" "+hash] {
			continue
		}
		seen[e.name+" "+hash] = true
		fmt.Fprintf(&text, "Package: %s\nDescription-md5: %s\nDescription-en: %s\n\n", e.name, hash, long)
	}
	return text.Bytes(), nil
}

// descriptions reads the Translation-en of a component: descriptions by the
// name of the package and their hash. Without one there are none.
func (r *Repo) descriptions(suite string, g generation, component string) (map[string]string, error) {
	p := index{component: component, kind: kindTranslation}.path()
	if _, ok := g.release.Files[p]; !ok {
		return nil, nil
	}
	text, err := r.indexBytes(suite, g, p)
	if err != nil {
		return nil, err
	}
	long := map[string]string{}
	err = deb.ScanStanzas(bytes.NewReader(text), func(b []byte, _ int64) error {
		p, err := deb.ParseParagraph(b, deb.DefaultLimits)
		if err == nil {
			long[p.Get("Package")+" "+p.Get("Description-md5")] = p.Get("Description-en")
		}
		return err
	})
	return long, err
}

// undescribe puts the long description back into the stanza of an index.
func undescribe(p *deb.Paragraph, long map[string]string) error {
	hash := p.Get("Description-md5")
	if hash == "" || long == nil {
		return nil
	}
	text, ok := long[p.Get("Package")+" "+hash]
	if !ok {
		return fmt.Errorf("the description of %s is not in Translation-en", p.Get("Package"))
	}
	p.Set("Description", text)
	return nil
}
