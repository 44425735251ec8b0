package doctor

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

func checkState(f Facts) Finding {
	d := f.State
	switch {
	case d.Err != nil:
		return Finding{Status: Fail, Text: fmt.Sprintf("%s: %v", d.Path, d.Err), Mend: "dbuild --state DIR …"}
	case !d.Exists && !d.Writable:
		return Finding{Status: Fail, Text: d.Path + " cannot be made by " + f.User, Mend: "dbuild --state DIR …"}
	case !d.Exists:
		return Finding{Status: OK, Text: d.Path + ", made on first use"}
	case !d.Dir:
		return Finding{Status: Fail, Text: d.Path + " is not a directory", Mend: "dbuild --state DIR …"}
	case d.UID != f.UID:
		return Finding{Status: Fail, Text: fmt.Sprintf("%s belongs to uid %d, not to %s", d.Path, d.UID, f.User), Mend: "dbuild --state DIR …"}
	case d.Mode.Perm()&0o022 != 0:
		return Finding{Status: Fail, Text: fmt.Sprintf("%s can be written by others (mode %04o)", d.Path, d.Mode.Perm()), Mend: "chmod go-w " + d.Path}
	case !d.Writable:
		return Finding{Status: Fail, Text: d.Path + " is on a read-only file system", Mend: "dbuild --state DIR …"}
	}
	return Finding{Status: OK, Text: d.Path}
}

// unfit are file systems that cannot carry the writable layer of an overlay.
var unfit = []string{"overlayfs", "NFS", "SMB", "9p", "FUSE", "FAT", "eCryptfs"}

func checkFilesystem(f Facts) Finding {
	d := f.State
	switch {
	case d.Filesystem == "":
		return Finding{}
	case slices.Contains(unfit, d.Filesystem):
		return Finding{Status: Fail, Text: d.Filesystem + " cannot carry the layers of containers", Mend: "dbuild --state DIR …, on a local disk"}
	case d.Filesystem == "tmpfs":
		return Finding{Status: Note, Text: "tmpfs: images are lost with the next boot", Mend: "dbuild --state DIR …"}
	}
	return Finding{Status: OK, Text: d.Filesystem}
}

// What a build with its images takes: below the first it is likely to fail,
// below the second images expire early.
const (
	tooLittle = 1 << 30
	little    = 5 << 30
)

func checkDisk(f Facts) Finding {
	if f.State.Err != nil {
		return Finding{}
	}
	text := fmt.Sprintf("%.1f GiB free for images, downloads and the repository", float64(f.State.Free)/(1<<30))
	switch {
	case f.State.Free < tooLittle:
		return Finding{Status: Fail, Text: text, Mend: "dbuild clean --images"}
	case f.State.Free < little:
		return Finding{Status: Note, Text: text, Mend: "dbuild clean"}
	}
	return Finding{Status: OK, Text: text}
}

// maxAhead is by how much an archive may be ahead of the clock.
const maxAhead = time.Hour

func checkClock(f Facts) Finding {
	var newest string
	for name, date := range f.Dates {
		if newest == "" || date.After(f.Dates[newest]) {
			newest = name
		}
	}
	if newest == "" {
		return Finding{Status: OK, Text: f.Now.UTC().Format(time.RFC3339) + "; no archive was seen yet to compare with"}
	}
	if ahead := f.Dates[newest].Sub(f.Now); ahead > maxAhead {
		text := fmt.Sprintf("%s is %s behind %s", f.Now.UTC().Format(time.RFC3339), ahead.Round(time.Minute), newest)
		return Finding{Status: Fail, Text: text, Mend: "sudo timedatectl set-ntp true"}
	}
	return Finding{Status: OK, Text: f.Now.UTC().Format(time.RFC3339) + ", not behind any archive"}
}

// checkRepoKeys says nothing of keys that do not expire. The first is the one
// without which nothing can be published.
func checkRepoKeys(f Facts) Finding {
	if f.RepoErr != nil {
		return Finding{Status: Fail, Text: f.RepoErr.Error(), Mend: "dbuild repo key"}
	}
	var found Finding
	for i, k := range f.RepoKeys {
		day := k.Expires.UTC().Format(time.DateOnly)
		switch {
		case k.Over && i == 0:
			return Finding{Status: Fail, Text: "the key of the local repository, " + k.Fingerprint + ", has expired on " + day, Mend: k.Mend}
		case k.Near && found.Status != Note:
			found = Finding{Status: Note, Text: "the key " + k.Fingerprint + " of the local repository expires on " + day, Mend: k.Mend}
			if k.Over {
				found.Text = "the key " + k.Fingerprint + " signs the local repository no longer: it has expired on " + day
			}
		case found.Status == "" && !k.Expires.IsZero():
			found = Finding{Status: OK, Text: "the local repository can be signed until " + day}
		}
	}
	return found
}

// checkKeyrings has one line for each vendor. Only the keyring of the host's
// own vendor is needed for sure; without any, nothing can be built.
func checkKeyrings(f Facts) []Finding {
	var all []Finding
	usable := slices.ContainsFunc(f.Keyrings, func(k Keyring) bool { return k.Path != "" && k.Err == nil })
	for _, k := range f.Keyrings {
		found := Finding{Code: "keyring-" + k.Vendor, Status: OK, Needed: k.Host || k.Settings || !usable}
		switch {
		case k.Path == "":
			found.Status, found.Text = Fail, "no keys for "+strings.Join(k.Suites, ", ")
			found.Mend = "sudo apt install " + k.Package
		case k.Err != nil:
			found.Status, found.Text = Fail, k.Err.Error()
			found.Mend = "sudo apt install --reinstall " + k.Package
			if k.Settings {
				found.Mend = "dbuild --keyring FILE …"
			}
		default:
			found.Text = fmt.Sprintf("%d keys in %s", k.Keys, k.Path)
		}
		all = append(all, found)
	}
	return all
}
