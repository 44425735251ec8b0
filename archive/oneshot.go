package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dbuild/deb"
	"dbuild/internal/atomicfile"
	"dbuild/internal/fault"
	"dbuild/sign"
)

// OneShotRoot is the archive root of the sources that [Copy.OneShot] makes.
// Nothing is there: their files are in the copy from the start.
const OneShotRoot = localPrefix + "extra-package"

// oneShotSuite is what such a source calls itself.
const oneShotSuite = "extra-package"

// maxDeb bounds a package file that a user gives.
const maxDeb = 16 << 30

// OneShot makes a repository of .deb files of this machine for one run: they
// are copied into the pool and listed in a flat index whose Release key signs,
// so that apt takes them by the same rules as those of any archive. keyring is
// the file that has the public part of key. The files come back beside it, in
// the order of paths.
func (c *Copy) OneShot(ctx context.Context, paths []string, key *sign.Key, keyring string) (*State, []File, error) {
	var stanzas []string
	var files []File
	names := map[string]string{}
	for _, p := range paths {
		if err := ctx.Err(); err != nil {
			return nil, nil, context.Cause(ctx)
		}
		f, stanza, err := c.adopt(p)
		if err != nil {
			return nil, nil, fmt.Errorf("extra package %q: %w", p, err)
		}
		if old, ok := names[f.Filename]; ok && old != f.SHA256 {
			return nil, nil, fault.New(fault.Input, "extra package %q: another one is %s too, with other contents", p, f.Name)
		} else if !ok {
			names[f.Filename] = f.SHA256
			stanzas = append(stanzas, stanza)
		}
		files = append(files, f)
	}
	slices.Sort(stanzas)
	index := []byte(strings.Join(stanzas, "\n"))
	if err := atomicfile.Write(c.indexPath(sum256(index)), index, 0o644); err != nil {
		return nil, nil, fmt.Errorf("write index of extra packages: %w", err)
	}
	st, err := c.signOneShot(index, key, keyring)
	if err != nil {
		return nil, nil, fmt.Errorf("sign index of extra packages: %w", err)
	}
	return st, files, nil
}

// signOneShot signs a Release over the index and takes it as every other one.
func (c *Copy) signOneShot(index []byte, key *sign.Key, keyring string) (*State, error) {
	src := Source{
		URL: OneShotRoot, Suite: "./", Flat: true, Extra: true,
		Keyrings: []string{keyring}, AllowedKeys: []string{key.Fingerprint()},
	}
	now := c.opt.Now()
	text := fmt.Sprintf("Origin: dbuild\nLabel: extra packages\nSuite: %s\nCodename: %s\nDate: %s\nSHA256:\n %s %d Packages\n",
		oneShotSuite, oneShotSuite, now.UTC().Format("Mon, 02 Jan 2006 15:04:05 UTC"), sum256(index), len(index))
	doc, err := key.Clearsign([]byte(text), now)
	if err != nil {
		return nil, err
	}
	rings, err := openKeyrings([]Source{src})
	if err != nil {
		return nil, err
	}
	st, err := c.verify(src, rings[0], signed{inRelease: doc})
	if err != nil {
		return nil, err
	}
	st.Fresh = "checked"
	return st, c.storeRelease(st)
}

// adopt copies a .deb into the pool and makes its stanza from the copy.
func (c *Copy) adopt(path string) (f File, stanza string, err error) {
	in, err := os.Open(path)
	if err != nil {
		return f, "", fault.Wrap(fault.Usage, err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	if info, err := in.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > maxDeb {
		return f, "", errors.Join(fault.New(fault.Input, "not a regular file of at most %d bytes", int64(maxDeb)), err)
	}
	sum, size, err := c.intoPool(in)
	if err != nil {
		return f, "", err
	}
	copied, err := os.Open(c.Path(sum))
	if err != nil {
		return f, "", err
	}
	defer func() { err = errors.Join(err, copied.Close()) }()
	d, err := deb.OpenDeb(copied, size)
	if err != nil {
		return f, "", fault.Wrap(fault.Input, err)
	}
	version, err := deb.ParseVersion(d.Control.Get("Version"))
	if err != nil {
		return f, "", fault.Wrap(fault.Input, err)
	}
	name, arch := d.Control.Get("Package"), d.Control.Get("Architecture")
	f = File{
		Filename: name + "_" + version.NoEpoch() + "_" + arch + ".deb", Size: size, SHA256: sum, Name: name + " " + version.String(),
	}
	f.URL = Source{URL: OneShotRoot}.fileURL(f.Filename)
	p := d.Control
	for _, field := range []string{"Filename", "Size", "MD5sum", "SHA1", "SHA256", "SHA512"} {
		p.Del(field)
	}
	p.Set("Filename", f.Filename)
	p.Set("Size", fmt.Sprint(size))
	p.Set("SHA256", sum)
	var text bytes.Buffer
	if _, err := p.WriteTo(&text); err != nil {
		return f, "", fault.Wrap(fault.Input, err)
	}
	if _, err := deb.ParsePackage(text.Bytes()); err != nil {
		return f, "", fault.Wrap(fault.Input, err)
	}
	return f, text.String(), nil
}

// intoPool stores what r has under its hash.
func (c *Copy) intoPool(r io.Reader) (sum string, size int64, err error) {
	tmp, err := os.CreateTemp(filepath.Join(c.dir, "pool"), ".adopt-")
	if err != nil {
		return "", 0, err
	}
	p := &part{f: tmp, sum: sha256.New()}
	if size, err = io.Copy(p, r); err != nil {
		return "", 0, errors.Join(err, p.drop())
	}
	sum = p.sha256()
	p.final = c.Path(sum)
	if err := mkdir(filepath.Dir(p.final)); err != nil {
		return "", 0, errors.Join(err, p.drop())
	}
	return sum, size, p.install()
}

func sum256(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
