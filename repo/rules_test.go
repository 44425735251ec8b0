package repo

import (
	"errors"
	"strings"
	"testing"
	"time"

	"dbuild/internal/fault"
)

func (e *env) rules(t testing.TB, fn func(*Suite)) {
	t.Helper()
	err := e.ChangeSuite(t.Context(), "bookworm", func(s *Suite) error { fn(s); return nil })
	if err != nil {
		t.Fatal(err)
	}
}

func (e *env) cur(t testing.TB) generation {
	t.Helper()
	cur, err := e.current("bookworm")
	if err != nil {
		t.Fatal(err)
	}
	return cur
}

// What may change of a suite is in its next generation; its identity stays.
func TestChangeSuite(t *testing.T) {
	e := newEnv(t)
	if err := e.ChangeSuite(t.Context(), "bookworm", func(*Suite) error { return nil }); fault.ClassOf(err) != fault.Usage {
		t.Errorf("a suite that does not exist: %v", err)
	}
	publishSome(t, e)
	want := look(t, e.Dir(), "bookworm")
	before := e.cur(t)
	e.rules(t, func(s *Suite) { s.Description, s.Immutable, s.Components = "another", true, []string{"contrib"} })
	after := e.cur(t)
	if after.n != before.n+1 || after.release.Description != "another" {
		t.Errorf("generation %d after %d, %+v", after.n, before.n, after.release)
	}
	if got := strings.Join(after.release.Components, " "); got != "contrib main" {
		t.Errorf("Components: %s", got)
	}
	if got := look(t, e.Dir(), "bookworm"); len(got) != len(want) {
		t.Errorf("listing: %v", got)
	}
	suites, err := e.Suites()
	if err != nil || len(suites) != 1 || !suites[0].Immutable {
		t.Errorf("%+v, %v", suites, err)
	}
	e.rules(t, func(s *Suite) { s.Description, s.Immutable = "another", true })
	if e.cur(t).n != after.n {
		t.Error("the same rules made a generation")
	}
	for name, fn := range map[string]func(*Suite){
		"origin": func(s *Suite) { s.Origin = "Other" },
		"name":   func(s *Suite) { s.Name = "sid" },
		"days":   func(s *Suite) { s.ValidDays = -1 },
		"debug":  func(s *Suite) { s.Debug = "elsewhere" },
	} {
		err := e.ChangeSuite(t.Context(), "bookworm", func(s *Suite) error { fn(s); return nil })
		if fault.ClassOf(err) != fault.Usage {
			t.Errorf("%s: %v", name, err)
		}
	}
	stop := errors.New("stop")
	if err := e.ChangeSuite(t.Context(), "bookworm", func(*Suite) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
	if e.cur(t).n != after.n {
		t.Error("a refused change made a generation")
	}
}

// A suite with a limited time is signed again after half of it, by Renew or by
// whatever is published, and not before.
func TestValidUntilIsRenewed(t *testing.T) {
	e := newEnv(t)
	e.clock.time = time.Now().Add(-47 * time.Hour)
	u := upload(t, "2.10-3", pkg{}.build(t))
	e.publish(t, u)
	if !e.cur(t).release.ValidUntil.IsZero() {
		t.Error("valid for a time only, without a rule")
	}
	e.rules(t, func(s *Suite) { s.ValidDays = 1 })
	first := e.cur(t)
	if got := first.release.ValidUntil.Sub(first.release.Date); got != 24*time.Hour {
		t.Errorf("valid for %v", got)
	}
	for _, tt := range []struct {
		hours time.Duration
		renew bool
	}{{11, false}, {2, true}, {3, false}, {15, true}} {
		e.clock.time = e.clock.time.Add(tt.hours * time.Hour)
		before := e.cur(t)
		renewed, err := e.Renew(t.Context(), "bookworm")
		if err != nil || renewed != tt.renew || (e.cur(t).n > before.n) != tt.renew {
			t.Errorf("after %d more hours: renewed %v, %v", tt.hours, renewed, err)
		}
	}
	before := e.cur(t)
	e.clock.time = e.clock.time.Add(2 * time.Hour)
	e.publish(t, u)
	if e.cur(t).n != before.n {
		t.Error("renewed too early")
	}
	e.clock.time = e.clock.time.Add(11 * time.Hour)
	if p := e.publish(t, u); !p.Unchanged || e.cur(t).n == before.n {
		t.Errorf("published: %+v", p)
	}
	look(t, e.Dir(), "bookworm")
	e.rules(t, func(s *Suite) { s.ValidDays = 0 })
	if !e.cur(t).release.ValidUntil.IsZero() {
		t.Error("still valid for a time only")
	}
}

// A renewal that comes within the second of the last generation waits for it.
func TestRenewWaitsForItsSecond(t *testing.T) {
	e := newEnv(t)
	publishSome(t, e)
	e.clock.time = e.cur(t).release.Date
	e.rules(t, func(s *Suite) { s.ValidDays = 5 })
	if e.clock.slept == 0 || e.clock.slept > 2*time.Second {
		t.Errorf("slept %v", e.clock.slept)
	}
	if e.cur(t).release.ValidUntil.IsZero() {
		t.Error("no Valid-Until")
	}
}
