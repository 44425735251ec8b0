package enginetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dbuild/engine"
)

func testSteps(t *testing.T, s *suite) {
	t.Run("exits", s.testExits)
	t.Run("streams", s.testStreams)
	t.Run("as it comes", s.testStreaming)
	t.Run("much output", s.testMuchOutput)
	t.Run("writer fails", s.testWriterFails)
	t.Run("environment", s.testEnvironment)
	t.Run("terminal", s.testTerminal)
	t.Run("background process", s.testBackground)
	t.Run("timeouts", s.testTimeouts)
	t.Run("cancel", s.testCancel)
	t.Run("side by side", s.testSideBySide)
	t.Run("missing command", s.testMissingCommand)
	t.Run("quiesce", s.testQuiesce)
	t.Run("close while running", s.testCloseRunning)
	t.Run("many containers", s.testManyContainers)
}

func tool(args ...string) []string { return append([]string{ToolPath}, args...) }

func (s *suite) testExits(t *testing.T) {
	c := s.container(t, s.spec(engine.PurposeBuild))
	for _, x := range []struct {
		name string
		argv []string
		want engine.Exit
	}{
		{"zero", tool("true"), engine.Exit{}},
		{"one", tool("exit", "1"), engine.Exit{Code: 1}},
		{"255", tool("exit", "255"), engine.Exit{Code: 255}},
		{"SIGKILL", tool("kill-self", "9"), engine.Exit{Code: -1, Signal: 9}},
		{"SIGTERM", tool("kill-self", "15"), engine.Exit{Code: -1, Signal: 15}},
	} {
		t.Run(x.name, func(t *testing.T) {
			got, err := c.Run(t.Context(), engine.Step{Argv: x.argv, User: builder})
			if err != nil || got != x.want {
				t.Errorf("got %+v, %v, want %+v", got, err, x.want)
			}
			if got.OK() != (x.want == engine.Exit{}) {
				t.Errorf("OK is %v", got.OK())
			}
		})
	}
}

func (s *suite) testStreams(t *testing.T) {
	c := s.container(t, s.spec(engine.PurposeBuild))
	script := "echo out\nwarn err\ncat"
	for _, x := range []struct {
		name     string
		separate bool
		out, err string
	}{
		{"joined", false, "out\nerr\n", ""},
		{"separate", true, "out\n", "err\n"},
	} {
		t.Run(x.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			step := engine.Step{Argv: tool("sh"), Stdin: strings.NewReader(script), Stdout: &out, User: builder}
			if x.separate {
				step.Stderr = &errs
			}
			if exit, err := c.Run(t.Context(), step); err != nil || !exit.OK() {
				t.Fatalf("%+v, %v", exit, err)
			}
			if out.String() != x.out || errs.String() != x.err {
				t.Errorf("stdout %q, stderr %q", out.String(), errs.String())
			}
		})
	}
	t.Run("no stdin", func(t *testing.T) {
		if got, _ := output(t, c, builder, "cat"); got != "" {
			t.Errorf("stdin holds %q", got)
		}
	})
	t.Run("no stdout", func(t *testing.T) {
		if exit, err := c.Run(t.Context(), engine.Step{Argv: tool("fill", "1000000"), User: builder}); err != nil || !exit.OK() {
			t.Errorf("%+v, %v", exit, err)
		}
	})
	t.Run("stdin through", func(t *testing.T) {
		in := bytes.Repeat([]byte("0123456789abcdef"), 1<<19)
		var out bytes.Buffer
		exit, err := c.Run(t.Context(), engine.Step{Argv: tool("cat"), Stdin: bytes.NewReader(in), Stdout: &out, User: builder})
		if err != nil || !exit.OK() || !bytes.Equal(in, out.Bytes()) {
			t.Errorf("%+v, %v; %d bytes back", exit, err, out.Len())
		}
	})
	t.Run("stdin not read", func(t *testing.T) {
		in := bytes.NewReader(make([]byte, 20<<20))
		if exit, err := c.Run(t.Context(), engine.Step{Argv: tool("true"), Stdin: in, User: builder}); err != nil || !exit.OK() {
			t.Errorf("%+v, %v", exit, err)
		}
	})
}

// testStreaming: output arrives while the step runs, and input may depend on
// it.
func (s *suite) testStreaming(t *testing.T) {
	c := s.container(t, s.spec(engine.PurposeBuild))
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := c.Run(t.Context(), engine.Step{Argv: tool("cat"), Stdin: inR, Stdout: outW, User: builder})
		done <- errors.Join(err, outW.Close())
	}()
	for _, word := range []string{"one", "two", "three"} {
		if _, err := io.WriteString(inW, word); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, len(word))
		if _, err := io.ReadFull(outR, b); err != nil || string(b) != word {
			t.Fatalf("echo of %q is %q, %v", word, b, err)
		}
	}
	if err := inW.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) { c.n += int64(len(p)); return len(p), nil }

