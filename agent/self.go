//go:build !embedagent

package agent

import (
	"io"
	"os"

	"dbuild/agent/pid1"
)

// MaybeMain turns the process into the agent, and does not return, if an
// engine started it as one. It is the first call of main and of TestMain in
// every program that opens an engine.
func MaybeMain() {
	if len(os.Args) > 1 && os.Args[0] == Name {
		pid1.Main(os.Args[1:])
	}
}

// Program opens the program that can be started under [Name]. The caller
// closes it.
func Program() (io.ReadCloser, error) { return os.Open("/proc/self/exe") }
