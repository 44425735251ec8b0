//go:build embedagent

package agent

import _ "embed"

//go:embed embedded/dbuild-agent-arm64
var embedded []byte
