package tests

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dbuild/internal/testenv"
	"dbuild/sign"
)

const exitTrust = 12

// TestTampering changes a state on the native engine, each time in one way, and
// has the real command meet it. What is not what was signed ends with exit code
// 12, and no container is made.
func TestTampering(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedNetwork(t)
	v := newVictim(t)
	count := v.watch(t)
	if code, out := v.execute(t); code != 0 || count() != 1 {
		t.Fatalf("undamaged: exit code %d: %s", code, out)
	}
	t.Run("base", func(t *testing.T) { tamperWithBase(t, v) })
	t.Run("deps", func(t *testing.T) { tamperWithDeps(t, v) })
	t.Run("decoration", func(t *testing.T) { tamperWithDecoration(t, v) })
	t.Run("memo", func(t *testing.T) { tamperWithMemo(t, v) })
	t.Run("killed", func(t *testing.T) { killUser(t, v) })
	t.Run("random", func(t *testing.T) { mutateAtRandom(t, v) })
	v.mend(t)
	if code, out := v.dbuild(t, "images", "verify"); code != 0 {
		t.Errorf("in the end: exit code %d: %s", code, out)
	}
}

// tampering is one change; it returns how the layers are mended.
type tampering struct {
	name   string
	do     func(t *testing.T, v *victim) (undo, error)
	verify bool // images verify must find it, too
}

func tamperWithBase(t *testing.T, v *victim) {
	file := func(name string) string { return filepath.Join(v.base.layer, name) }
	for _, test := range append(forgeries(), []tampering{
		{name: "changed byte", do: func(*testing.T, *victim) (undo, error) { return edit(file("usr/bin/dpkg"), 4000) }},
		{name: "added file", do: func(*testing.T, *victim) (undo, error) {
			return func() error { return os.Remove(file("usr/bin/new")) }, os.WriteFile(file("usr/bin/new"), nil, 0o755)
		}},
		{name: "added file, time of the directory kept", do: func(*testing.T, *victim) (undo, error) {
			dir, err := os.Stat(file("usr/bin"))
			must(t, err, os.WriteFile(file("usr/bin/new"), nil, 0o755))
			return func() error { return os.Remove(file("usr/bin/new")) }, os.Chtimes(file("usr/bin"), dir.ModTime(), dir.ModTime())
		}},
		{name: "missing file", do: func(*testing.T, *victim) (undo, error) { return move(file("usr/bin/dpkg-deb"), v.path("dpkg-deb")) }},
		{name: "changed mode", do: func(*testing.T, *victim) (undo, error) { return chmod(file("usr/bin/dpkg"), 0o4000) }},
		{name: "changed owner", do: func(*testing.T, *victim) (undo, error) {
			var st unix.Stat_t
			must(t, unix.Lstat(file("etc/passwd"), &st))
			return func() error { return os.Lchown(file("etc/passwd"), int(st.Uid), int(st.Gid)) },
				os.Lchown(file("etc/passwd"), int(st.Uid)+1000, int(st.Gid))
		}},
		{name: "added attribute", do: func(*testing.T, *victim) (undo, error) {
			return func() error { return unix.Removexattr(file("etc/passwd"), "user.added") },
				unix.Setxattr(file("etc/passwd"), "user.added", []byte("x"), 0)
		}},
		{name: "added capability", do: func(*testing.T, *victim) (undo, error) {
			caps := append([]byte{0, 0, 0, 2, 1}, make([]byte, 15)...) // vfs_cap_data of version 2
			return func() error { return unix.Removexattr(file("usr/bin/perl"), "security.capability") },
				unix.Setxattr(file("usr/bin/perl"), "security.capability", caps, 0)
		}},
		{name: "changed link", do: func(*testing.T, *victim) (undo, error) {
			back, err := move(file("bin"), v.path("bin"))
			must(t, err, os.Symlink("usr/nib", file("bin")))
			return func() error { must(t, os.Remove(file("bin"))); return back() }, nil
		}},
		{name: "swapped files", do: func(*testing.T, *victim) (undo, error) { return exchange(file("usr/bin/head"), file("usr/bin/tail")) }},
		{name: "swapped images", do: func(*testing.T, *victim) (undo, error) { return exchange(v.base.layer, v.deps.layer) }},
	}...) {
		test.verify = slices.Contains([]string{"unsigned", "replaced image", "changed byte", "added file", "added attribute", "changed link"}, test.name)
		t.Run(test.name, func(t *testing.T) {
			back, err := test.do(t, v)
			must(t, err)
			count := v.watch(t)
			code, out := v.execute(t)
			if n := count(); code != 125 || !strings.Contains(out, "dbuild: trust: ") || n != 0 {
				t.Errorf("execute: exit code %d, %d containers: %s", code, n, out)
			}
			if test.verify {
				if code, out := v.dbuild(t, "images", "verify"); code != exitTrust {
					t.Errorf("images verify: exit code %d: %s", code, out)
				}
			}
			if back != nil {
				must(t, back())
			}
			v.mend(t)
		})
	}
}

