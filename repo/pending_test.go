package repo

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// versionUpload is an upload of one version of hello.
func versionUpload(t testing.TB, v string) Upload {
	t.Helper()
	u := upload(t, v, pkg{version: v}.build(t))
	u.Build = "build-" + v
	return u
}

// Uploads that come within a second become one generation, also when they are
// of different processes.
func TestUploadsWithinASecondCoalesce(t *testing.T) {
	e := newEnv(t)
	e.clock.time = e.clock.time.Truncate(time.Second)
	e.publish(t, versionUpload(t, "1"))
	versions := []string{"2", "3", "4", "5", "6"}
	// The second lasts until all uploads are waiting for its end.
	var waiting, done sync.WaitGroup
	waiting.Add(len(versions))
	var once sync.Once
	wait := func(_ context.Context, d time.Duration) error {
		waiting.Done()
		waiting.Wait()
		once.Do(func() { _ = e.clock.sleep(t.Context(), d) })
		return nil
	}
	published := make([]Published, len(versions))
	for i, v := range versions {
		other, err := Open(t.Context(), e.Dir(), openDB(t, filepath.Join(e.state, "dbuild.db")), key(t), Options{Now: e.clock.now})
		if err != nil {
			t.Fatal(err)
		}
		other.sleep = wait
		u := versionUpload(t, v)
		done.Go(func() {
			var err error
			if published[i], err = other.Publish(t.Context(), u); err != nil {
				t.Errorf("version %s: %v", u.Version, err)
			}
		})
	}
	done.Wait()
	for i, p := range published {
		if p.Generation != 2 || p.Unchanged {
			t.Errorf("version %s: %+v", versions[i], p)
		}
	}
	if l := look(t, e.Dir(), "bookworm"); len(l) != 1+len(versions) {
		t.Errorf("listing: %v", l)
	}
}

// stop is a context that ends when an upload starts to wait for its second, as
// if its process were killed there.
func (e *env) stop(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	e.sleep = func(ctx context.Context, _ time.Duration) error {
		cancel()
		return ctx.Err()
	}
	t.Cleanup(cancel)
	return ctx
}

func TestUploadOfAKilledProcessIsNotLost(t *testing.T) {
	for _, tt := range []struct {
		name string
		next string // the version that is published then
		want int
	}{
		{"another upload", "3", 3},
		{"the same upload again", "2", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEnv(t)
			e.clock.time = e.clock.time.Truncate(time.Second)
			e.publish(t, versionUpload(t, "1"))
			u := versionUpload(t, "2")
			if _, err := e.Publish(e.stop(t), u); err == nil {
				t.Fatal("it did not wait")
			}
			if l := look(t, e.Dir(), "bookworm"); len(l) != 1 {
				t.Errorf("listing before: %v", l)
			}
			e.sleep = e.clock.sleep
			if tt.next != u.Version {
				u = versionUpload(t, tt.next)
			}
			if p := e.publish(t, u); p.Generation != 2 {
				t.Errorf("published: %+v", p)
			}
			if l := look(t, e.Dir(), "bookworm"); len(l) != tt.want {
				t.Errorf("listing after: %v", l)
			}
		})
	}
}

// An upload is compared with those that wait as well.
func TestWaitingUploadsAreCompared(t *testing.T) {
	e := newEnv(t)
	e.clock.time = e.clock.time.Truncate(time.Second)
	s := DefaultSuite("bookworm")
	s.Immutable = true
	if err := e.CreateSuite(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Publish(e.stop(t), versionUpload(t, "1")); err == nil {
		t.Fatal("it did not wait")
	}
	e.sleep = e.clock.sleep
	_, err := e.Publish(t.Context(), upload(t, "1", pkg{version: "1", content: "other"}.build(t)))
	if got := codes(err); len(got) != 1 || got[0] != CodeImmutable {
		t.Errorf("other bytes under a name that waits: %v", err)
	}
}

// codes are those of a rejected upload.
func codes(err error) (all []Code) {
	var rejected *RejectedError
	if errors.As(err, &rejected) {
		for _, p := range rejected.Problems {
			all = append(all, p.Code)
		}
	}
	return all
}
