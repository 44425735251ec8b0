// Command payload is the one program in the root file system of the engine
// tests: a set of small tools, the first argument names one. It is built
// static and knows nothing of dbuild.
package main

import (
	"fmt"
	"os"
	"sort"
)

// tools are the commands; each gets the arguments behind its name.
var tools = map[string]func(args []string) error{}

func main() {
	if len(os.Args) < 2 {
		names := make([]string, 0, len(tools))
		for name := range tools {
			names = append(names, name)
		}
		sort.Strings(names)
		fmt.Fprintln(os.Stderr, "usage: tool COMMAND [ARGUMENT…]; commands:", names)
		os.Exit(2)
	}
	run, ok := tools[os.Args[1]]
	if !ok {
		fmt.Fprintf(os.Stderr, "tool: no command %q\n", os.Args[1])
		os.Exit(2)
	}
	if err := run(os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "tool %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}
