package repo

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dbuild/internal/fault"
	"dbuild/sign"
)

// signer is a key that may keep its user waiting, fail, or expire.
type signer struct {
	*sign.Key
	asked  chan struct{} // closed when it is first asked
	answer chan error    // what it does; closed: signs
	expiry sign.Expiry
	count  atomic.Int32
}

func newSigner(t testing.TB) *signer {
	return &signer{Key: key(t), asked: make(chan struct{}), answer: make(chan error)}
}

// failing is a signer that fails each time.
func failing(t testing.TB) *signer {
	s := newSigner(t)
	go func() {
		for {
			select {
			case s.answer <- errNoSignature:
			case <-t.Context().Done():
				return
			}
		}
	}()
	return s
}

var errNoSignature = errors.New("the card was pulled")

func (s *signer) Expiry() sign.Expiry { return s.expiry }

func (s *signer) Sign(ctx context.Context, form sign.Form, data []byte, at time.Time) ([]byte, error) {
	if s.count.Add(1) == 1 {
		close(s.asked)
	}
	select {
	case err := <-s.answer:
		if err != nil {
			return nil, err
		}
		return s.Key.Sign(ctx, form, data, at)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// with is the same repository in another process, with another signer.
func (e *env) with(t testing.TB, s sign.Signer) *env {
	t.Helper()
	db := openDB(t, filepath.Join(e.state, "dbuild.db"))
	r, err := Open(t.Context(), e.Dir(), db, s, Options{Now: e.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	r.sleep = e.clock.sleep
	return &env{r, e.state, e.clock, db}
}

// tick lets a generation come at once.
func (e *env) tick() { _ = e.clock.sleep(context.Background(), time.Second) }

// noDrafts fails the test if a draft is left.
func (e *env) noDrafts(t testing.TB) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(e.Dir(), "dists", "*_draft.*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q (%v)", left, err)
	}
}

// slow publishes with a signer that keeps it waiting, and returns when the
// signer is asked. Answer ends that; done is how it ended.
func (e *env) slow(t testing.TB, u Upload) (answer func(), done <-chan error) {
	t.Helper()
	s := newSigner(t)
	other := e.with(t, s)
	ended := make(chan error, 1)
	go func() {
		_, err := other.Publish(t.Context(), u)
		ended <- err
	}()
	select {
	case <-s.asked:
	case err := <-ended:
		t.Fatalf("it did not sign: %v", err)
	}
	return func() { close(s.answer) }, ended
}

// Who publishes does not wait for the keys of another, and takes its change
// along; that one finds it done.
func TestSlowSignerBlocksNobody(t *testing.T) {
	e := newEnv(t)
	e.publish(t, versionUpload(t, "1"))
	e.tick()
	answer, done := e.slow(t, versionUpload(t, "2"))
	if p := e.publish(t, versionUpload(t, "3")); p.Generation != 2 {
		t.Errorf("published: %+v", p)
	}
	if _, err := e.Collect(t.Context(), e.clock.now()); err != nil {
		t.Fatal(err)
	}
	if l := look(t, e.Dir(), "bookworm"); len(l) != 3 {
		t.Errorf("listing: %v", l)
	}
	answer()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if g, err := e.current("bookworm"); err != nil || g.n != 2 {
		t.Errorf("generation %d, %v", g.n, err)
	}
	look(t, e.Dir(), "bookworm")
	e.noDrafts(t)
}

// A draft is overtaken by a generation that was drafted before, too, and lacks
// its change: it is made again.
func TestOvertakenDraftIsMadeAgain(t *testing.T) {
	e := newEnv(t)
	e.publish(t, versionUpload(t, "1"))
	e.tick()
	answerFirst, first := e.slow(t, versionUpload(t, "2"))
	answerSecond, second := e.slow(t, versionUpload(t, "3"))
	answerFirst()
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	if l := look(t, e.Dir(), "bookworm"); len(l) != 2 {
		t.Errorf("listing of the first: %v", l)
	}
	answerSecond()
	if err := <-second; err != nil {
		t.Fatal(err)
	}
	if l := look(t, e.Dir(), "bookworm"); len(l) != 3 {
		t.Errorf("listing of both: %v", l)
	}
	e.noDrafts(t)
}

// A publish whose keys do not sign ends with an error, changes nothing that
// clients see, and loses nothing: what it brought is in the next generation.
func TestFailedSignature(t *testing.T) {
	for _, tt := range []struct {
		name  string
		key   func(*testing.T) *signer
		class fault.Class
		text  string
	}{
		{"fails", func(t *testing.T) *signer { return failing(t) }, fault.Trust, errNoSignature.Error()},
		{"takes too long", func(t *testing.T) *signer { return newSigner(t) }, fault.Timeout, "no signature within 30ms"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEnv(t)
			e.publish(t, versionUpload(t, "1"))
			e.tick()
			before := snapshot(t, filepath.Join(e.Dir(), "dists", "bookworm"))
			other := e.with(t, tt.key(t))
			other.signWithin = 30 * time.Millisecond
			_, err := other.Publish(t.Context(), versionUpload(t, "2"))
			if fault.ClassOf(err) != tt.class || !strings.Contains(err.Error(), tt.text) || fault.HintOf(err) != "dbuild repo publish bookworm" {
				t.Errorf("class %q, hint %q: %v", fault.ClassOf(err), fault.HintOf(err), err)
			}
			if now := snapshot(t, filepath.Join(e.Dir(), "dists", "bookworm")); len(now) != len(before) {
				t.Error("clients see something else")
			}
			e.noDrafts(t)
			if _, err := e.Collect(t.Context(), e.clock.now()); err != nil {
				t.Fatal(err)
			}
			if n, _, err := e.Settle(t.Context(), "bookworm"); err != nil || n != 2 {
				t.Errorf("settled generation %d, %v", n, err)
			}
			if l := look(t, e.Dir(), "bookworm"); len(l) != 2 {
				t.Errorf("listing: %v", l)
			}
		})
	}
}

// A removal that was not signed can be asked for again.
func TestRemovalThatWaits(t *testing.T) {
	e := newEnv(t)
	e.publish(t, versionUpload(t, "1"))
	e.tick()
	sel := Selection{Suite: "bookworm", Names: []string{"hello"}}
	if _, err := e.with(t, failing(t)).Remove(t.Context(), sel); !errors.Is(err, errNoSignature) {
		t.Fatal(err)
	}
	if _, err := e.Remove(t.Context(), Selection{Suite: "bookworm", Names: []string{"hello", "other"}}); fault.ClassOf(err) != fault.Usage {
		t.Errorf("a name that nothing has: %v", err)
	}
	removed, err := e.Remove(t.Context(), sel)
	if err != nil || len(removed) != 1 {
		t.Errorf("removed %v, %v", removed, err)
	}
	if l := look(t, e.Dir(), "bookworm"); len(l) != 0 {
		t.Errorf("listing: %v", l)
	}
}

// What is recorded while a draft waits to be signed is not in it, and neither
// lost nor taken for shown, whether or not the draft's maker lives to record
// that it is shown.
func TestRecordedWhileAnotherSigns(t *testing.T) {
	for _, dies := range []bool{false, true} {
		e := newEnv(t)
		e.publish(t, versionUpload(t, "1"))
		e.tick()
		s := newSigner(t)
		slow := e.with(t, s)
		shown := false
		slow.before = func(op, path string) error {
			shown = shown || op == "rename" && path == "dists/bookworm"
			if dies && shown && op == "sync" {
				return errStopped
			}
			return nil
		}
		done := make(chan error, 1)
		go func() {
			_, err := slow.Publish(t.Context(), versionUpload(t, "2"))
			done <- err
		}()
		<-s.asked
		// It is neither kept waiting, nor do its keys sign.
		if _, err := e.with(t, failing(t)).Remove(t.Context(), Selection{Suite: "bookworm", Names: []string{"hello"}}); !errors.Is(err, errNoSignature) {
			t.Fatal(err)
		}
		if _, err := e.Collect(t.Context(), e.clock.now().Add(48*time.Hour)); err != nil {
			t.Fatal(err)
		}
		close(s.answer)
		if err := <-done; dies != errors.Is(err, errStopped) {
			t.Fatal(err)
		}
		if l := look(t, e.Dir(), "bookworm"); len(l) != 2 {
			t.Errorf("listing of the draft: %v", l)
		}
		if p := e.publish(t, versionUpload(t, "3")); p.Generation != 3 {
			t.Errorf("published: %+v", p)
		}
		if l := look(t, e.Dir(), "bookworm"); len(l) != 1 {
			t.Errorf("listing after the removal: %v", l)
		}
		e.noDrafts(t)
	}
}

// A change that somebody is about to show is not drafted and signed twice.
func TestChangeIsSignedOnce(t *testing.T) {
	e := newEnv(t)
	e.publish(t, versionUpload(t, "1"))
	e.tick()
	answer, done := e.slow(t, versionUpload(t, "2"))
	idle := newSigner(t)
	other := e.with(t, idle)
	other.handover = time.Minute
	same := make(chan error, 1)
	go func() {
		_, err := other.Publish(t.Context(), versionUpload(t, "2"))
		same <- err
	}()
	time.Sleep(50 * time.Millisecond) // it makes the test stricter, not slower machines fail it
	answer()
	if err := errors.Join(<-done, <-same); err != nil {
		t.Error(err)
	}
	if n := idle.count.Load(); n != 0 {
		t.Errorf("signed %d times more", n)
	}
}

// A rebuild of the database forgets what waits, and tells those who wait.
func TestRebuildWhileAnotherSigns(t *testing.T) {
	e := newEnv(t)
	e.publish(t, versionUpload(t, "1"))
	e.tick()
	answer, done := e.slow(t, versionUpload(t, "2"))
	said := &notes{}
	e.report = warnOnly{said}
	if err := e.Rebuild(t.Context()); err != nil || len(said.warn) != 1 {
		t.Fatal(err, said.warn)
	}
	answer()
	if err := <-done; fault.ClassOf(err) != fault.Locked || fault.HintOf(err) == "" {
		t.Errorf("class %q: %v", fault.ClassOf(err), err)
	}
	if l := look(t, e.Dir(), "bookworm"); len(l) != 1 {
		t.Errorf("listing: %v", l)
	}
	e.publish(t, versionUpload(t, "2"))
	if l := look(t, e.Dir(), "bookworm"); len(l) != 2 {
		t.Errorf("listing after the second try: %v", l)
	}
	e.noDrafts(t)
}

func TestKeysThatExpire(t *testing.T) {
	now := time.Now().Add(-time.Hour) // the clock of a new env
	signing := func(expiry time.Time) *signer {
		s := newSigner(t)
		s.expiry = sign.Expiry{At: expiry, Mend: "mend it"}
		close(s.answer)
		return s
	}
	for _, tt := range []struct {
		name        string
		own         time.Time
		also        time.Time
		class       fault.Class
		warnings    int
		withoutAlso bool
	}{
		{"far away", now.AddDate(0, 0, 40), now.AddDate(1, 0, 0), fault.OK, 0, false},
		{"never", time.Time{}, time.Time{}, fault.OK, 0, false},
		{"soon", now.AddDate(0, 0, 20), now.AddDate(0, 0, 20), fault.OK, 2, false},
		{"over", now.AddDate(0, 0, -1), time.Time{}, fault.Trust, 0, false},
		{"the key before is over", time.Time{}, now.AddDate(0, 0, -1), fault.OK, 1, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			said := &notes{}
			before, err := sign.Generate("the one before", time.Now().AddDate(0, 0, -2))
			if err != nil {
				t.Fatal(err)
			}
			also := signing(tt.also)
			also.Key = before
			e := newEnv(t)
			r, err := Open(t.Context(), e.Dir(), e.db, signing(tt.own), Options{Now: e.clock.now, Report: warnOnly{said}, Also: []sign.Signer{also}})
			if err != nil {
				t.Fatal(err)
			}
			r.sleep, said.warn = e.clock.sleep, nil
			for _, v := range []string{"1", "2"} { // once is enough
				_, err = r.Publish(t.Context(), versionUpload(t, v))
			}
			if fault.ClassOf(err) != tt.class || err != nil && fault.HintOf(err) != "mend it, or another key: dbuild repo key rotate" {
				t.Errorf("class %q, hint %q: %v", fault.ClassOf(err), fault.HintOf(err), err)
			}
			if len(said.warn) != tt.warnings {
				t.Errorf("warnings: %q", said.warn)
			}
			if tt.withoutAlso != (also.count.Load() == 0) && err == nil {
				t.Errorf("the key before signed %d times", also.count.Load())
			}
		})
	}
}
