package buildenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"dbuild/deb"
	"dbuild/internal/fault"
)

// check is stage 7. It always holds each .deb against its own control data
// (deb(5)); other checks run as they are asked for.
func (b *build) check(ctx context.Context) error {
	for _, r := range b.results {
		if !isBinary(r.Name) {
			continue
		}
		if err := b.checkBinary(r); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// checkBinary reads a .deb as strictly as one from a stranger: its name must be
// made of its own package, version and architecture, and its source ours.
func (b *build) checkBinary(r result) (err error) {
	f, err := os.Open(r.Path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	bin, err := deb.OpenDeb(f, r.Size)
	if err != nil {
		return fault.New(fault.Build, "the built %q: %w", r.Name, err)
	}
	version, err := deb.ParseVersion(bin.Control.Get("Version"))
	if err != nil {
		return fault.New(fault.Build, "the built %q: %w", r.Name, err)
	}
	name, arch := bin.Control.Get("Package"), bin.Control.Get("Architecture")
	ext := r.Name[len(r.Name)-len(".deb"):]
	if want := fmt.Sprintf("%s_%s_%s%s", name, version.NoEpoch(), arch, ext); r.Name != want && r.Name != want[:len(want)-len(ext)]+".udeb" {
		return fault.New(fault.Build, "the built %q says it is %q", r.Name, want)
	}
	if source := sourceOf(bin.Control); source != b.src.Name {
		return fault.New(fault.Build, "the built %q says it is made from %q", r.Name, source)
	}
	return nil
}

// sourceOf returns the source package that a binary package names: the Source
// field without a version, or its own name.
func sourceOf(control *deb.Paragraph) string {
	name, _, _ := strings.Cut(control.Get("Source"), " ")
	if name == "" {
		name = control.Get("Package")
	}
	return name
}

func isBinary(name string) bool {
	n := len(name)
	return n > 4 && name[n-4:] == ".deb" || n > 5 && name[n-5:] == ".udeb"
}
