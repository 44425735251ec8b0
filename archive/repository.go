package archive

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"

	"dbuild/deb"
	"dbuild/internal/fault"
)

// ParseRepository reads an extra repository as users write it: a line of
// sources.list(5), or a stanza in deb822 style. keyrings are the files whose
// keys may sign it, unless it names its own with Signed-By. Options that would
// switch a check off are refused, and so are those that dbuild does not know.
func ParseRepository(text string, keyrings []string) ([]Source, error) {
	e, err := parseRepository(text)
	if err != nil {
		return nil, fault.WithHint(fault.New(fault.Usage, "repository %q: %w", strings.TrimSpace(text), err),
			"write it as in sources.list(5): 'deb http://host/debian suite main'; its key goes into --extra-repository-key")
	}
	if len(e.signedBy) > 0 {
		keyrings = e.signedBy
	}
	var all []Source
	for _, uri := range e.uris {
		for _, suite := range e.suites {
			s := Source{URL: strings.TrimRight(uri, "/"), Suite: suite, Components: e.components, Keyrings: keyrings, Extra: true}
			if rest, ok := strings.CutPrefix(uri, "file:/"); ok {
				s.URL = localPrefix + strings.Trim(rest, "/")
			}
			if strings.HasSuffix(suite, "/") {
				s.Flat, s.Components = true, nil
			}
			if err := s.check(); err != nil {
				return nil, err
			}
			all = append(all, s)
		}
	}
	return all, nil
}

// syntaxError says what is wrong with the text of a repository.
type syntaxError string

func (e syntaxError) Error() string { return string(e) }

func parseRepository(text string) (e aptEntry, err error) {
	text = strings.TrimSpace(text)
	if kind, _, _ := cutField(text); kind == "deb" || kind == "deb-src" {
		e, err = parseRepositoryLine(text)
	} else {
		e, err = parseRepositoryStanza(text)
	}
	if err != nil {
		return e, err
	}
	for _, s := range e.suites {
		if flat := strings.HasSuffix(s, "/"); flat == (len(e.components) > 0) {
			return e, syntaxError("a suite has components, and a directory that ends in a slash has none")
		}
	}
	for _, f := range e.signedBy {
		if !strings.HasPrefix(f, "/") {
			return e, syntaxError("Signed-By names a file by its absolute path here")
		}
	}
	return e, nil
}

func parseRepositoryLine(line string) (aptEntry, error) {
	if strings.Contains(line, "\n") {
		return aptEntry{}, syntaxError("more than one line")
	}
	if options, _, ok := strings.Cut(line, "]"); ok {
		_, options, _ = strings.Cut(options, "[")
		for _, o := range strings.Fields(options) {
			name, _, _ := strings.Cut(o, "=")
			if err := checkOption(name); err != nil {
				return aptEntry{}, err
			}
		}
	}
	all := parseOneLine([]byte(line))
	if len(all) != 1 || !strings.HasPrefix(line, "deb ") {
		return aptEntry{}, syntaxError("it is not of the form 'deb URL SUITE COMPONENT…'")
	}
	return all[0], nil
}

func parseRepositoryStanza(text string) (e aptEntry, err error) {
	r := deb.NewReader(bytes.NewReader([]byte(text+"\n")), deb.Limits{})
	p, err := r.Next()
	if err != nil {
		return e, syntaxError("it is neither a line of sources.list nor a deb822 stanza")
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		return e, syntaxError("more than one stanza")
	}
	for _, f := range p.Fields {
		if !slices.Contains([]string{"types", "uris", "suites", "components"}, strings.ToLower(f.Name)) {
			if err := checkOption(f.Name); err != nil {
				return e, err
			}
		}
	}
	if !slices.Contains(strings.Fields(p.Get("Types")), "deb") {
		return e, syntaxError("Types does not have deb")
	}
	e = aptEntry{
		uris: strings.Fields(p.Get("URIs")), suites: strings.Fields(p.Get("Suites")),
		components: strings.Fields(p.Get("Components")), signedBy: strings.Fields(strings.ReplaceAll(p.Get("Signed-By"), ",", " ")),
	}
	if len(e.uris) == 0 || len(e.suites) == 0 {
		return e, syntaxError("URIs or Suites is missing")
	}
	return e, nil
}

// checkOption accepts the options of a source that dbuild honours, or that
// change nothing for it.
func checkOption(name string) error {
	switch name = strings.ToLower(name); name {
	case "signed-by", "lang", "languages", "targets", "pdiffs", "by-hash", "enabled":
		return nil
	case "trusted", "allow-insecure", "allow-weak", "allow-downgrade-to-insecure", "check-valid-until", "check-date":
		return syntaxError("the option " + name + " is not to be had: every repository is verified")
	}
	return syntaxError("the option " + name + " is not known")
}
