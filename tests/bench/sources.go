package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
)

// manyDepends are build dependencies that bring 100 to 150 packages with them.
const manyDepends = "debhelper-compat (= 13), cmake, libcurl4-openssl-dev, libglib2.0-dev, python3-all-dev, " +
	"libxml2-dev, libpng-dev, libfreetype-dev, libsqlite3-dev, libx11-dev, bison, flex"

// fewDepends are what most packages have.
const fewDepends = "debhelper-compat (= 13)"

// sampleRules build an empty package without debhelper: what is measured is all
// that comes before.
const sampleRules = `#!/usr/bin/make -f
clean build build-arch build-indep binary-arch:
binary binary-indep:
	mkdir -p debian/tmp/DEBIAN
	dpkg-gencontrol
	dpkg-deb --root-owner-group --build debian/tmp ..
`

// writeSource makes, once, a source package that has these build dependencies
// and builds in no time.
func (l *lab) writeSource(ctx context.Context, name, depends string) error {
	if l.dsc[name] != "" {
		return nil
	}
	src := l.path("src")
	tree := filepath.Join(src, name)
	if err := os.MkdirAll(filepath.Join(tree, "debian", "source"), 0o755); err != nil {
		return err
	}
	for file, text := range map[string]string{
		"source/format": "3.0 (native)\n",
		"rules":         sampleRules,
		"changelog": name + " (1.0) " + l.suite + "; urgency=low\n\n  * Sample.\n\n" +
			" -- Bench <bench@localhost>  Thu, 01 Jan 2026 00:00:00 +0000\n",
		"control": strings.Join([]string{
			"Source: " + name, "Section: misc", "Priority: optional", "Maintainer: Bench <bench@localhost>",
			"Rules-Requires-Root: no", "Standards-Version: 4.6.2", "Build-Depends: " + depends, "",
			"Package: " + name, "Architecture: all", "Description: nothing", " Nothing at all.", "",
		}, "\n"),
	} {
		if err := os.WriteFile(filepath.Join(tree, "debian", file), []byte(text), 0o755); err != nil {
			return err
		}
	}
	if err := l.tool(ctx, src, "dpkg-source", "-b", tree); err != nil {
		return err
	}
	l.dsc[name] = filepath.Join(src, name+"_1.0.dsc")
	return nil
}
