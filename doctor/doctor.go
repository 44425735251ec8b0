// Package doctor looks at a machine and says whether builds can run on it, and
// which command mends what is wrong. [Look] collects [Facts] without changing
// anything; [Examine] judges them, one small function for each line of the
// report, and touches nothing, so that a test can plant any fault.
package doctor

import "slices"

// Status is the outcome of one check.
type Status string

// The outcomes.
const (
	OK   Status = "ok"
	Note Status = "note" // works, but less well than it could
	Fail Status = "fail"
)

// Finding is what one check says. Code and Status are stable; Text and Mend
// are for people.
type Finding struct {
	Code   string `json:"code"`
	Status Status `json:"status"`
	Needed bool   `json:"needed"` // a build cannot run while it fails
	Text   string `json:"text"`
	Mend   string `json:"mend,omitempty"` // the command that helps, or a hint
}

// The engines that a check may be about.
const (
	Native = "native"
	Docker = "docker"
	Podman = "podman"
)

// check is one line of the report. Those that are about an engine are needed
// only when it is the one in use.
type check struct {
	code   string
	engine string
	run    func(Facts) Finding
}

// checks is the table, in the order of the report.
var checks = []check{
	{"state", "", checkState},
	{"state-filesystem", Native, checkFilesystem},
	{"disk", "", checkDisk},
	{"clock", "", checkClock},
	{"repo-key", "", checkRepoKeys},
	{"container", Native, checkContainer},
	{"user-namespaces", Native, checkUserNamespaces},
	{"subordinate-ids", Native, checkSubordinateIDs},
	{"id-map-programs", Native, checkIDMapPrograms},
	{"overlay", Native, checkOverlay},
	{"seccomp", Native, checkSeccomp},
	{"cgroups", Native, checkCgroups},
	{"native", Native, func(f Facts) Finding { return checkTrial(f, Native) }},
	{"docker", Docker, func(f Facts) Finding { return checkDaemon(f, Docker) }},
	{"docker-storage", Docker, func(f Facts) Finding { return checkStorage(f, Docker) }},
	{"podman", Podman, func(f Facts) Finding { return checkDaemon(f, Podman) }},
	{"podman-storage", Podman, func(f Facts) Finding { return checkStorage(f, Podman) }},
}

// Examine judges the facts. The last line says which engine is used and why.
func Examine(f Facts) []Finding {
	var all []Finding
	for _, c := range checks {
		found := c.run(f)
		if found.Status == "" {
			continue // nothing to say here
		}
		found.Code, found.Needed = c.code, c.engine == "" || c.engine == f.Engine
		all = append(all, found)
	}
	all = append(all, checkKeyrings(f)...)
	return append(all, checkEngine(f, Works(all)))
}

// Works reports whether a build can run.
func Works(all []Finding) bool {
	return !slices.ContainsFunc(all, func(f Finding) bool { return f.Needed && f.Status == Fail })
}
