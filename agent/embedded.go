//go:build embedagent

package agent

import (
	"bytes"
	"io"
)

// MaybeMain does nothing in a build that embeds the agent.
func MaybeMain() {}

// Program opens the program that can be started under [Name]. The caller
// closes it.
func Program() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(embedded)), nil }
