//go:debug containermaxprocs=0

// Command dbuild-agent is the first process of every container. dbuild starts
// it; it is of no use by hand.
package main

import (
	"os"

	"dbuild/agent/pid1"
)

func main() { pid1.Main(os.Args[1:]) }
