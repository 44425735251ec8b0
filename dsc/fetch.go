package dsc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"dbuild/archive"
	"dbuild/deb"
	"dbuild/internal/fault"
	"dbuild/sign"
)

// Fetch downloads the .dsc at a http or https URL and the files that lie beside
// it there, and leaves them in dir under their names; then it is [Read]. The
// files come through the pool of cp, so those that it has are not fetched
// again. On error nothing of the package is left in dir; a file that was there
// before is never replaced. The files may share their inodes with the pool: they
// are for reading only.
func Fetch(ctx context.Context, cp *archive.Copy, rawURL, dir string, o Options) (*Source, error) {
	s, err := fetch(ctx, cp, rawURL, dir, o)
	if err != nil {
		return nil, fmt.Errorf("get source package %q: %w", archive.RedactURL(rawURL), err)
	}
	s.Origin = archive.RedactURL(rawURL)
	return s, nil
}

func fetch(ctx context.Context, cp *archive.Copy, rawURL, dir string, o Options) (_ *Source, err error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fault.New(fault.Usage, "not a http or https URL")
	}
	name := path.Base(u.Path)
	if deb.CheckFileName(name) != nil || !strings.HasSuffix(name, ".dsc") {
		return nil, fault.New(fault.Usage, "the URL does not end in the name of a .dsc")
	}
	if o.Offline {
		return nil, fault.WithHint(fault.New(fault.Network, "the network is switched off"), "run once without --offline")
	}
	doc, err := cp.Get(ctx, rawURL, sign.MaxDocument)
	if err != nil {
		return nil, err
	}
	listed, err := parse(doc, name, o)
	if err != nil {
		return nil, err
	}
	dscPath := filepath.Join(dir, name)
	if err := writeNew(dscPath, doc); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(dscPath))
		}
	}()
	files, err := fetchInto(ctx, cp, beside(u, listed.Files), dir)
	if err != nil {
		return nil, err
	}
	s, err := Read(ctx, dscPath, o)
	if err != nil {
		return nil, errors.Join(err, removeAll(files))
	}
	return s, nil
}

// beside returns the addresses of files in the same directory as u. They keep
// a query, which may be what grants access.
func beside(u *url.URL, files []File) []archive.File {
	var list []archive.File
	for _, f := range files {
		v := *u
		v.Path, v.RawPath = path.Join(path.Dir(u.Path), f.Name), ""
		list = append(list, archive.File{URL: v.String(), Filename: f.Name, Size: f.Size, SHA256: f.SHA256, Name: f.Name})
	}
	return list
}

// fetchInto fetches files into the pool and links them into dir.
func fetchInto(ctx context.Context, cp *archive.Copy, list []archive.File, dir string) (files []File, err error) {
	if _, _, err := cp.Fetch(ctx, list); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, removeAll(files))
			files = nil
		}
	}()
	for _, f := range list {
		to := filepath.Join(dir, f.Name)
		if err := link(cp.Path(f.SHA256), to); err != nil {
			return files, err
		}
		files = append(files, File{Name: f.Name, Path: to, Size: f.Size, SHA256: f.SHA256})
	}
	return files, nil
}

// link gives a pool file a second name, or copies it where that cannot be
// done. It fails if the name is taken.
func link(from, to string) error {
	err := os.Link(from, to)
	if !errors.Is(err, unix.EXDEV) && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EMLINK) {
		return err
	}
	in, _, err := openRegular(from)
	if err != nil {
		return err
	}
	defer in.Close()
	return create(to, in)
}

func writeNew(name string, data []byte) error { return create(name, strings.NewReader(string(data))) }

// create writes a new file and leaves none on error.
func create(name string, from io.Reader) error {
	out, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fault.Wrap(fault.Input, err)
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(out, from)
	if err = errors.Join(err, out.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}

// hashFile describes a file that nothing lists.
func hashFile(ctx context.Context, name string) (File, error) {
	in, size, err := openRegular(name)
	if err != nil {
		return File{}, fmt.Errorf("open %q: %w", name, err)
	}
	defer in.Close()
	sum, n, err := sha256Of(ctxReader{ctx, in})
	if err == nil && (n != size || n == 0) {
		err = fault.New(fault.Input, "read %q: it is empty or changes", name)
	}
	return File{Name: filepath.Base(name), Path: name, Size: n, SHA256: sum}, err
}