// forgeries are changes of statements, signatures, list and records.
func forgeries() []tampering {
	replace := func(path, from, to string) error {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !bytes.Contains(data, []byte(from)) {
			return fmt.Errorf("%s does not contain %q", path, from)
		}
		return os.WriteFile(path, bytes.ReplaceAll(data, []byte(from), []byte(to)), 0o600)
	}
	key := func(t *testing.T, v *victim) *sign.Key {
		k, err := sign.Load(v.path("keys/image.asc"))
		must(t, err)
		return k
	}
	signed := func(t *testing.T, k *sign.Key, path, kind string) error {
		data, err := os.ReadFile(path)
		must(t, err)
		sig, err := k.DetachSign(data, time.Now(), kind)
		must(t, err)
		return os.WriteFile(path+".asc", sig, 0o600)
	}
	// listed puts a statement changed by change in force, with the image key.
	listed := func(t *testing.T, v *victim, from, to string) error {
		data, err := os.ReadFile(v.base.statement)
		must(t, err)
		data = bytes.ReplaceAll(data, []byte(from), []byte(to))
		hash := fmt.Sprintf("%x", sha256.Sum256(data))
		path := v.path("images/statements/" + hash + ".json")
		must(t, os.WriteFile(path, data, 0o600), signed(t, key(t, v), path, "base"))
		head, err := os.ReadFile(v.path("images/head"))
		must(t, err)
		line, _, _ := bytes.Cut(head, []byte("\n"))
		line = append(bytes.ReplaceAll(line, []byte(v.base.hash()), []byte(hash)), '\n')
		sig, err := key(t, v).DetachSign(line, time.Now(), "head")
		must(t, err)
		return os.WriteFile(v.path("images/head"), append(line, sig...), 0o600)
	}
	return []tampering{
		{name: "unsigned", do: func(_ *testing.T, v *victim) (undo, error) { return nil, os.Remove(v.base.statement + ".asc") }},
		{name: "signed by another key", do: func(t *testing.T, v *victim) (undo, error) {
			other, err := sign.Generate("another", time.Now().Add(-time.Hour))
			must(t, err)
			return nil, signed(t, other, v.base.statement, "base")
		}},
		{name: "signed as another kind", do: func(t *testing.T, v *victim) (undo, error) {
			return nil, signed(t, key(t, v), v.base.statement, "deps")
		}},
		{name: "statement of another kind", do: func(_ *testing.T, v *victim) (undo, error) {
			for _, ext := range []string{"", ".asc"} {
				if err := copyWhole(v.deps.statement+ext, v.base.statement+ext); err != nil {
					return nil, err
				}
			}
			return nil, nil
		}},
		{name: "altered statement", do: func(_ *testing.T, v *victim) (undo, error) {
			return nil, replace(v.base.statement, `"suite":"bookworm"`, `"suite":"trixie"`)
		}},
		{name: "statement of another suite", do: func(t *testing.T, v *victim) (undo, error) {
			return nil, listed(t, v, `"suite":"bookworm","comp`, `"suite":"trixie","comp`)
		}},
		{name: "statement of another architecture", do: func(t *testing.T, v *victim) (undo, error) {
			return nil, listed(t, v, `"host_arch":"`, `"host_arch":"x`)
		}},
		{name: "an older pair put back", do: func(_ *testing.T, v *victim) (undo, error) {
			return nil, os.WriteFile(v.path("images/head"), v.earlier, 0o600)
		}},
		{name: "no list", do: func(_ *testing.T, v *victim) (undo, error) { return nil, os.Remove(v.path("images/head")) }},
		{name: "replaced image", do: func(_ *testing.T, v *victim) (undo, error) { return nil, copyWhole(v.deps.record, v.base.record) }},
		{name: "committed image", do: func(_ *testing.T, v *victim) (undo, error) {
			// The record says that the image has a layer more.
			return nil, replace(v.base.record, `"layers":1`, `"parent":"`+filepath.Base(filepath.Dir(v.deps.layer))+`","layers":3`)
		}},
	}
}

// hash is the name of a statement.
func (f imageFiles) hash() string { return strings.TrimSuffix(filepath.Base(f.statement), ".json") }

