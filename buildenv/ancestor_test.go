package buildenv

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dbuild/archive/archivetest"
	"dbuild/cache"
	"dbuild/internal/fault"
)

func TestControlMember(t *testing.T) {
	for _, test := range []struct {
		name    string
		scripts map[string]string
		want    string
	}{
		{"nothing", nil, ""},
		{"triggers and shlibs", map[string]string{"triggers": "activate-noawait ldconfig\n", "shlibs": "libx 1 libx1\n"}, ""},
		{"postinst", map[string]string{"postinst": "#!/bin/sh\n"}, "postinst"},
		{"conffiles", map[string]string{"conffiles": "/etc/x\n"}, "conffiles"},
		{"debconf", map[string]string{"config": "#!/bin/sh\n"}, "config"},
	} {
		data := archivetest.Package{Name: "libx", Version: "1", Scripts: test.scripts}.Deb()
		sum := sha256.Sum256(data)
		path := filepath.Join(t.TempDir(), "x.deb")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := controlMember(path, hex.EncodeToString(sum[:]))
		if err != nil || got != test.want {
			t.Errorf("%s: %q, %v", test.name, got, err)
		}
		if _, err := controlMember(path, "00"); fault.ClassOf(err) != fault.Trust {
			t.Errorf("%s: another file: %v", test.name, err)
		}
		if _, err := controlMember(path+"x", "00"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: no file: %v", test.name, err)
		}
	}
}

func TestChangesOn(t *testing.T) {
	lib, tool := cache.Package{Name: "lib", Version: "2", Arch: "amd64"}, cache.Package{Name: "tool", Version: "1", Arch: "all"}
	got := changesOn(&cache.Ancestor{
		Missing:  []cache.Package{lib, tool},
		Replaced: []cache.Replacement{{Old: cache.Package{Name: "lib", Version: "1", Arch: "amd64"}, New: lib}},
	})
	want := []DepsChange{
		{Name: "lib", Arch: "amd64", Version: "2", Replaces: "1", Why: "the archive has a newer version"},
		{Name: "tool", Arch: "all", Version: "1", Why: "the nearest image does not have it"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
