package sign

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dbuild/internal/fault"
	"dbuild/internal/testenv"
)

// gnupgHome makes a throwaway GnuPG home with one key that has no
// passphrase, and stops its agent in the end.
func gnupgHome(t *testing.T) (public []byte) {
	t.Helper()
	testenv.NeedProgram(t, "gpg")
	// The agent's socket must have a short path, which t.TempDir has not.
	home, err := os.MkdirTemp("", "gpg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	t.Setenv("GNUPGHOME", home)
	t.Cleanup(func() { exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run() })
	run := func(args ...string) []byte {
		out, err := exec.Command("gpg", append([]string{"--batch", "--quiet"}, args...)...).Output()
		if err != nil {
			t.Fatalf("gpg %v: %v", args, err)
		}
		return out
	}
	run("--passphrase", "", "--quick-gen-key", "Maintainer <m@example.org>", "ed25519", "sign", "never")
	return run("--export")
}

func TestGPG(t *testing.T) {
	ring, err := ParseKeyring(gnupgHome(t))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := GPG{KeyID: "m@example.org"}.Clearsign(t.Context(), []byte(releaseText))
	if err != nil {
		t.Fatal(err)
	}
	text, sig, err := ring.VerifyClearsigned(doc, Policy{})
	if err != nil || string(text) != releaseText || sig.Hash != "SHA512" {
		t.Errorf("text %q, signature %+v, error %v", text, sig, err)
	}
	if _, err := (GPG{}).Clearsign(t.Context(), []byte("x\n")); err != nil {
		t.Errorf("with the default key: %v", err)
	}
	_, err = GPG{KeyID: "nobody@example.org"}.Clearsign(t.Context(), []byte("x\n"))
	if fault.ClassOf(err) != fault.Trust || !strings.Contains(err.Error(), "no secret key") && !strings.Contains(err.Error(), "no such key") {
		t.Errorf("unknown key: %v", err)
	}
}

// TestGPGTrouble replaces gpg by scripts.
func TestGPGTrouble(t *testing.T) {
	script := func(body string) string {
		path := filepath.Join(t.TempDir(), "gpg")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	tests := []struct {
		name, program string
		want          fault.Class
	}{
		{"missing", filepath.Join(t.TempDir(), "none"), fault.Trust},
		{"fails without a word", script("exit 2"), fault.Trust},
		{"says nothing", script("exit 0"), fault.Trust},
		{"signs another text", script("echo '" + clearsigned(t, "other\n", textSig(t, testKey(t, "K", nil), "other\n")) + "'"), fault.Trust},
		{"hangs", script("exec sleep 60"), fault.Timeout},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := GPG{Program: tt.program, KeyID: "K"}.Clearsign(ctx, []byte("text\n"))
			if fault.ClassOf(err) != tt.want {
				t.Errorf("error %v, class %q, want %q", err, fault.ClassOf(err), tt.want)
			}
		})
	}
	if _, err := (GPG{Program: tests[0].program}).Clearsign(t.Context(), []byte("x\n")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing program: %v", err)
	}
}
