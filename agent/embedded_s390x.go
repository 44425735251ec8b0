//go:build embedagent

package agent

import _ "embed"

//go:embed embedded/dbuild-agent-s390x
var embedded []byte
