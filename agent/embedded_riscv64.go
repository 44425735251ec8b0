//go:build embedagent

package agent

import _ "embed"

//go:embed embedded/dbuild-agent-riscv64
var embedded []byte
