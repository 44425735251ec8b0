package fake

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"dbuild/internal/tree"
)

const toolPath = "/bin/tool" // enginetest.ToolPath

// Tool stands for the program of package enginetest, as far as it deals with
// files and output.
func Tool(_ context.Context, p *Process) int {
	args := p.Argv[1:]
	if len(args) == 0 {
		return 2
	}
	if err := tool(p, args[0], args[1:]); err != nil {
		fmt.Fprintf(p.Err, "tool %s: %v\n", args[0], err)
		return 1
	}
	if args[0] == "exit" && len(args) > 1 {
		code, _ := strconv.Atoi(args[1])
		return code
	}
	return 0
}

func tool(p *Process, name string, args []string) error {
	switch name {
	case "true", "exit":
	case "echo":
		fmt.Fprintln(p.Out, strings.Join(args, " "))
	case "warn":
		fmt.Fprintln(p.Err, strings.Join(args, " "))
	case "cat":
		_, err := io.Copy(p.Out, p.Stdin)
		return err
	case "env":
		for _, e := range p.Env {
			fmt.Fprintln(p.Out, e)
		}
	case "read":
		b, err := p.Files.Read(args[0])
		if err == nil {
			_, err = p.Out.Write(b)
		}
		return err
	case "write":
		p.Files.Write(args[0], []byte(args[1]))
	case "rm":
		p.Files.Remove(args[0])
	case "mkdir":
		p.Files.addNode(args[0], tree.Entry{Type: tree.TypeDir, Mode: 0o755})
	case "symlink":
		p.Files.addNode(args[1], tree.Entry{Type: tree.TypeSymlink, Mode: 0o777, Link: args[0]})
	case "mkfifo":
		p.Files.addNode(args[0], tree.Entry{Type: tree.TypeFIFO, Mode: 0o644})
	case "link":
		return p.Files.link(args[0], args[1])
	case "chmod":
		return p.Files.chmod(args[0], args[1])
	default:
		return fmt.Errorf("the fake has no command %q", name)
	}
	return nil
}

func (f *Files) link(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.lookup(from, false)
	if err != nil {
		return err
	}
	return f.place(to, n)
}

func (f *Files) chmod(mode, name string) error {
	bits, err := strconv.ParseUint(mode, 8, 32)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.lookup(name, true)
	if err == nil {
		n.Mode = uint32(bits)
	}
	return err
}
