//go:build embedagent

package agent

import _ "embed"

//go:embed embedded/dbuild-agent-ppc64le
var embedded []byte
