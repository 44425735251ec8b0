//go:build embedagent

package agent

import _ "embed"

//go:embed embedded/dbuild-agent-386
var embedded []byte
