package deb

import (
	"fmt"
	"strings"
)

// maxRelations bounds the relations of one field. The largest field in the
// Debian archive holds a few thousand.
const maxRelations = 1 << 16

// RelationError reports a relation that cannot be read.
type RelationError struct {
	Relation string // the text between commas or bars
	Reason   string
}

func (e *RelationError) Error() string {
	return fmt.Sprintf("relation %.80q: %s", e.Relation, e.Reason)
}

// ParseDependency reads a relationship field of a source or binary package.
// The grammar is that of Dpkg::Deps, with these refused as well: a bar at
// the end of an element, an empty restriction list, two profile groups
// without a blank between them (dpkg reads those as one strange name), and a
// version that is not valid. The obsolete operators "<" and ">" become "<="
// and ">=". Empty elements between commas are skipped. Substitution
// variables are not known here and are refused.
//
// The parser is ours because the one of pault.ag/go/debian glues restriction
// lists to names and prints other text than it read.
func ParseDependency(s string) (Dependency, error) {
	if n := strings.Count(s, ",") + strings.Count(s, "|"); n >= maxRelations {
		return nil, &LimitError{What: "relations of a field", Limit: maxRelations}
	}
	var d Dependency
	for element := range strings.SplitSeq(s, ",") {
		if trimBlanks(element) == "" {
			continue
		}
		var a Alternatives
		for text := range strings.SplitSeq(element, "|") {
			r, err := parseRelation(text)
			if err != nil {
				return nil, err
			}
			a = append(a, r)
		}
		d = append(d, a)
	}
	return d, nil
}

// parseRelation reads name[:qualifier] [(op version)] [[arches]] [<profiles>]….
func parseRelation(text string) (Relation, error) {
	p := relationParser{rest: trimBlanks(text)}
	r := Relation{Name: p.word("+-."), Qualifier: ""}
	if r.Name == "" || !isAlnum(r.Name[0]) {
		p.fail("package name is missing or malformed")
	}
	if p.skip(":") {
		if r.Qualifier = p.word("-"); !checkArchName(r.Qualifier) {
			p.fail("architecture qualifier is malformed")
		}
	}
	p.blanks()
	if p.skip("(") {
		p.version(&r)
	}
	p.blanks()
	if p.skip("[") {
		r.Arches = p.list("]", checkArchTerm)
	}
	p.profiles(&r)
	if p.reason == "" && p.rest != "" {
		p.fail("text that is no part of a relation")
	}
	if p.reason != "" {
		return Relation{}, &RelationError{Relation: trimBlanks(text), Reason: p.reason}
	}
	return r, nil
}

// relationParser holds what is left to read and the first problem found.
type relationParser struct {
	rest   string
	reason string
}

func (p *relationParser) fail(reason string) {
	if p.reason == "" {
		p.reason = reason
	}
}

// skip consumes token and reports whether it was there.
func (p *relationParser) skip(token string) bool {
	rest, ok := strings.CutPrefix(p.rest, token)
	p.rest = rest
	return ok
}

// blanks consumes white space and reports whether there was any.
func (p *relationParser) blanks() bool {
	rest := strings.TrimLeft(p.rest, blankSet)
	had := len(rest) < len(p.rest)
	p.rest = rest
	return had
}

// word consumes letters, digits and the characters of also.
func (p *relationParser) word(also string) string {
	i := 0
	for i < len(p.rest) && (isAlnum(p.rest[i]) || strings.IndexByte(also, p.rest[i]) >= 0) {
		i++
	}
	w := p.rest[:i]
	p.rest = p.rest[i:]
	return w
}

// version reads the inside of a version constraint and its closing bracket.
func (p *relationParser) version(r *Relation) {
	inside, rest, ok := strings.Cut(p.rest, ")")
	if !ok {
		p.fail("version constraint is not closed")
		return
	}
	p.rest = rest
	inside = trimBlanks(inside)
	i := 0
	for i < len(inside) && strings.IndexByte("<=>", inside[i]) >= 0 {
		i++
	}
	switch op := inside[:i]; op {
	case "<<", "<=", "=", ">=", ">>":
		r.Op = op
	case "<", ">":
		r.Op = op + "="
	default:
		p.fail("version constraint has no known operator")
		return
	}
	r.Version = trimBlanks(inside[i:])
	if _, err := ParseVersion(r.Version); err != nil {
		p.fail(err.Error())
	}
}

// list reads words up to the closing bracket, at least one.
func (p *relationParser) list(closing string, valid func(string) bool) []string {
	inside, rest, ok := strings.Cut(p.rest, closing)
	if !ok {
		p.fail("restriction list is not closed")
		return nil
	}
	p.rest = rest
	words := strings.FieldsFunc(inside, func(r rune) bool { return strings.ContainsRune(blankSet, r) })
	if len(words) == 0 {
		p.fail("restriction list is empty")
	}
	for _, w := range words {
		if !valid(w) {
			p.fail(fmt.Sprintf("restriction %.40q is malformed", w))
		}
	}
	return words
}

func (p *relationParser) profiles(r *Relation) {
	p.blanks()
	for p.reason == "" && p.skip("<") {
		r.Profiles = append(r.Profiles, p.list(">", checkProfileTerm))
		if !p.blanks() && p.rest != "" {
			p.fail("no blank after a profile list")
		}
	}
}

// checkArchTerm accepts an architecture or wildcard, known or not: a
// package may name ports that come later.
func checkArchTerm(s string) bool {
	return checkArchName(strings.TrimPrefix(s, "!"))
}

// checkProfileTerm accepts any profile name, as profiles may be made up
// ("pkg.SOURCE.ANYTHING").
func checkProfileTerm(s string) bool {
	s = strings.TrimPrefix(s, "!")
	return s != "" && isAlnum(s[0]) && only(s, "+-._")
}

// blankSet is the white space that may stand in a folded field.
const blankSet = " \t\r\n"

func trimBlanks(s string) string { return strings.Trim(s, blankSet) }
