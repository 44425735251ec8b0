package main

import (
	"fmt"
	"slices"
)

// rows lists the comparisons, each with the goal that dbuild has set itself.
// The first contender of a row is what the others are divided by.
func (l *lab) rows() ([]row, error) {
	all := []row{}
	if wants(l.rowList, "warm") {
		tiny, hello := packages[0], packages[1]
		all = append(all,
			row{"Warm build of " + tiny, "dbuild at most 1.10", l.warm(tiny)},
			row{"Warm build of " + hello, "dbuild at most 1.03", l.warm(hello)})
	}
	if wants(l.rowList, "engines") {
		tiny := packages[0]
		all = append(all, row{"Warm build of " + tiny + " by engine", "docker at most 1.35", []contender{l.dbuildWarm(tiny), l.dbuildEngine(tiny, "docker")}})
	}
	if wants(l.rowList, "base") {
		all = append(all, row{"Base image as a tar", "dbuild at most 0.45", []contender{l.mmdebstrap(), l.dbuildCreate()}})
	}
	if wants(l.rowList, "nothing") {
		all = append(all, row{"From nothing to the .deb of " + packages[0], "dbuild at most 0.4", []contender{l.mmdebstrapSbuild(), l.dbuildNothing()}})
	}
	if wants(l.rowList, "deps") {
		all = append(all, l.depsRows()...)
	}
	if wants(l.rowList, "fresh") {
		all = append(all, l.freshRows()...)
	}
	if wants(l.rowList, "repo") {
		all = append(all, l.repositories()...)
	}
	for i := range all {
		all[i].contenders = slices.DeleteFunc(all[i].contenders, func(c contender) bool { return !wants(l.only, c.name) })
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("-rows %q names no row", l.rowList)
	}
	return all, nil
}

// warm lists who builds a package whose build dependencies were needed before.
func (l *lab) warm(pkg string) []contender {
	return []contender{l.plain(pkg), l.dbuildWarm(pkg), l.sbuild(pkg), l.pbuilder(pkg)}
}
