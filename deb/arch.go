package deb

import (
	_ "embed"
	"runtime"
	"strings"
	"sync"
)

// The three tables hold the names in /usr/share/dpkg/{cputable,ostable,
// tupletable} of dpkg 1.21.22, in the same order, without the columns that
// only guess at systems. Later releases (1.22, 1.23) only drop ports that
// nobody builds, so the older tables know every name that the newer do.
var (
	//go:embed tables/cputable
	cpuTable string
	//go:embed tables/ostable
	osTable string
	//go:embed tables/tupletable
	tupleTable string
)

// tuple is an architecture in dpkg's normal form, or a wildcard with "any"
// in some places.
type tuple struct{ abi, libc, os, cpu string }

type archTable struct {
	tuples map[string]tuple  // by Debian architecture name
	cpuGNU map[string]string // GNU name by Debian CPU name
	osGNU  map[string]string // GNU name by "abi-libc-os"
}

var loadArchTable = sync.OnceValue(func() *archTable {
	t := &archTable{
		tuples: map[string]tuple{},
		cpuGNU: map[string]string{},
		osGNU:  map[string]string{},
	}
	cpus := tableRows(cpuTable)
	for _, row := range cpus {
		t.cpuGNU[row[0]] = row[1]
	}
	for _, row := range tableRows(osTable) {
		t.osGNU[row[0]] = row[1]
	}
	taken := map[string]bool{} // tuples that already have a name
	for _, row := range tableRows(tupleTable) {
		if !strings.Contains(row[0], "<cpu>") {
			t.tuples[row[1]] = splitTuple(row[0])
			taken[row[0]] = true
			continue
		}
		for _, cpu := range cpus {
			name := strings.Replace(row[1], "<cpu>", cpu[0], 1)
			full := strings.Replace(row[0], "<cpu>", cpu[0], 1)
			if _, ok := t.tuples[name]; !ok && !taken[full] {
				t.tuples[name] = splitTuple(full)
				taken[full] = true
			}
		}
	}
	return t
})

// tableRows splits a table of dpkg into the columns of its rows.
func tableRows(table string) [][]string {
	var rows [][]string
	for line := range strings.Lines(table) {
		if f := strings.Fields(line); len(f) >= 2 && line[0] != '#' {
			rows = append(rows, f)
		}
	}
	return rows
}

func splitTuple(s string) tuple {
	p := strings.SplitN(s, "-", 4)
	return tuple{p[0], p[1], p[2], p[3]}
}

// lookup finds an architecture; "linux-amd64" is an old name of "amd64".
func (t *archTable) lookup(arch string) (tuple, bool) {
	if rest, ok := strings.CutPrefix(arch, "linux-"); ok {
		arch, _, _ = strings.Cut(rest, "-")
	}
	found, ok := t.tuples[arch]
	return found, ok
}

// wildcard is lookup that also reads wildcards: "any" may stand in each
// place, and the leading places may be left out.
func (t *archTable) wildcard(s string) (tuple, bool) {
	p := strings.SplitN(s, "-", 4)
	any := false
	for _, part := range p {
		any = any || part == "any"
	}
	if !any {
		return t.lookup(s)
	}
	if len(p) == 1 {
		return tuple{"any", "any", "any", "any"}, true
	}
	for len(p) < 4 {
		p = append([]string{"any"}, p...)
	}
	return tuple{p[0], p[1], p[2], p[3]}, true
}

// ArchMatches reports whether an architecture matches an architecture or
// wildcard ("linux-any", "any-arm64"), as dpkg-architecture -i does. "any"
// matches everything, "all" included.
func ArchMatches(arch, wildcard string) bool {
	if arch == wildcard || wildcard == "any" {
		return true
	}
	t := loadArchTable()
	real, ok := t.lookup(arch)
	if !ok {
		return false
	}
	want, ok := t.wildcard(wildcard)
	if !ok {
		return false
	}
	fits := func(want, have string) bool { return want == have || want == "any" }
	return fits(want.abi, real.abi) && fits(want.libc, real.libc) &&
		fits(want.os, real.os) && fits(want.cpu, real.cpu)
}

// KnownArch reports whether dpkg has an architecture of that name. "all",
// "any", "source" and wildcards are not architectures.
func KnownArch(s string) bool {
	_, ok := loadArchTable().tuples[s]
	return ok
}

// GNUTriplet returns DEB_HOST_GNU_TYPE for an architecture, such as
// "i686-linux-gnu", or "" if dpkg does not know it.
func GNUTriplet(arch string) string {
	t := loadArchTable()
	tu, ok := t.lookup(arch)
	if !ok {
		return ""
	}
	cpu, os := t.cpuGNU[tu.cpu], t.osGNU[tu.abi+"-"+tu.libc+"-"+tu.os]
	if cpu == "" || os == "" {
		return ""
	}
	return cpu + "-" + os
}

// Multiarch returns DEB_HOST_MULTIARCH for an architecture, such as
// "i386-linux-gnu", or "" if dpkg does not know it. It differs from
// GNUTriplet on i386 only.
func Multiarch(arch string) string {
	cpu, rest, ok := strings.Cut(GNUTriplet(arch), "-")
	if !ok {
		return ""
	}
	if len(cpu) == 4 && cpu[0] == 'i' && strings.HasSuffix(cpu, "86") {
		cpu = "i386"
	}
	return cpu + "-" + rest
}

// HostArch returns the Debian architecture that this program was compiled
// for, or "" where Debian has none. It says nothing of foreign architectures
// that the machine may also run; 32-bit ARM is taken for armhf.
func HostArch() string {
	switch runtime.GOARCH {
	case "386":
		return "i386"
	case "arm":
		return "armhf"
	case "mips64le":
		return "mips64el"
	case "mipsle":
		return "mipsel"
	case "ppc64le":
		return "ppc64el"
	}
	if KnownArch(runtime.GOARCH) {
		return runtime.GOARCH
	}
	return ""
}

// checkArchName accepts what dpkg takes for the name of an architecture or
// wildcard, known or not.
func checkArchName(s string) bool {
	return s != "" && len(s) <= maxName && isAlnum(s[0]) && only(s, "-")
}
