package buildenv

import (
	"context"
	"errors"
	"os"
	"time"

	"dbuild/cache"
	"dbuild/internal/lock"
)

// Expiry bounds what the state keeps for later builds. Zero fields set no
// bound.
type Expiry struct {
	CacheSize int64         // bytes of all layers of images together
	Age       time.Duration // since the last use, of images and of downloaded files
}

// DefaultAge is how long an image or a downloaded file is kept that no build
// uses.
const DefaultAge = 30 * 24 * time.Hour

// expireEvery is how often a build looks for what has expired.
const expireEvery = time.Hour

// Expired counts what [Expire] removed.
type Expired struct {
	Images    int
	Downloads int
}

// Expire removes images and downloaded files that were not used for a time, and
// those images used longest ago that do not fit the budget. What is in use
// stays, and so does the newest base of each suite.
func Expire(ctx context.Context, t Tools, x Expiry) (Expired, error) {
	images, err := t.Cache.Expire(ctx, cache.Limits{MaxAge: x.Age, MaxSize: x.CacheSize})
	done := Expired{Images: len(images)}
	if err != nil || x.Age == 0 {
		return done, err
	}
	done.Downloads, _, err = t.Archive.Expire(ctx, x.Age)
	return done, err
}

// expireSometimes runs [Expire] at the end of a build, at most once an hour for
// all processes of the state. What goes wrong is said, but the build is done.
func expireSometimes(ctx context.Context, t Tools, x Expiry) {
	if ctx.Err() != nil || x == (Expiry{}) {
		return
	}
	l, err := claimTurn(t.State.Path("locks", "expire"), t.Now())
	if err == nil && l != nil {
		var done Expired
		done, err = Expire(ctx, t, x)
		if done.Images > 0 {
			t.Observer.Note("%d images had expired", done.Images)
		}
		err = errors.Join(err, l.Unlock())
	}
	if err != nil {
		t.Observer.Warn("look for expired images: %v", err)
	}
}

// claimTurn returns the lock of a file if the last turn is long enough ago, and
// nil if it is not or another process has it. The time of the file is that of
// the turn.
func claimTurn(path string, now time.Time) (*lock.Lock, error) {
	l, ok, err := lock.TryAcquire(path, lock.Exclusive)
	if err != nil || !ok {
		return nil, err
	}
	info, err := os.Stat(path)
	if err == nil && now.Sub(info.ModTime()) >= expireEvery {
		if err = os.Chtimes(path, now, now); err == nil {
			return l, nil
		}
	}
	return nil, errors.Join(err, l.Unlock())
}
