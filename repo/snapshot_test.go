package repo

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dbuild/internal/fault"
)

func TestCopyIsTheSameFiles(t *testing.T) {
	e := newEnv(t)
	publishSome(t, e)
	if err := e.CreateSuite(t.Context(), Suite{Name: "stable", Rules: Rules{Immutable: true}}); err != nil {
		t.Fatal(err)
	}
	c := Copying{Selection: Selection{Suite: "bookworm", Names: []string{"hello=2.10-3"}, BySource: true}, To: "stable"}
	copied, err := e.Copy(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if len(copied) < 2 || copied[0].Suite != "stable" {
		t.Errorf("copied %q", short(copied))
	}
	from, to := look(t, e.Dir(), "bookworm"), look(t, e.Dir(), "stable")
	for name, sum := range to {
		if from[name] != sum {
			t.Errorf("%s is not the same", name)
		}
	}
	if len(to) == 0 || len(to) >= len(from) {
		t.Errorf("copied %d of %d", len(to), len(from))
	}
	// Again, nothing happens.
	g, err := e.current("stable")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Copy(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if again, err := e.current("stable"); err != nil || again.n != g.n {
		t.Errorf("generation %d, then %d, %v", g.n, again.n, err)
	}
	// The first suite may lose it: the files stay.
	if _, err := e.Remove(t.Context(), c.Selection); err != nil {
		t.Fatal(err)
	}
	e.expireAll(t)
	if diff := cmp.Diff(to, look(t, e.Dir(), "stable")); diff != "" {
		t.Errorf("after the collection (-want +got):\n%s", diff)
	}
	if err := e.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v, err := e.Verify(t.Context()); err != nil || len(v.Findings) > 0 {
		t.Errorf("verify: %+v, %v", v, err)
	}
}

// expireAll collects as if the grace of all that is superseded were over.
func (e *env) expireAll(t *testing.T) {
	t.Helper()
	keep := e.keep
	e.keep = -1
	if _, err := e.Collect(t.Context(), e.clock.now().Add(e.grace+time.Hour)); err != nil {
		t.Fatal(err)
	}
	e.keep = keep
}

func TestCopyKeepsTheRulesOfTheSuite(t *testing.T) {
	e := newEnv(t)
	publishSome(t, e)
	if err := e.CreateSuite(t.Context(), Suite{Name: "stable", Rules: Rules{Immutable: true}}); err != nil {
		t.Fatal(err)
	}
	other := upload(t, "2.10-3", pkg{content: "other bytes"}.build(t))
	other.Suite = "stable"
	e.publish(t, other)
	before := look(t, e.Dir(), "stable")
	_, err := e.Copy(t.Context(), Copying{Selection: Selection{Suite: "bookworm", Names: []string{"hello=2.10-3"}}, To: "stable"})
	var rejected *RejectedError
	if !errors.As(err, &rejected) || !slices.ContainsFunc(rejected.Problems, func(p Problem) bool { return p.Code == CodeImmutable }) {
		t.Errorf("other bytes: %v", err)
	}
	if diff := cmp.Diff(before, look(t, e.Dir(), "stable")); diff != "" {
		t.Errorf("refused, but (-want +got):\n%s", diff)
	}
	for _, c := range []Copying{
		{Selection: Selection{Suite: "bookworm", Names: []string{"nothing"}}, To: "stable"},
		{Selection: Selection{Suite: "bookworm", Names: []string{"hello"}}, To: "nowhere"},
		{Selection: Selection{Suite: "bookworm", Names: []string{"hello"}}, To: "bookworm"},
		{Selection: Selection{Suite: "nowhere", Names: []string{"hello"}}, To: "stable"},
	} {
		if _, err := e.Copy(t.Context(), c); fault.ClassOf(err) != fault.Usage {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestSnapshotNeverChanges(t *testing.T) {
	e := newEnv(t)
	up := publishSome(t, e)
	want := look(t, e.Dir(), "bookworm")
	if err := e.Snapshot(t.Context(), "bookworm", "bookworm-1"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, look(t, e.Dir(), "bookworm-1")); diff != "" {
		t.Fatalf("snapshot (-want +got):\n%s", diff)
	}
	if _, err := e.Remove(t.Context(), Selection{Suite: "bookworm", Names: []string{"hello"}}); err != nil {
		t.Fatal(err)
	}
	e.expireAll(t)
	if diff := cmp.Diff(want, look(t, e.Dir(), "bookworm-1")); diff != "" {
		t.Errorf("later (-want +got):\n%s", diff)
	}
	up.Suite = "bookworm-1"
	_, publish := e.Publish(t.Context(), up)
	_, remove := e.Remove(t.Context(), Selection{Suite: "bookworm-1", Names: []string{"hello"}})
	_, cp := e.Copy(t.Context(), Copying{Selection: Selection{Suite: "bookworm", Names: []string{"hello-doc"}}, To: "bookworm-1"})
	_, _, rollback := e.Rollback(t.Context(), "bookworm-1", 0, "bookworm")
	for what, err := range map[string]error{
		"publish": publish, "remove": remove, "copy": cp, "rollback": rollback,
		"name taken": e.Snapshot(t.Context(), "bookworm", "bookworm-1"), "name of a suite": e.Snapshot(t.Context(), "bookworm", "bookworm"),
		"no name": e.Snapshot(t.Context(), "bookworm", "../x"),
	} {
		if fault.ClassOf(err) != fault.Usage {
			t.Errorf("%s: %v", what, err)
		}
	}
	if diff := cmp.Diff(want, look(t, e.Dir(), "bookworm-1")); diff != "" {
		t.Errorf("at last (-want +got):\n%s", diff)
	}
	// The rows come back from its own indexes.
	if err := e.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := e.list(t, Query{Suite: "bookworm-1"}); len(got) != 6 {
		t.Errorf("after a rebuild: %q", got)
	}
}

func TestRollback(t *testing.T) {
	e := newEnv(t)
	publishSome(t, e)
	full := look(t, e.Dir(), "bookworm")
	before, err := e.current("bookworm")
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Snapshot(t.Context(), "bookworm", "bookworm-1"); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Remove(t.Context(), Selection{Suite: "bookworm", Names: []string{"hello"}}); err != nil {
		t.Fatal(err)
	}
	less := look(t, e.Dir(), "bookworm")
	gone, back, err := e.Rollback(t.Context(), "bookworm", 0, "")
	if err != nil {
		t.Fatal(err)
	}
	if len(gone) != 0 || len(back) == 0 {
		t.Errorf("gone %q, back %q", short(gone), short(back))
	}
	if diff := cmp.Diff(full, look(t, e.Dir(), "bookworm")); diff != "" {
		t.Errorf("rolled back (-want +got):\n%s", diff)
	}
	after, err := e.current("bookworm")
	if err != nil || !after.release.Date.After(before.release.Date) || after.n != before.n+2 {
		t.Errorf("generation %d of %s after %d of %s", after.n, after.release.Date, before.n, before.release.Date)
	}
	// To the one in between, and from there to the snapshot.
	if _, _, err := e.Rollback(t.Context(), "bookworm", before.n+1, ""); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(less, look(t, e.Dir(), "bookworm")); diff != "" {
		t.Errorf("to a number (-want +got):\n%s", diff)
	}
	e.expireAll(t)
	if _, _, err := e.Rollback(t.Context(), "bookworm", before.n, ""); fault.ClassOf(err) != fault.Usage {
		t.Errorf("to one that was collected: %v", err)
	}
	if _, _, err := e.Rollback(t.Context(), "bookworm", 0, "bookworm-1"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(full, look(t, e.Dir(), "bookworm")); diff != "" {
		t.Errorf("to a snapshot (-want +got):\n%s", diff)
	}
	all, err := e.Generations(t.Context(), "bookworm")
	if err != nil || len(all) < 1 || !all[0].Current {
		t.Errorf("generations: %+v, %v", all, err)
	}
}

// What was recorded and waits for its second has files in the pool that no
// generation lists yet.
func TestCollectKeepsWhatIsPending(t *testing.T) {
	e := newEnv(t)
	publishSome(t, e)
	e.Repo.sleep = func(ctx context.Context, _ time.Duration) error { return errStopped }
	e.clock.time = e.clock.time.Truncate(time.Second) // the second of the last generation
	if _, err := e.Publish(t.Context(), upload(t, "5-1", pkg{version: "5-1", content: "pending"}.build(t))); !errors.Is(err, errStopped) {
		t.Fatalf("it did not wait: %v", err)
	}
	e.Repo.sleep = e.clock.sleep
	e.expireAll(t)
	if _, _, err := e.Settle(t.Context(), "bookworm"); err != nil {
		t.Fatal(err)
	}
	look(t, e.Dir(), "bookworm")
	if found := e.list(t, Query{Names: []string{"hello"}}); !slices.Contains(found, "hello 5-1 bookworm amd64") {
		t.Errorf("lost: %q", found)
	}
}

func TestResign(t *testing.T) {
	e := newEnv(t)
	publishSome(t, e)
	want := look(t, e.Dir(), "bookworm")
	cur, err := e.current("bookworm")
	if err != nil {
		t.Fatal(err)
	}
	n, date, err := e.Resign(t.Context(), "bookworm")
	if err != nil || n != cur.n+1 || !date.After(cur.release.Date) {
		t.Errorf("generation %d of %s, %v", n, date, err)
	}
	if diff := cmp.Diff(want, look(t, e.Dir(), "bookworm")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n, _, err = e.Settle(t.Context(), "bookworm"); err != nil || n != cur.n+1 {
		t.Errorf("nothing is due: generation %d, %v", n, err)
	}
}
