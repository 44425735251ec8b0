package repo

import (
	"context"
	"fmt"
	"slices"
	"time"

	"dbuild/deb"
)

// outdated returns those entries of one source that the rules let go: versions
// below the ones kept for each architecture, once they have had their days, and
// sources from which nothing is left. What has just come stays in any case.
func (r Rules) outdated(mine []entry, fresh map[id]bool, now time.Time) (gone []entry) {
	if r.Keep == 0 && r.KeepDays == 0 {
		return nil
	}
	keep := max(1, r.Keep)
	type group struct {
		kind       kind
		name, arch string
	}
	groups := map[group][]entry{}
	for _, e := range mine {
		g := group{e.kind, e.name, e.arch}
		groups[g] = append(groups[g], e)
	}
	old := map[id]bool{}
	for _, versions := range groups {
		slices.SortFunc(versions, func(a, b entry) int { return deb.CompareVersions(b.version, a.version) })
		for _, e := range versions[min(keep, len(versions)):] {
			aged := !now.Before(time.Unix(e.added, 0).AddDate(0, 0, r.KeepDays))
			old[e.id()] = aged && !fresh[e.id()]
		}
	}
	for _, e := range mine {
		if old[e.id()] && (e.kind != kindSource || !needed(e, mine, old)) {
			gone = append(gone, e)
		}
	}
	return gone
}

// needed tells whether a package stays that was built from a source.
func needed(source entry, mine []entry, old map[id]bool) bool {
	return slices.ContainsFunc(mine, func(e entry) bool {
		return e.kind != kindSource && e.source == source.name && e.sourceVersion == source.version && !old[e.id()]
	})
}

// outdated returns what the rules of a suite let go in all of it.
func (w *writer) outdated(ctx context.Context, s Suite) (gone []entry, err error) {
	if s.Keep == 0 && s.KeepDays == 0 {
		return nil, nil
	}
	rows, err := w.db.QueryContext(ctx, `SELECT DISTINCT source FROM repo_entry WHERE suite = ?
		GROUP BY kind, name, arch, source HAVING count(*) > 1`, s.Name)
	if err != nil {
		return nil, fmt.Errorf("read repository tables: %w", err)
	}
	var sources []string
	for rows.Next() {
		var source string
		if err := rows.Scan(&source); err != nil {
			return nil, fmt.Errorf("read repository tables: %w", err)
		}
		sources = append(sources, source)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read repository tables: %w", err)
	}
	for _, source := range sources {
		mine, err := w.rows(ctx, s.Name, `e.source = ?`, source)
		if err != nil {
			return nil, err
		}
		gone = append(gone, s.Rules.outdated(mine, nil, w.now())...)
	}
	return gone, nil
}
