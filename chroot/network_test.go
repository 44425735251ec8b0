package chroot

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dbuild/agent"
	"dbuild/archive"
	"dbuild/engine"
	"dbuild/engine/native"
	"dbuild/internal/fault"
	"dbuild/internal/testenv"
	"dbuild/internal/tree"
)

func TestMain(m *testing.M) {
	agent.MaybeMain() // does not return when this process is a container's first
	os.Exit(m.Run())
}

// realSuites are bootstrapped from the mirror that the host's apt uses. Sid's
// Release there may be past its Valid-Until, which is not what is tested here.
var realSuites = []string{"trixie", "bookworm", "bullseye", "sid"}

// needBootstrap skips the test unless it may use root, the mirror and all the
// time that this takes.
func needBootstrap(t *testing.T) {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.NeedNetwork(t)
	testenv.NeedUserNamespaces(t)
	if testing.Short() {
		t.Skip("takes minutes; run without -short")
	}
}

// realOptions brings a suite up to date and opens an engine, both for this test
// alone.
func realOptions(t *testing.T, name string) Options {
	t.Helper()
	suite, err := archive.FindSuite(name)
	if err != nil {
		t.Fatal(err)
	}
	sources, err := suite.Sources(archive.SourceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := archive.Open(filepath.Join(t.TempDir(), "archive"), archive.Options{AllowExpired: true})
	if err != nil {
		t.Fatal(err)
	}
	states, err := c.Update(context.Background(), sources)
	if err != nil {
		t.Fatal(err)
	}
	e, err := native.Open(context.Background(), native.Options{Dir: filepath.Join(t.TempDir(), "images"), State: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return Options{Suite: suite, States: states, Copy: c, Engine: e, Arch: "amd64", Epoch: time.Unix(1700000000, 0)}
}

// bootstrapTar makes a base and returns its canonical tar and digest.
func bootstrapTar(t *testing.T, o Options) (tarPath string, digest tree.Digest, res Result) {
	t.Helper()
	ctx := context.Background()
	res, err := Create(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, lap := range res.Timings {
		t.Logf("%s %s: %.2f s", o.Suite.Name, lap.Step, lap.Seconds)
	}
	tarPath = filepath.Join(t.TempDir(), "base.tar")
	f, err := os.Create(tarPath)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	for _, step := range []func() error{
		func() error { return o.Engine.Export(ctx, res.Image.ID, w) }, w.Flush, f.Close,
		func() (err error) { digest, err = o.Engine.Digest(ctx, res.Image.ID); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	return tarPath, digest, res
}

func TestEqualsMmdebstrap(t *testing.T) {
	needBootstrap(t)
	mmdebstrap := testenv.NeedProgram(t, "mmdebstrap")
	for _, suite := range realSuites {
		t.Run(suite, func(t *testing.T) {
			o := realOptions(t, suite)
			theirs := filepath.Join(t.TempDir(), "mmdebstrap.tar")
			runMmdebstrap(t, mmdebstrap, o, theirs)
			ours, _, res := bootstrapTar(t, o)
			wrong, allowed := compareTrees(suite, readTree(t, suite, ours), readTree(t, suite, theirs))
			for _, line := range wrong {
				t.Error(line)
			}
			for _, line := range allowed {
				t.Log(line)
			}
			checkInside(t, o.Engine, res.Image.ID)
		})
	}
}

// runMmdebstrap bootstraps from the same sources, with the same epoch. The
// configuration that lets apt take an expired Release ends with the run.
func runMmdebstrap(t *testing.T, program string, o Options, out string) {
	t.Helper()
	var sources strings.Builder
	for _, st := range o.States {
		s := st.Source
		fmt.Fprintf(&sources, "deb [signed-by=%s] %s %s %s\n", s.Keyrings[0], s.URL, s.Suite, strings.Join(s.Components, " "))
	}
	cmd := exec.Command(program, "--variant=buildd", "--mode=root", "--architectures="+o.Arch,
		`--setup-hook=echo 'Acquire::Check-Valid-Until "false";' >>"$MMDEBSTRAP_APT_CONFIG"`,
		o.Suite.Name, out, "-")
	cmd.Env = append(os.Environ(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", o.Epoch.Unix()))
	cmd.Stdin = strings.NewReader(sources.String())
	start := time.Now()
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mmdebstrap: %v\n%s", err, text[max(0, len(text)-2000):])
	}
	t.Logf("%s mmdebstrap: %.2f s", o.Suite.Name, time.Since(start).Seconds())
}

// checkInside lets the base's own tools judge it.
func checkInside(t *testing.T, e engine.Engine, image engine.ImageID) {
	t.Helper()
	ctx := context.Background()
	c, err := e.Create(ctx, engine.Spec{Image: image, Purpose: engine.PurposeDeps, Network: engine.NetworkNone, Hostname: "test", Arch: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(ctx); err != nil {
			t.Error(err)
		}
	}()
	for _, tt := range []struct{ command, want string }{
		{"dpkg --audit", ""},
		{"dpkg --verify", ""},
		{"apt-get -qq check", ""},
		{"getent passwd builder", "builder:x:1234:1234::/nonexistent:/bin/sh\n"},
		{"getent shadow builder | cut -d: -f2", "*\n"},
		{"getent group builder", "builder:x:1234:\n"},
		{"ls /usr/sbin/policy-rc.d /var/lib/dpkg/tmp.ci /var/lib/dpkg/dbuild-preinst 2>/dev/null || true", ""},
		{"stat -c %a:%U /root /var/mail /var/tmp", "700:root\n2775:root\n1777:root\n"},
		{"printf 'int main(void){return 0;}' | gcc -x c -o /root/a - && /root/a && echo built", "built\n"},
	} {
		var out strings.Builder
		exit, err := c.Run(ctx, engine.Step{Argv: []string{"/bin/sh", "-c", tt.command}, Env: scriptEnv(time.Unix(0, 0)), Stdout: &out})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, out.String()); !exit.OK() || diff != "" {
			t.Errorf("%s: %+v; -want +got\n%s", tt.command, exit, diff)
		}
	}
}

// The result must not depend on the number of workers, nor on who else uses
// the machine.
func TestSameEveryTime(t *testing.T) {
	needBootstrap(t)
	o := realOptions(t, "trixie")
	var first string
	var want tree.Digest
	for i, workers := range []int{2, 1, 3, 2} {
		o.Workers = workers
		stop := func() {}
		if i > 1 {
			stop = burn()
		}
		path, digest, res := bootstrapTar(t, o)
		stop()
		if err := o.Engine.Remove(context.Background(), res.Image.ID); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first, want = path, digest
			continue
		}
		if digest != want {
			t.Errorf("%d workers: digest %s, want %s", workers, digest, want)
		}
		if !sameBytes(t, first, path) {
			t.Errorf("%d workers: another tar", workers)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// A bootstrap that is interrupted ends soon and leaves neither container nor
// image.
func TestCancelledBootstrap(t *testing.T) {
	needBootstrap(t)
	o := realOptions(t, "trixie")
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	start := time.Now()
	_, err := Create(ctx, o)
	if fault.ClassOf(err) != fault.Timeout {
		t.Fatalf("got %v (%s)", err, fault.ClassOf(err))
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("ended after %s", took)
	}
	if images, err := o.Engine.Images(context.Background()); err != nil || len(images) != 0 {
		t.Errorf("images %v, %v", images, err)
	}
	if n, err := o.Engine.Reap(context.Background()); err != nil || n != 0 {
		t.Errorf("%d leftovers, %v", n, err)
	}
}

// burn keeps four threads busy until the returned function is called.
func burn() (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for n := 0; ; n++ {
				if n%1_000_000 == 0 {
					select {
					case <-done:
						return
					default:
					}
				}
			}
		})
	}
	return func() {
		close(done)
		wg.Wait()
	}
}

func sameBytes(t *testing.T, a, b string) bool {
	t.Helper()
	open := func(path string) *bufio.Reader {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return bufio.NewReaderSize(f, 1<<20)
	}
	ra, rb := open(a), open(b)
	for {
		ca, errA := ra.ReadByte()
		cb, errB := rb.ReadByte()
		if ca != cb || errA != errB {
			return false
		}
		if errA == io.EOF {
			return true
		}
	}
}