func (s *suite) testMuchOutput(t *testing.T) {
	c := s.container(t, s.spec(engine.PurposeBuild))
	var n counter
	const size = 100 << 20
	exit, err := c.Run(t.Context(), engine.Step{Argv: tool("fill", "104857600"), Stdout: &n, User: builder})
	if err != nil || !exit.OK() || n.n != size {
		t.Errorf("%+v, %v; %d bytes, want %d", exit, err, n.n, size)
	}
}

type broken struct{ err error }

func (b broken) Write([]byte) (int, error) { return 0, b.err }

func (s *suite) testWriterFails(t *testing.T) {
	c := s.container(t, s.spec(engine.PurposeBuild))
	mine := errors.New("mine")
	start := time.Now()
	_, err := c.Run(t.Context(), engine.Step{Argv: tool("tick", "1000", "100ms"), Stdout: broken{mine}, User: builder})
	if !errors.Is(err, mine) || time.Since(start) > 10*time.Second {
		t.Errorf("after %v: %v; want the writer's error soon", time.Since(start), err)
	}
	if got, exit := output(t, c, builder, "echo", "still here"); got != "still here\n" || !exit.OK() {
		t.Errorf("the next step: %q, %+v", got, exit)
	}
}

// testEnvironment: exactly what is asked for.
func (s *suite) testEnvironment(t *testing.T) {
	t.Setenv("DBUILD_LEAK", "leaked")
	c := s.container(t, s.spec(engine.PurposeBuild))
	var out bytes.Buffer
	env := []string{"A=1", "EMPTY=", "SPACE=a b", "ODD=\xff\n="}
	if _, err := c.Run(t.Context(), engine.Step{Argv: tool("env"), Env: env, Stdout: &out, User: builder}); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != strings.Join(env, "\n")+"\n" {
		t.Errorf("environment is %q", got)
	}
	for _, x := range []struct {
		dir   string
		umask int
		want  string
	}{{"", 0, "/ 022\n"}, {"/home", 0o077, "/home 077\n"}, {"/odd/sticky", 0o002, "/odd/sticky 002\n"}} {
		out.Reset()
		if _, err := c.Run(t.Context(), engine.Step{Argv: tool("pwd"), Dir: x.dir, Umask: x.umask, Stdout: &out, User: builder}); err != nil || out.String() != x.want {
			t.Errorf("dir %q umask %o: %q (%v), want %q", x.dir, x.umask, out.String(), err, x.want)
		}
	}
	out.Reset()
	if _, err := c.Run(t.Context(), engine.Step{Argv: []string{"tool", "echo", "found"}, Env: []string{"PATH=/usr/bin:/bin"}, Stdout: &out, User: builder}); err != nil || out.String() != "found\n" {
		t.Errorf("command found by PATH: %q, %v", out.String(), err)
	}
}

