package enginetest

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"dbuild/engine"
)

func testLimits(t *testing.T, s *suite) {
	info, err := s.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		name  string
		set   func(*engine.Limits, engine.Limit)
		argv  []string // what breaks the limit of value
		value int64
		want  engine.Reason
	}{
		{"pids", func(l *engine.Limits, v engine.Limit) { l.PIDs = v }, tool("forks", "200"), 60, engine.ReasonPIDs},
		{"memory", func(l *engine.Limits, v engine.Limit) { l.Memory = v }, tool("hog", "300000000"), 64 << 20, engine.ReasonOOM},
		{"disk", func(l *engine.Limits, v engine.Limit) { l.Disk = v }, tool("fill-disk", "/tmp/large"), 8 << 20, engine.ReasonDisk},
		{"disk", func(l *engine.Limits, v engine.Limit) { l.Disk = v }, tool("fill-disk", "/tmp/large", "9000000"), 8 << 20, engine.ReasonDisk},
	} {
		t.Run(x.name, func(t *testing.T) {
			spec := s.spec(engine.PurposeBuild)
			x.set(&spec.Limits, engine.Limit{Value: x.value, Required: true})
			if !slices.Contains(info.Limits, x.name) {
				if c, err := s.Create(t.Context(), spec); !errors.Is(err, engine.ErrUnsupported) {
					t.Errorf("a limit that cannot be enforced: %v, want ErrUnsupported", err)
					if err == nil {
						c.Close(t.Context())
					}
				}
				x.set(&spec.Limits, engine.Limit{Value: x.value})
				must(t, s.container(t, spec), "echo", "best effort")
				return
			}
			c := s.container(t, spec)
			must(t, c, "echo", "within")
			if out, exit := output(t, c, builder, x.argv[1:]...); exit.OK() || exit.Reason != x.want {
				t.Errorf("beyond the limit: %+v\n%s", exit, out)
			}
			if err := c.Quiesce(t.Context()); err != nil {
				t.Fatal(err)
			}
			if out := must(t, c, "echo", "again"); !strings.Contains(out, "again") {
				t.Errorf("after the limit was hit: %q", out)
			}
			if exit := mustExit(t, c, "exit", "3"); exit != (engine.Exit{Code: 3}) {
				t.Errorf("an ordinary failure afterwards: %+v", exit)
			}
		})
	}
}

// testSharedMemory fills the memory with what no process has as its own: the
// largest process may then be the agent, and it is not to blame.
func testSharedMemory(t *testing.T, s *suite) {
	info, err := s.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(info.Limits, "memory") {
		t.Skip("memory cannot be limited here")
	}
	spec := s.spec(engine.PurposeBuild)
	spec.Limits.Memory = engine.Limit{Value: 48 << 20, Required: true}
	c := s.container(t, spec)
	out, exit := output(t, c, builder, "fill-disk", "/dev/shm/large", "200000000")
	if exit.Reason != engine.ReasonOOM {
		t.Errorf("%+v\n%s", exit, out)
	}
}

func mustExit(t *testing.T, c engine.Container, args ...string) engine.Exit {
	t.Helper()
	_, exit := output(t, c, builder, args...)
	return exit
}
