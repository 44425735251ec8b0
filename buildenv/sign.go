package buildenv

import (
	"bytes"
	"context"
	"crypto/md5"  //nolint:gosec // Policy's Files field has MD5 sums
	"crypto/sha1" //nolint:gosec // so has Checksums-Sha1
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"

	"dbuild/deb"
	"dbuild/internal/atomicfile"
	"dbuild/internal/fault"
	"dbuild/sign"
)

// sign is stage 8. With -k the maintainer's own key signs, in debsign's order:
// a .dsc that dbuild made, then the .buildinfo, then the .changes, the sums of
// what was signed before rewritten each time. Without -k the files stay as they
// were built, so that debsign still works on them.
func (b *build) sign(ctx context.Context) error {
	if b.req.SignKey == "" {
		return nil
	}
	gpg := sign.GPG{KeyID: b.req.SignKey}
	for _, ext := range []string{".dsc", ".buildinfo", ".changes"} {
		for i := range b.results {
			r := &b.results[i]
			if !strings.HasSuffix(r.Name, ext) || ext == ".dsc" && !b.packed {
				continue
			}
			if err := b.signFile(ctx, gpg, r); err != nil {
				return fmt.Errorf("sign %q: %w", r.Name, err)
			}
		}
	}
	return nil
}

func (b *build) signFile(ctx context.Context, gpg sign.GPG, r *result) error {
	text, err := os.ReadFile(r.Path)
	if err != nil {
		return err
	}
	signed, err := gpg.Clearsign(ctx, text)
	if err != nil {
		return fault.Wrap(fault.Trust, err)
	}
	if err := b.replace(r, signed); err != nil {
		return err
	}
	for i := range b.results { // files that list it
		other := &b.results[i]
		lists := strings.HasSuffix(other.Name, ".changes") || strings.HasSuffix(other.Name, ".buildinfo") && strings.HasSuffix(r.Name, ".dsc")
		if !lists || other.Name == r.Name {
			continue
		}
		if err := b.rewriteSums(other, r.Name, signed); err != nil {
			return fmt.Errorf("rewrite %q: %w", other.Name, err)
		}
	}
	return nil
}

func (b *build) replace(r *result, data []byte) error {
	if err := atomicfile.Write(r.Path, data, 0o600); err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	r.Size, r.SHA256 = int64(len(data)), hex.EncodeToString(sum[:])
	return nil
}

// rewriteSums replaces size and sums of one file in the document of r.
func (b *build) rewriteSums(r *result, name string, data []byte) error {
	raw, err := os.ReadFile(r.Path)
	if err != nil {
		return err
	}
	p, err := deb.ParseParagraph(raw, deb.Limits{})
	if err != nil {
		return err
	}
	sha1sum, sha256sum, md5sum := sha1.Sum(data), sha256.Sum256(data), md5.Sum(data) //nolint:gosec // see the imports
	for field, sum := range map[string]string{
		"Files": hex.EncodeToString(md5sum[:]), "Checksums-Md5": hex.EncodeToString(md5sum[:]),
		"Checksums-Sha1": hex.EncodeToString(sha1sum[:]), "Checksums-Sha256": hex.EncodeToString(sha256sum[:]),
	} {
		if value, ok := p.Lookup(field); ok {
			p.Set(field, rewriteRows(value, name, sum, len(data)))
		}
	}
	var out bytes.Buffer
	if _, err := p.WriteTo(&out); err != nil {
		return err
	}
	return b.replace(r, out.Bytes())
}

// rewriteRows replaces sum and size in the row that ends with name.
func rewriteRows(value, name, sum string, size int) string {
	lines := strings.Split(value, "\n")
	for i, line := range lines {
		cols := strings.Fields(line)
		if len(cols) < 3 || cols[len(cols)-1] != name {
			continue
		}
		cols[0], cols[1] = sum, strconv.Itoa(size)
		lines[i] = " " + strings.Join(cols, " ")
	}
	return strings.Join(lines, "\n")
}
