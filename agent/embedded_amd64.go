//go:build embedagent

package agent

import _ "embed"

//go:embed embedded/dbuild-agent-amd64
var embedded []byte
