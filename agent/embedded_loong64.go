//go:build embedagent

package agent

import _ "embed"

//go:embed embedded/dbuild-agent-loong64
var embedded []byte