// tamperWithDeps does a few of these with the image that a build runs in.
// There the walk runs beside the start of the container; what may not happen is
// that the build begins.
func tamperWithDeps(t *testing.T, v *victim) {
	for _, test := range []tampering{
		{name: "unsigned", do: func(*testing.T, *victim) (undo, error) { return nil, os.Remove(v.deps.statement + ".asc") }},
		{name: "unsigned base", do: func(*testing.T, *victim) (undo, error) { return nil, os.Remove(v.base.statement + ".asc") }},
		{name: "changed byte", do: func(*testing.T, *victim) (undo, error) {
			return edit(filepath.Join(v.deps.layer, "usr/bin/hello"), 1000)
		}},
		{name: "changed byte of the base", do: func(*testing.T, *victim) (undo, error) {
			return edit(filepath.Join(v.base.layer, "usr/bin/make"), 1000)
		}},
		{name: "added file", do: func(*testing.T, *victim) (undo, error) {
			path := filepath.Join(v.deps.layer, "usr/bin/cc")
			return func() error { return os.Remove(path) }, os.WriteFile(path, nil, 0o755)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			back, err := test.do(t, v)
			must(t, err)
			r := v.build(t)
			if r.Exit != exitTrust || r.Class != "trust" || r.Error.Hint == "" || len(r.Artifacts) > 0 {
				t.Errorf("result %+v", r)
			}
			if log, err := os.ReadFile(r.Log); err == nil && bytes.Contains(log, []byte("Command: dpkg-buildpackage")) {
				t.Error("dpkg-buildpackage was run")
			}
			if back != nil {
				must(t, back())
			}
			v.mend(t)
		})
	}
}

// tamperWithDecoration changes tags, which mean nothing: containers are made
// from ids that statements name.
func tamperWithDecoration(t *testing.T, v *victim) {
	record := func(path string) []byte {
		data, err := os.ReadFile(path)
		must(t, err)
		return data
	}
	base, deps := record(v.base.record), record(v.deps.record)
	tag := []byte(`"tag":"base:bookworm-`)
	if !bytes.Contains(base, tag) {
		t.Fatalf("no tag in %s", base)
	}
	must(t, os.WriteFile(v.base.record, bytes.Replace(base, tag, []byte(`"tag":"old:bookworm-`), 1), 0o600),
		os.WriteFile(v.deps.record, bytes.Replace(deps, []byte(`"tag":"deps:`), []byte(`"tag":"base:`), 1), 0o600))
	r := v.build(t)
	if r.Exit != 0 || !r.Base.Hit || !r.Deps.Hit || !slices.Equal(r.built(), v.artifacts) {
		t.Errorf("result %+v", r)
	}
	v.mend(t)
}

// tamperWithMemo changes authenticated rows: they are dropped, what they said is
// found out again, and the result is the same.
func tamperWithMemo(t *testing.T, v *victim) {
	v.query(t, `UPDATE memo SET value = replace(value, '"hello"', '"hullo"') WHERE key LIKE 'resolved %'`)
	r := v.build(t)
	if r.Exit != 0 || r.Deps.Memo || !r.Deps.Hit || !strings.Contains(r.stderr, "was altered and is dropped") || !slices.Equal(r.built(), v.artifacts) {
		t.Errorf("answer of the resolver: result %+v", r)
	}
	v.query(t, `UPDATE memo SET mac = zeroblob(32) WHERE key LIKE 'verified %'`)
	r = v.build(t)
	if r.Exit != 0 || !slices.Equal(r.Checked, []string{"rehash"}) || !slices.Equal(r.built(), v.artifacts) {
		t.Errorf("images that were hashed: result %+v", r)
	}
	v.mend(t)
}

// killUser kills a dbuild while it uses the base: the deps image, which stands
// on it, is hashed before its next use, and only once.
func killUser(t *testing.T, v *victim) {
	c := exec.CommandContext(t.Context(), "dbuild", "execute", "--offline", "--allow-expired", "-q", "-d", "bookworm", "--", "sh", "-c", "echo here; sleep 100")
	c.Env = append(os.Environ(), "DBUILD_STATE="+v.state, "DBUILD_ENGINE=native")
	out, err := c.StdoutPipe()
	must(t, err, c.Start())
	if _, err := out.Read(make([]byte, 5)); err != nil {
		t.Error(err)
	}
	must(t, c.Process.Kill())
	_ = c.Wait() // it was killed
	for i, want := range []string{"rehash", "seal"} {
		if r := v.build(t); r.Exit != 0 || !r.Deps.Hit || !slices.Equal(r.Checked, []string{want}) {
			t.Errorf("build %d: want %s: result %+v", i, want, r)
		}
	}
	v.mend(t)
}
