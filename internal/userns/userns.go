// Package userns lets a program that an ordinary user started be root of a user
// namespace: 0 stands for the user, 1 to [Count] for the subordinate ids that
// /etc/subuid and /etc/subgid give to that user. newuidmap and newgidmap write
// that map, for the kernel lets nobody else do it.
//
// A Go program cannot change its own user namespace, so it starts itself again:
// [Enter] runs the same command line in the namespace and hands on signals and
// the exit code, and [Continue], the first call of such a program's main, makes
// the copy wait until it is root there. The copy dies with the first one.
package userns

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// Count is how many subordinate ids a user needs: as many as a container has.
const Count = 65536

// variable tells the copy where it is. Its name is none that settings have.
const variable = "_DBUILD_USERNS"

// Range is a run of ids of the host.
type Range struct{ First, Count int }

// Namespace describes the namespace that this program is root of.
type Namespace struct {
	UID, GID int     // who started the program; 0 inside
	Users    []Range // what 1 and up stand for
	Groups   []Range
}

// inside is set by Continue.
var inside *Namespace

// Inside returns the namespace that [Enter] made for this program, if it runs
// in one.
func Inside() (Namespace, bool) {
	if inside == nil {
		return Namespace{}, false
	}
	return *inside, true
}

// CallerUID is the user on whose behalf this program runs, as the host counts.
func CallerUID() int {
	if inside != nil {
		return inside.UID
	}
	return os.Geteuid()
}

// String names the map for people and for records: two namespaces with the same
// text see the same owners.
func (n Namespace) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "uid %d", n.UID)
	for _, r := range n.Users {
		fmt.Fprintf(&b, " %d+%d", r.First, r.Count)
	}
	fmt.Fprintf(&b, ", gid %d", n.GID)
	for _, r := range n.Groups {
		fmt.Fprintf(&b, " %d+%d", r.First, r.Count)
	}
	return b.String()
}

func (n Namespace) encode() (string, error) {
	b, err := json.Marshal(n)
	return variable + "=" + string(b), err
}

// mapArgs are the arguments behind the process id of newuidmap and its twin.
func mapArgs(own int, ranges []Range) []string {
	args := []string{"0", fmt.Sprint(own), "1"}
	at := 1
	for _, r := range ranges {
		args = append(args, fmt.Sprint(at), fmt.Sprint(r.First), fmt.Sprint(r.Count))
		at += r.Count
	}
	return args
}
