package native

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"dbuild/engine"
	"dbuild/internal/atomicfile"
	"dbuild/internal/fault"
	"dbuild/internal/tree"
	"dbuild/internal/userns"
)

// storeFormat is the version of the store's layout.
const storeFormat = 1

// storeRecord is store.json.
type storeRecord struct {
	V      int    `json:"v"`
	ID     string `json:"id"`
	IDBase int    `json:"id_base"` // id of container id 0 as dbuild sees it
	IDSize int    `json:"id_size"`
	Within string `json:"within,omitempty"` // the user namespace that dbuild sees ids in
}

// insideUser is replaced in tests.
var insideUser = userns.Inside

// within names the user namespace that [userns.Enter] made, "" for the host's.
func within() string {
	if n, ok := insideUser(); ok {
		return n.String()
	}
	return ""
}

func (r storeRecord) idMap() tree.IDMap {
	return tree.IDMap{HostUID: r.IDBase, HostGID: r.IDBase, Size: r.IDSize}
}

func openStore(dir string, idBase int) (storeRecord, error) {
	// Layers hold files of other owners and must be reachable by them; the
	// layer directories themselves are closed.
	for _, d := range []string{"", "layers"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o711); err != nil {
			return storeRecord{}, err
		}
	}
	for _, d := range []string{"containers", "records"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return storeRecord{}, err
		}
	}
	if err := checkFilesystem(dir); err != nil {
		return storeRecord{}, err
	}
	path := filepath.Join(dir, "store.json")
	r, err := readStore(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeStore(path, idBase)
	}
	if err != nil {
		return r, err
	}
	if now := within(); r.Within != now {
		err := fault.New(fault.Engine, "store %q was made with other subordinate ids: %s, now %s", dir, r.Within, now)
		return r, fault.WithHint(err, "restore the lines of /etc/subuid and /etc/subgid, or use another --state")
	}
	if idBase != 0 && idBase != r.IDBase {
		return r, fault.New(fault.Usage, "store %q maps ids from %d, not %d", dir, r.IDBase, idBase)
	}
	return r, nil
}

func readStore(path string) (storeRecord, error) {
	var r storeRecord
	b, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fault.New(fault.Engine, "read %q: %w", path, err)
	}
	if r.V != storeFormat {
		return r, fault.New(fault.Locked, "store %q has format %d, this dbuild knows %d", path, r.V, storeFormat)
	}
	return r, nil
}

// makeStore writes store.json. Of several processes that do so at once, the
// first wins.
func makeStore(path string, idBase int) (storeRecord, error) {
	r := storeRecord{V: storeFormat, ID: newID(), IDBase: idBase, IDSize: IDCount, Within: within()}
	switch {
	case r.Within != "": // what is mapped there belongs to this user
		r.IDBase = 1
	case idBase == 0:
		r.IDBase = DefaultIDBase
	}
	if r.Within == "" {
		if err := checkRange(r.IDBase); err != nil {
			return r, err
		}
	}
	b, err := json.Marshal(r)
	if err != nil {
		return r, err
	}
	staged := path + "." + r.ID
	if err := atomicfile.Write(staged, b, 0o600); err != nil {
		return r, err
	}
	err = os.Link(staged, path)
	if err := errors.Join(ignoreExist(err), os.Remove(staged)); err != nil {
		return r, err
	}
	return readStore(path)
}

func ignoreExist(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// checkRange refuses ids that users may have been given, see subuid(5).
func checkRange(base int) error {
	if base < 100000 || base > 1<<31-2-IDCount {
		return fault.New(fault.Usage, "id base %d is not between 100000 and %d", base, 1<<31-2-IDCount)
	}
	for _, path := range []string{"/etc/subuid", "/etc/subgid"} {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		line, clash := overlap(bufio.NewScanner(f), base)
		if err := f.Close(); err != nil {
			return err
		}
		if clash {
			return fault.New(fault.Usage, "ids from %d on belong to %q in %q", base, line, path)
		}
	}
	return nil
}

func overlap(lines *bufio.Scanner, base int) (string, bool) {
	for lines.Scan() {
		fields := strings.Split(lines.Text(), ":")
		if len(fields) != 3 {
			continue
		}
		first, err1 := strconv.Atoi(fields[1])
		count, err2 := strconv.Atoi(fields[2])
		if err1 == nil && err2 == nil && first < base+IDCount && base < first+count {
			return lines.Text(), true
		}
	}
	return "", false
}

// checkFilesystem refuses file systems that cannot carry the writable layer of
// an overlay.
func checkFilesystem(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return err
	}
	name := ""
	switch uint32(st.Type) {
	case unix.OVERLAYFS_SUPER_MAGIC:
		name = "overlayfs"
	case unix.NFS_SUPER_MAGIC:
		name = "NFS"
	default:
		return nil
	}
	err := fault.Wrap(fault.Engine, fmt.Errorf("keep layers on %s in %q: %w", name, dir, engine.ErrUnsupported))
	return fault.WithHint(err, "give a directory on a local disk with --scratch or --state")
}

// newID returns a random name, safe as a file name.
func newID() string {
	var b [10]byte
	rand.Read(b[:]) // never fails, see crypto/rand
	return hex.EncodeToString(b[:])
}

// validID reports whether s can be an id, so that it may be joined to a path.
func validID(s string) bool {
	if len(s) != 20 {
		return false
	}
	_, err := hex.DecodeString(s)
	return err == nil
}

func unsupported(what, hint string) error {
	return fault.WithHint(fault.Wrap(fault.Engine, fmt.Errorf("%s: %w", what, engine.ErrUnsupported)), "%s", hint)
}
