package buildenv

import (
	"context"
	"os"
	"path/filepath"
	"time"
)

// buildsMaxAge is how long the record of a build is kept.
const buildsMaxAge = 14 * 24 * time.Hour

// Cleaned counts what [Clean] removed.
type Cleaned struct {
	Leftovers int `json:"leftovers"`  // of killed processes
	Images    int `json:"images"`     // expired, or named by no statement
	Downloads int `json:"downloads"`  // files of remote archives that expired
	Builds    int `json:"builds"`     // records older than two weeks
	RepoFiles int `json:"repo_files"` // superseded, after their grace
}

// Clean removes what nothing needs any more. It may run beside builds.
func Clean(ctx context.Context, t Tools, x Expiry) (Cleaned, error) {
	var done Cleaned
	var err error
	if done.Leftovers, err = t.Engine.Reap(ctx); err != nil {
		return done, EngineError(ctx, err)
	}
	if done.Images, err = t.Cache.Reap(ctx); err != nil {
		return done, err
	}
	expired, err := Expire(ctx, t, x)
	done.Images += expired.Images
	done.Downloads = expired.Downloads
	if err != nil {
		return done, err
	}
	if done.Builds, err = cleanBuilds(t.State.Path("builds"), t.Now().Add(-buildsMaxAge)); err != nil {
		return done, err
	}
	gone, err := t.Repo.Collect(ctx, t.Now())
	done.RepoFiles = gone.Generations + gone.Indexes + gone.PoolFiles
	return done, err
}

// cleanBuilds removes the directories of builds that ended before a moment.
// One without a result belongs to a build under way, or to one that was killed;
// its last change tells how old it is.
func cleanBuilds(dir string, before time.Time) (int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, e := range entries {
		fi, err := e.Info()
		if err != nil || !fi.IsDir() || fi.ModTime().After(before) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
