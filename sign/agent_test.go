package sign

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dbuild/internal/fault"
)

// gpgRun runs gpg in the home that gnupgHome made.
func gpgRun(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("gpg", append([]string{"--batch", "--quiet", "--pinentry-mode", "loopback"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("gpg %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func findKey(t *testing.T, id string) *AgentKey {
	t.Helper()
	k, err := FindAgentKey(t.Context(), GPG{Silent: true}, id)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A Release file that a local key and one of the agent sign together is good for
// readers who know either.
func TestAgentKeySigns(t *testing.T) {
	gnupgHome(t)
	agent := findKey(t, "m@example.org")
	local, err := Generate("local", time.Now().Add(-time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	keys := []Signer{agent, local}
	doc, err := ClearsignAll(t.Context(), keys, []byte(releaseText), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	detached, err := DetachSignAll(t.Context(), keys, []byte(releaseText), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		ring, err := ParseKeyring(k.Public())
		if err != nil {
			t.Fatal(err)
		}
		if text, _, err := ring.VerifyClearsigned(doc, Policy{}); err != nil || string(text) != releaseText {
			t.Errorf("text %q, %v", text, err)
		}
		if _, err := ring.VerifyDetached([]byte(releaseText), detached, Policy{}); err != nil {
			t.Errorf("detached: %v", err)
		}
	}
	both, err := ParseKeyring(PublicArmored(keys))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := gpgv(t, both.Export(), string(doc)); err != nil || string(text) != releaseText {
		t.Errorf("gpgv with both keys: %q, %v", text, err)
	}
}

func TestAgentKeyIsOne(t *testing.T) {
	gnupgHome(t)
	gpgRun(t, "--passphrase", "", "--quick-gen-key", "Another <m@example.org>", "ed25519", "sign", "never")
	for id, hint := range map[string]string{"m@example.org": "--list-secret-keys", "nobody@example.org": ""} {
		_, err := FindAgentKey(t.Context(), GPG{}, id)
		if err == nil || !strings.Contains(fault.HintOf(err), hint) {
			t.Errorf("%s: hint %q, %v", id, fault.HintOf(err), err)
		}
	}
}

// Without a terminal a locked key fails, instead of waiting for nobody.
func TestLockedAgentKey(t *testing.T) {
	gnupgHome(t)
	// The agent would measure first how often it can hash a passphrase.
	if err := os.WriteFile(filepath.Join(os.Getenv("GNUPGHOME"), "gpg-agent.conf"), []byte("s2k-count 65536\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("gpgconf", "--kill", "gpg-agent").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	gpgRun(t, "--passphrase", "secret", "--quick-gen-key", "Locked <l@example.org>", "ed25519", "sign", "never")
	k, err := NewAgentKey(GPG{Silent: true}, []byte(gpgRun(t, "--armor", "--export", "l@example.org")))
	if err != nil {
		t.Fatal(err)
	}
	_, err = k.Sign(t.Context(), Text, []byte("x\n"), time.Now())
	if fault.ClassOf(err) != fault.Trust || !strings.Contains(err.Error(), "no terminal") || !strings.Contains(fault.HintOf(err), "--local-user "+k.Fingerprint()) {
		t.Errorf("hint %q, %v", fault.HintOf(err), err)
	}
	if _, err := FindAgentKey(t.Context(), GPG{Silent: true}, "l@example.org"); fault.ClassOf(err) != fault.Trust {
		t.Errorf("find: %v", err)
	}
}

// gpg that does not come back is ended with the context.
func TestAgentKeyThatHangs(t *testing.T) {
	gnupgHome(t)
	k := findKey(t, "m@example.org")
	k.gpg.Program = filepath.Join(t.TempDir(), "gpg")
	if err := os.WriteFile(k.gpg.Program, []byte("#!/bin/sh\nexec sleep 60\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := k.Sign(ctx, Binary, []byte("x"), time.Now()); fault.ClassOf(err) != fault.Timeout || fault.HintOf(err) == "" {
		t.Errorf("class %q: %v", fault.ClassOf(err), err)
	}
}

// What ends first counts: the primary key, or the subkey that gpg signs with.
func TestAgentKeyExpiry(t *testing.T) {
	gnupgHome(t)
	days := func(at time.Time) int { return int(time.Until(at).Round(time.Hour).Hours() / 24) }
	generate := func(name, usage, expire string, more ...string) string {
		id := name + "@example.org"
		gpgRun(t, append(more, "--passphrase", "", "--quick-gen-key", id, "ed25519", usage, expire)...)
		return primaryFingerprints(gpgRun(t, "--with-colons", "--list-secret-keys", id))[0]
	}
	subkey := func(primary, expire string, more ...string) {
		gpgRun(t, append(more, "--passphrase", "", "--quick-add-key", primary, "ed25519", "sign", expire)...)
	}
	plain := generate("plain", "sign", "20d")
	short := generate("short", "cert", "2y")
	subkey(short, "10d")
	long := generate("long", "cert", "15d")
	subkey(long, "1y")
	newer := generate("newer", "cert", "9y", "--faked-system-time", "20240101T000000")
	subkey(newer, "1y", "--faked-system-time", "20240102T000000") // long over
	subkey(newer, "25d")
	for _, tt := range []struct {
		name, fpr string
		days      int
		subkey    bool
	}{{"primary", plain, 20, false}, {"subkey", short, 10, true}, {"primary before subkey", long, 15, false}, {"newest subkey", newer, 25, true}} {
		k := findKey(t, tt.fpr)
		e := k.Expiry()
		if days(e.At) != tt.days || !e.Near(time.Now()) || e.Over(time.Now()) {
			t.Errorf("%s: %+v", tt.name, e)
		}
		// The command does what it says, and Refresh sees it.
		command := strings.Fields(e.Mend)
		if tt.subkey != (len(command) == 5) {
			t.Errorf("%s: mend with %q", tt.name, e.Mend)
		}
		gpgRun(t, command[1:]...)
		if k, err := k.Refresh(t.Context()); err != nil || days(k.Expiry().At) <= tt.days {
			t.Errorf("%s: after %q %+v, %v", tt.name, e.Mend, k.Expiry(), err)
		}
	}
	over := generate("over", "sign", "1y", "--faked-system-time", "20200101T000000")
	if _, err := FindAgentKey(t.Context(), GPG{}, over); fault.ClassOf(err) != fault.Trust || !strings.Contains(fault.HintOf(err), "--quick-set-expire "+over) {
		t.Errorf("expired key: hint %q, %v", fault.HintOf(err), err)
	}
}
