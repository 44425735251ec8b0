package depcheck

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "dbuild"

// graph maps each folder of the module that holds Go files to the imports of
// its files, tests left out: a test may look at what lies above.
type graph map[string][]string

func load(t *testing.T, root string) graph {
	t.Helper()
	g := graph{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path != root && (name == "testdata" || strings.HasPrefix(name, ".")) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		folder, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		if g[folder] == nil {
			g[folder] = []string{} // a folder without imports counts too
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if !slices.Contains(g[folder], imported) {
				g[folder] = append(g[folder], imported)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// ours returns the folder of an import path of this module.
func ours(imported string) (string, bool) {
	return strings.CutPrefix(imported, module+"/")
}

// below reports whether path is prefix or lies below it.
func below(path, prefix string) bool {
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

// ruleFor returns the rule with the longest folder that matches.
func ruleFor(folder string) (best Rule, ok bool) {
	for _, r := range Rules {
		if below(folder, r.Folder) && len(r.Folder) >= len(best.Folder) {
			best, ok = r, true
		}
	}
	return best, ok
}

// allows reports whether the rule lets its folder import target.
func (r Rule) allows(target string) bool {
	if own, ok := ruleFor(target); ok && own.Folder == r.Folder {
		return true
	}
	for _, may := range r.May {
		prefix, deep := strings.CutSuffix(may, "...")
		if target == may || deep && (prefix == "" || below(target, strings.TrimSuffix(prefix, "/"))) {
			return true
		}
	}
	return false
}

// upward lists the imports that break a rule.
func (g graph) upward() (problems []string) {
	for folder, imports := range g {
		rule, ok := ruleFor(folder)
		if !ok {
			problems = append(problems, folder+" has no rule in internal/depcheck")
			continue
		}
		for _, imported := range imports {
			if target, ok := ours(imported); ok && !rule.allows(target) {
				problems = append(problems, folder+" imports "+target+": "+rule.Reason)
			}
		}
	}
	return problems
}

// closure returns everything that folder is linked from.
func (g graph) closure(folder string) []string {
	var all []string
	todo := g.within(folder)
	for i := 0; i < len(todo); i++ {
		for _, imported := range g[todo[i]] {
			if !slices.Contains(all, imported) {
				all = append(all, imported)
			}
			if target, ok := ours(imported); ok && !slices.Contains(todo, target) {
				todo = append(todo, target)
			}
		}
	}
	return all
}

// within lists the folder and the folders below it that have no rule of their own.
func (g graph) within(folder string) (all []string) {
	for f := range g {
		if rule, ok := ruleFor(f); ok && below(f, folder) && (rule.Folder == folder || !below(rule.Folder, folder)) {
			all = append(all, f)
		}
	}
	return all
}

// banned lists the imports that break a ban.
func (g graph) banned() (problems []string) {
	for _, ban := range Bans {
		for _, imported := range g.closure(ban.Folder) {
			if _, mine := ours(imported); ban.forbids(imported, mine) {
				problems = append(problems, ban.Folder+" is linked from "+imported+": "+ban.Reason)
			}
		}
	}
	return problems
}

func (b Ban) forbids(imported string, mine bool) bool {
	for _, never := range b.Never {
		if below(imported, never) {
			return true
		}
	}
	first, _, _ := strings.Cut(imported, "/")
	std := !strings.Contains(first, ".")
	if len(b.Only) == 0 || mine || std {
		return false
	}
	return !slices.ContainsFunc(b.Only, func(only string) bool { return below(imported, only) })
}

// exclusive lists the imports that belong to other folders only.
func (g graph) exclusive() (problems []string) {
	for folder, imports := range g {
		for _, x := range Exclusives {
			if below(folder, "tests") || slices.ContainsFunc(x.Only, func(only string) bool { return below(folder, only) }) {
				continue
			}
			for _, imported := range imports {
				target, mine := ours(x.Import)
				if below(imported, x.Import) && !(mine && below(folder, target)) {
					problems = append(problems, folder+" imports "+imported+": "+x.Reason)
				}
			}
		}
	}
	return problems
}

func TestImportsPointDown(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatalf("not the module's root: %v", err)
	}
	g := load(t, root)
	if len(g["deb"]) == 0 || len(g["engine"]) == 0 {
		t.Fatalf("import graph is not complete: %d folders", len(g))
	}
	problems := slices.Concat(g.upward(), g.banned(), g.exclusive())
	slices.Sort(problems)
	for _, p := range problems {
		t.Error(p)
	}
}

// The rules themselves are checked on small graphs, each with one fault.
func TestRulesCatch(t *testing.T) {
	tests := []struct {
		name  string
		graph graph
		want  string
	}{
		{"arrow up", graph{"deb": {"dbuild/sign"}}, "deb imports sign"},
		{"engine knows what it is used for", graph{"engine/native": {"dbuild/chroot"}}, "engine/native imports chroot"},
		{"contract knows an engine", graph{"engine": {"dbuild/engine/native"}}, "engine imports engine/native"},
		{"folder without a rule", graph{"util": {"fmt"}}, "util has no rule"},
		{"main does more than call", graph{"cmd/dbuild": {"dbuild/buildenv"}}, "cmd/dbuild imports buildenv"},
		{"deep package of a layer", graph{"archive/fetch": {"dbuild/engine"}}, "archive/fetch imports engine"},
		{"helper knows Debian", graph{"internal/tree": {"dbuild/deb"}}, "internal/tree imports deb"},
		{"agent grows", graph{"agent/wire": {"dbuild/internal/x"}, "internal/x": {"github.com/spf13/cobra"}}, "agent is linked from github.com/spf13/cobra"},
		{"agent takes more of x/net", graph{"agent": {"golang.org/x/net/http2"}}, "agent is linked from golang.org/x/net/http2"},
		{"docker in native by a detour", graph{"engine/native": {"dbuild/internal/x"}, "internal/x": {"github.com/moby/moby/client"}}, "engine/native is linked from github.com/moby"},
		{"parser starts a program", graph{"deb": {"os/exec"}}, "deb is linked from os/exec"},
		{"settings read elsewhere", graph{"buildenv": {"dbuild/config"}}, "buildenv imports dbuild/config"},
		{"engine picked elsewhere", graph{"chroot": {"dbuild/engine/native"}}, "chroot imports dbuild/engine/native"},
		{"printing below the command line", graph{"archive": {"github.com/schollz/progressbar/v3"}}, "archive imports github.com/schollz/progressbar"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := strings.Join(slices.Concat(tt.graph.upward(), tt.graph.banned(), tt.graph.exclusive()), "\n")
			if !strings.Contains(got, tt.want) {
				t.Errorf("problems:\n%s\nwant one with %q", got, tt.want)
			}
		})
	}
}

func TestRulesAllow(t *testing.T) {
	g := graph{
		"agent":               {"dbuild/agent/wire", "golang.org/x/sys/unix", "golang.org/x/net/bpf"},
		"agent/cmd/x":         {"dbuild/agent"},
		"archive/archivetest": {"dbuild/archive", "testing"},
		"buildenv":            {"dbuild/chroot", "dbuild/repo"},
		"cmd":                 {"dbuild/config", "dbuild/engine/native", "github.com/spf13/cobra"},
		"cmd/dbuild":          {"dbuild/cmd"},
		"engine/native":       {"dbuild/engine/native/store", "dbuild/engine", "dbuild/agent/wire"},
		"internal/lock":       {"dbuild/internal/fault"},
	}
	for _, p := range slices.Concat(g.upward(), g.banned(), g.exclusive()) {
		t.Error(p)
	}
}
