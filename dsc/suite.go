package dsc

import "dbuild/deb"

// Suite returns the suite that a source package is meant for: the distribution
// of the newest entry, or if that is UNRELEASED, of the newest entry which is
// not. It is "" if there is none.
func Suite(entries []deb.ChangelogEntry) string {
	for _, e := range entries {
		if len(e.Distributions) > 0 && e.Distributions[0] != "UNRELEASED" {
			return e.Distributions[0]
		}
	}
	return ""
}
