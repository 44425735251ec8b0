package cmd

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"dbuild/cache"
)

func newImagesListCommand(a *app) *cobra.Command {
	o := &common{}
	c := &cobra.Command{
		Use:   "list [flags]",
		Short: "List the images with size, last use, signer and archive date",
		Long: `List the images in force, the oldest first. OWN is what an image takes by
itself, SHARED what it has in common with the images that it stands on.

With --json, one array of objects; docs/formats.md describes their fields.`,
		Example: "  dbuild images list -d bookworm",
		Args:    a.atMost(0, "no argument"),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			return a.withImages(c.Context(), o, func(_ *world, obs *observer, items []cache.Item) error {
				obs.Close()
				return a.listImages(o, items)
			})
		},
	}
	o.addFlags(c.Flags())
	return c
}

func (a *app) listImages(o *common, items []cache.Item) error {
	shown := make([]cache.Item, 0, len(items))
	for _, it := range items {
		if o.dist == "" || it.Suite == o.dist || it.Problem != "" {
			shown = append(shown, it)
		}
	}
	if o.json {
		return a.printJSON(shown)
	}
	t := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "TAG\tDIGEST\tSUITE\tARCH\tCREATED\tLAST USED\tOWN\tSHARED\tSIGNER\tARCHIVE\tNOTE")
	for _, it := range shown {
		_, _ = fmt.Fprintln(t, strings.Join([]string{
			orDash(it.Tag), orDash(shortDigest(it.Digest)), orDash(it.Suite), orDash(it.Arch), moment(it.Created), moment(it.LastUsed),
			bytesText(it.OwnSize), bytesText(it.Size - it.OwnSize), orDash(lastDigits(it.Signer)), day(it.ArchiveDate), note(it),
		}, "\t"))
	}
	return t.Flush()
}

// note says what is special about an image; its statement names it where its
// digest does not.
func note(it cache.Item) string {
	switch {
	case it.Problem != "":
		return fmt.Sprintf("unusable (statement %.12s)", it.Statement)
	case it.Aside:
		return "rolled back"
	}
	return ""
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// shortDigest is enough of a digest to name an image.
func shortDigest(digest string) string {
	return fmt.Sprintf("%.12s", strings.TrimPrefix(digest, "sha256:"))
}

// lastDigits is the long key id of a fingerprint.
func lastDigits(fingerprint string) string { return fingerprint[max(0, len(fingerprint)-16):] }

func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04")
}

func day(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02")
}

// bytesText writes a size as people read it, in powers of 1024.
func bytesText(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d", n)
	}
	value, unit := float64(n)/(1<<10), 0
	for value >= 1000 && unit < 3 {
		value, unit = value/(1<<10), unit+1
	}
	if value < 10 {
		return fmt.Sprintf("%.1f%c", value, "kMGT"[unit])
	}
	return fmt.Sprintf("%.0f%c", value, "kMGT"[unit])
}
