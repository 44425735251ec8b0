package tree

import "strings"

// Merge puts the layer upper on lower, which may itself be merged, and returns
// what a container sees: names of upper win, a whiteout takes a name away, an
// opaque directory or anything that is not a directory hides what lower has
// there. The result holds no whiteouts, sockets or opaque marks.
//
// Hard links do not reach across layers: a file that was copied up leaves its
// group. Layer is set to the entry's layer; upper is one above the layer of
// lower's root. An empty lower makes upper the lowest.
func Merge(lower, upper Manifest) Manifest {
	layer := 0
	if len(lower) > 0 {
		layer = lower[0].Layer + 1
	}
	out := make(Manifest, 0, len(lower)+len(upper))
	hidden := "" // subtree of lower that does not show
	i, j := 0, 0
	for i < len(lower) || j < len(upper) {
		c := -1
		switch {
		case i >= len(lower):
			c = 1
		case j < len(upper):
			c = Compare(lower[i].Path, upper[j].Path)
		}
		if c < 0 {
			if e := lower[i]; hidden == "" || !below(e.Path, hidden) {
				out = appendVisible(out, e)
			}
			i++
			continue
		}
		e := upper[j]
		if (e.Type != TypeDir || e.Opaque) && (hidden == "" || !below(e.Path, hidden)) {
			hidden = e.Path
		}
		e.Layer = layer
		out = appendVisible(out, e)
		j++
		if c == 0 {
			i++
		}
	}
	regroup(out)
	return out
}

func appendVisible(m Manifest, e Entry) Manifest {
	if e.Type == TypeWhiteout || e.Type == TypeSocket {
		return m
	}
	e.Opaque = false
	return append(m, e)
}

// below reports whether path lies in the directory dir.
func below(path, dir string) bool {
	if dir == "." {
		return path != "."
	}
	return len(path) > len(dir) && path[len(dir)] == '/' && strings.HasPrefix(path, dir)
}
