//go:build embedagent

package agent

import _ "embed"

//go:embed embedded/dbuild-agent-mips64le
var embedded []byte
