// Dbuild turns a Debian source package into signed .debs in a local apt
// repository. All of it is in package cmd and below.
package main

import (
	"os"

	"dbuild/agent"
	"dbuild/cmd"
)

func main() {
	agent.MaybeMain() // does not return in a container's first process
	os.Exit(cmd.Main())
}