func (s *suite) testTerminal(t *testing.T) {
	c := s.container(t, s.spec(engine.PurposeShell))
	var out bytes.Buffer
	resize := make(chan [2]uint16, 1)
	exit, err := c.Run(t.Context(), engine.Step{Argv: tool("tty"), Stdout: &out, TTY: &engine.TTY{Rows: 33, Cols: 77, Resize: resize}, User: builder})
	if err != nil || !exit.OK() || out.String() != "/dev/pts/0 33x77\r\n" {
		t.Errorf("tty says %q; %+v, %v", out.String(), exit, err)
	}
	// Input is echoed, lines end with CR LF, the interrupt character interrupts.
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	done := make(chan engine.Exit, 1)
	go func() {
		exit, err := c.Run(t.Context(), engine.Step{Argv: tool("sh"), Stdin: inR, Stdout: outW, TTY: &engine.TTY{Rows: 1, Cols: 1, Resize: resize}})
		if err != nil {
			t.Error(err)
		}
		outW.Close()
		done <- exit
	}()
	write := func(text string) {
		if _, err := io.WriteString(inW, text); err != nil {
			t.Error(err)
		}
	}
	write("echo hello\n")
	expect(t, outR, "echo hello\r\nhello\r\n")
	resize <- [2]uint16{40, 100}
	for i := 0; ; i++ { // the size arrives on a way of its own
		write("tty\n")
		if strings.Contains(line(t, outR)+line(t, outR), "40x100") {
			break
		}
		if i > 100 {
			t.Fatal("the new size never arrived")
		}
		time.Sleep(10 * time.Millisecond)
	}
	write("sleep 60s\n")
	expect(t, outR, "sleep 60s\r\n")
	time.Sleep(50 * time.Millisecond)
	write("\x03")
	go io.Copy(io.Discard, outR)
	select {
	case exit := <-done:
		if exit.Signal != 2 && exit.Code != 2 {
			t.Errorf("after ^C: %+v", exit)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("^C did not end the step")
	}
	inW.Close()
}

func expect(t *testing.T, r io.Reader, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(r, b); err != nil || string(b) != want {
		t.Fatalf("terminal shows %q (%v), want %q", b, err, want)
	}
}

func line(t *testing.T, r io.Reader) string {
	t.Helper()
	var text []byte
	for b := make([]byte, 1); ; text = append(text, b[0]) {
		if _, err := io.ReadFull(r, b); err != nil {
			t.Fatal(err)
		}
		if b[0] == '\n' {
			return string(text)
		}
	}
}

// testBackground: a daemon that holds the output does not hold the step, and
// what the step wrote is complete.
func (s *suite) testBackground(t *testing.T) {
	c := s.container(t, s.spec(engine.PurposeBuild))
	start := time.Now()
	out, exit := output(t, c, builder, "daemon", "sleep", "60s")
	if !exit.OK() || !strings.HasPrefix(out, "daemon ") || time.Since(start) > 10*time.Second {
		t.Errorf("%q, %+v after %v", out, exit, time.Since(start))
	}
	if got, _ := output(t, c, builder, "pids"); !strings.Contains(got, "sleep 60s") {
		t.Errorf("the daemon did not survive its step:\n%s", got)
	}
	quiesce(t, c)
	if got, _ := output(t, c, builder, "pids"); strings.Contains(got, "sleep 60s") {
		t.Errorf("the daemon survived Quiesce:\n%s", got)
	}
}

func (s *suite) testTimeouts(t *testing.T) {
	c := s.container(t, s.spec(engine.PurposeBuild))
	for _, x := range []struct {
		name          string
		argv          []string
		timeout, idle time.Duration
		want          engine.Reason
		least, most   time.Duration
	}{
		{"timeout", tool("sleep", "60s"), 200 * time.Millisecond, 0, engine.ReasonTimeout, 200 * time.Millisecond, 10 * time.Second},
		{"timeout with output", tool("tick", "1000", "10ms"), 300 * time.Millisecond, 0, engine.ReasonTimeout, 300 * time.Millisecond, 10 * time.Second},
		{"silence", tool("sleep", "60s"), 0, 200 * time.Millisecond, engine.ReasonIdle, 200 * time.Millisecond, 10 * time.Second},
		{"output resets silence", tool("tick", "10", "100ms"), 0, 900 * time.Millisecond, engine.ReasonNone, time.Second, 20 * time.Second},
		{"soon enough", tool("sleep", "10ms"), 20 * time.Second, 20 * time.Second, engine.ReasonNone, 0, 10 * time.Second},
		{"signals do not help", tool("trap"), 300 * time.Millisecond, 0, engine.ReasonTimeout, 300 * time.Millisecond, 10 * time.Second},
		{"nor do children", tool("forks", "20"), 0, 0, engine.ReasonNone, 0, 10 * time.Second},
	} {
		t.Run(x.name, func(t *testing.T) {
			start := time.Now()
			exit, err := c.Run(t.Context(), engine.Step{Argv: x.argv, Timeout: x.timeout, Idle: x.idle, User: builder})
			took := time.Since(start)
			if err != nil || exit.Reason != x.want || exit.OK() != (x.want == engine.ReasonNone) || took < x.least || took > x.most {
				t.Errorf("after %v: %+v, %v", took, exit, err)
			}
		})
	}
}

// testCancel: a cancelled step is gone with all its processes, and the
// container goes on.
func (s *suite) testCancel(t *testing.T) {
	c := s.container(t, s.spec(engine.PurposeBuild))
	must(t, c, "daemon", "sleep", "41s") // of another step
	ctx, cancel := context.WithCancel(t.Context())
	start := time.Now()
	var out lockedBuffer
	go func() {
		for !strings.Contains(out.String(), "daemon") && time.Since(start) < 10*time.Second {
			time.Sleep(5 * time.Millisecond)
		}
		cancel()
	}()
	script := "daemon sleep 42s\ndaemon daemon sleep 43s\nforks 3\nsleep 44s\n"
	_, err := c.Run(ctx, engine.Step{Argv: tool("sh"), Stdin: strings.NewReader(script), Stdout: &out, User: builder})
	if !errors.Is(err, context.Canceled) || time.Since(start) > 10*time.Second {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
	got := must(t, c, "pids")
	for _, gone := range []string{"42s", "43s", "44s", "30s"} {
		if strings.Contains(got, gone) {
			t.Errorf("a process of the cancelled step lives:\n%s", got)
		}
	}
	if !strings.Contains(got, "41s") {
		t.Errorf("a process of another step was killed:\n%s", got)
	}
	if _, err := c.Run(ctx, engine.Step{Argv: tool("true")}); !errors.Is(err, context.Canceled) {
		t.Errorf("run with a cancelled context: %v", err)
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// testSideBySide: steps run at once; a slow reader of one does not hold up
// another; cancelling one leaves the other.
func (s *suite) testSideBySide(t *testing.T) {
	c := s.container(t, s.spec(engine.PurposeBuild))
	slow, stalled := io.Pipe()
	defer slow.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		_, err := c.Run(ctx, engine.Step{Argv: tool("fill", "100000000"), Stdout: stalled, User: builder})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("stalled step: %v", err)
		}
	})
	for range 4 {
		group.Go(func() {
			var n counter
			exit, err := c.Run(t.Context(), engine.Step{Argv: tool("fill", "10000000"), Stdout: &n, User: builder})
			if err != nil || !exit.OK() || n.n != 10000000 {
				t.Errorf("step beside a stalled one: %+v, %v, %d bytes", exit, err, n.n)
			}
		})
	}
	time.Sleep(300 * time.Millisecond)
	cancel()
	slow.CloseWithError(os.ErrClosed)
	group.Wait()
}

func (s *suite) testMissingCommand(t *testing.T) {
	c := s.container(t, s.spec(engine.PurposeBuild))
	for _, step := range []engine.Step{
		{Argv: []string{"/bin/missing"}},
		{Argv: []string{"missing"}, Env: []string{"PATH=/bin"}},
		{Argv: tool("true"), Dir: "/missing"},
	} {
		if exit, err := c.Run(t.Context(), step); !errors.Is(err, engine.ErrNotFound) || exit.OK() {
			t.Errorf("%q in %q: %+v, %v, want ErrNotFound", step.Argv, step.Dir, exit, err)
		}
	}
	for _, argv := range [][]string{nil, {"/etc/plain"}, {"/etc"}} {
		if exit, err := c.Run(t.Context(), engine.Step{Argv: argv}); err == nil || exit.OK() {
			t.Errorf("%q: %+v, %v, want an error", argv, exit, err)
		}
	}
}

func (s *suite) testQuiesce(t *testing.T) {
	c := s.container(t, s.spec(engine.PurposeDeps))
	for range 5 {
		must(t, c, "daemon", "tick", "100000", "1ms")
	}
	must(t, c, "forks", "10")
	quiesce(t, c)
	lines := strings.Split(strings.TrimSpace(must(t, c, "pids")), "\n")
	if len(lines) != 2 { // the agent and the tool itself
		t.Errorf("processes after quiesce:\n%s", strings.Join(lines, "\n"))
	}
}

func (s *suite) testCloseRunning(t *testing.T) {
	c := s.container(t, s.spec(engine.PurposeBuild))
	done := make(chan error, 1)
	go func() {
		_, err := c.Run(t.Context(), engine.Step{Argv: tool("sleep", "60s")})
		done <- err
	}()
	time.Sleep(100 * time.Millisecond)
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	select {
	case err := <-done:
		if !errors.Is(err, engine.ErrLost) {
			t.Errorf("run in a closed container: %v, want ErrLost", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("run did not return after close")
	}
}

func (s *suite) testManyContainers(t *testing.T) {
	var group sync.WaitGroup
	var mu sync.Mutex
	var ids []string
	for range 8 {
		group.Go(func() {
			c, err := s.Create(t.Context(), s.spec(engine.PurposeBuild))
			if err != nil {
				t.Error(err)
				return
			}
			var out bytes.Buffer
			if _, err := c.Run(t.Context(), engine.Step{Argv: tool("echo", c.ID()), Stdout: &out}); err != nil || out.String() != c.ID()+"\n" {
				t.Errorf("%q, %v", out.String(), err)
			}
			if err := c.Close(t.Context()); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			ids = append(ids, c.ID())
		})
	}
	group.Wait()
	slices.Sort(ids)
	if len(slices.Compact(ids)) != 8 {
		t.Errorf("ids %v", ids)
	}
}
