package cmd

import (
	"archive/tar"
	"fmt"
	"path"
	"time"

	"github.com/spf13/cobra"

	"dbuild/sign"
)

// debsigPolicy is a policy of debsig-verify(1): the signature of the origin must
// be there, and by this key.
const debsigPolicy = `<?xml version="1.0"?>
<!DOCTYPE Policy SYSTEM "https://www.debian.org/debsig/1.0/policy.dtd">
<Policy xmlns="https://www.debian.org/debsig/1.0/">
  <Origin Name="dbuild" id="%[1]s" Description="dbuild local repository"/>
  <Selection>
    <Required Type="origin" File="dbuild.pgp" id="%[1]s"/>
  </Selection>
  <Verification MinOptional="0">
    <Required Type="origin" File="dbuild.pgp" id="%[1]s"/>
  </Verification>
</Policy>
`

// debsigFile is a file that debsig-verify looks for.
type debsigFile struct {
	Path string `json:"path"` // below the root directory
	Data []byte `json:"data"`
}

// debsigFiles are policy and keyring of a key. Their directories have the name of
// its long id, which all versions know; only newer ones look for the fingerprint.
func debsigFiles(k *sign.Key) []debsigFile {
	fingerprint := k.Fingerprint()
	id := fingerprint[len(fingerprint)-16:]
	return []debsigFile{
		{path.Join("etc/debsig/policies", id, "dbuild.pol"), fmt.Appendf(nil, debsigPolicy, id)},
		{path.Join("usr/share/debsig/keyrings", id, "dbuild.pgp"), k.Keyring().Export()},
	}
}

func newRepoKeyDebsigCommand(a *app) *cobra.Command {
	o := &repoOptions{}
	c := &cobra.Command{
		Use:   "debsig [flags]",
		Short: "Print what debsig-verify needs to know, as a tar archive",
		Long: `Print a tar archive with a policy and a keyring for debsig-verify, for each key
that signs the repository. It is to be unpacked in the root directory of a machine
that checks the signatures inside of .debs, which are made with sign.debs = true.

Packages are signed by the repository's own key, or while a gpg-agent has that
(repo key use), by the last one that dbuild kept itself.

A package keeps the signature of the key that signed when it came, so leave the
policy of an earlier key where it is.`,
		Example: "  dbuild repo key debsig | ssh target tar -C / -x\n  dbuild repo key debsig | tar -C root -x && debsig-verify --root root hello_2.10-3_amd64.deb",
		Args:    a.atMost(0, "no argument"),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			return a.withRepo(c.Context(), o, func(r openRepo) error {
				files := debsigFiles(r.keys.local)
				for _, k := range r.keys.also {
					if local, ok := k.(*sign.Key); ok && local.Fingerprint() != r.keys.local.Fingerprint() {
						files = append(files, debsigFiles(local)...)
					}
				}
				if o.json {
					return a.printResult(map[string]any{"files": files})
				}
				return a.writeTar(files)
			})
		},
	}
	o.addFlags(c.Flags(), "")
	return c
}

func (a *app) writeTar(files []debsigFile) error {
	t := tar.NewWriter(a.stdout)
	for _, f := range files {
		h := &tar.Header{Name: f.Path, Mode: 0o644, Size: int64(len(f.Data)), ModTime: time.Now(), Typeflag: tar.TypeReg}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := t.Write(f.Data); err != nil {
			return err
		}
	}
	return t.Close()
}
