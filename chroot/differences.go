package chroot

import "path"

// Difference is one place where a base may differ from what
// mmdebstrap --variant=buildd makes of the same sources, and why.
type Difference struct {
	Path   string // relative, a pattern of [path.Match]
	Suite  string // "" for all, else the one suite
	Reason string
}

// Differences returns all of them. The comparison in the tests allows these
// and nothing else, and checks that a file differs in no other way than its
// reason says. Left out on both sides is what engines replace anyway (see
// [dbuild/internal/tree.Replaced]): /etc/hosts, hostname and resolv.conf, /dev,
// /run, /tmp. Logs, ldconfig's aux-cache and the machine id are removed by
// both and do not differ.
func Differences() []Difference {
	return []Difference{
		{"etc/apt/sources.list", "", "the vendor's own address instead of the mirror in use"},
		{"etc/passwd", "", "the builder's line at the end"},
		{"etc/group", "", "the builder's line at the end"},
		{"etc/shadow", "", "the builder's line at the end"},
		{"etc/gshadow", "", "the builder's line at the end"},
		{"var/lib/apt/extended_states", "", "the same entries, sorted; apt writes them in the order of a hash table"},
		{"etc/shells", "bookworm", "the same lines in another order: mmdebstrap's root is converted to a merged /usr by usrmerge when debianutils has been configured already, ours is merged from the start"},
		{"usr/bin/gunzip", "bookworm", "one file with usr/bin/uncompress, as gzip ships it; usrmerge's conversion copies hard links apart"},
		{"usr/bin/uncompress", "bookworm", "as usr/bin/gunzip"},
		{"var/lib/apt/lists/partial", "bullseye", "belongs to the user _apt of the base, not to that of the host"},
		{"var/cache/apt/archives/partial", "bullseye", "as var/lib/apt/lists/partial"},
		{"var/lib/dpkg/*-old", "", "the generation before the last run of dpkg; removed"},
		{"var/cache/debconf/*-old", "", "the generation before the last run of debconf; removed"},
	}
}

// Allowed returns the reason why path may differ in suite, or "".
func Allowed(suite, name string) string {
	for _, d := range Differences() {
		if ok, _ := path.Match(d.Path, name); ok && (d.Suite == "" || d.Suite == suite) {
			return d.Reason
		}
	}
	return ""
}
