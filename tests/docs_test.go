package tests

import (
	"bufio"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// codeFolders are the folders whose names in backquotes must exist.
var codeFolders = []string{
	"agent", "archive", "buildenv", "cache", "chroot", "cmd", "config", "deb", "docs",
	"dsc", "engine", "internal", "registry", "repo", "sign", "tests", ".ci", ".golangci.yml", "Makefile",
}

var (
	linkPattern = regexp.MustCompile(`\]\(([^)#]+)(#[^)]*)?\)`)
	codePattern = regexp.MustCompile("`([^` ]+)`")
)

// TestDocs follows each link and each file name of the documentation.
func TestDocs(t *testing.T) {
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	if len(pages) == 0 {
		t.Fatal("no page below docs/")
	}
	for _, page := range append(pages, "../README.md", "../CONTRIBUTING.md") {
		t.Run(filepath.Base(page), func(t *testing.T) { checkPage(t, page) })
	}
}

func checkPage(t *testing.T, page string) {
	f, err := os.Open(page)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		for _, m := range linkPattern.FindAllStringSubmatch(lines.Text(), -1) {
			if !strings.Contains(m[1], ":") && !exists(filepath.Join(filepath.Dir(page), m[1])) {
				t.Errorf("%s:%d: link to %q leads nowhere", page, n, m[1])
			}
		}
		for _, m := range codePattern.FindAllStringSubmatch(lines.Text(), -1) {
			if isCodePath(m[1]) && !exists(filepath.Join("..", m[1])) {
				t.Errorf("%s:%d: no %q", page, n, m[1])
			}
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
}

// isCodePath reports whether text in backquotes names a file or folder of ours:
// it has a slash, or is a file, and begins with one of our folders.
func isCodePath(text string) bool {
	first, rest, deep := strings.Cut(text, "/")
	if strings.ContainsAny(rest, "*$<:…") || strings.ToUpper(rest) == rest && rest != "" {
		return false // a pattern or a placeholder such as builds/ID
	}
	for _, folder := range codeFolders {
		if first == folder && (deep || strings.Contains(folder, ".") || folder == "Makefile") {
			return true
		}
	}
	return false
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
