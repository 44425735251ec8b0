package sign

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"dbuild/internal/fault"
)

// gpgDeadline leaves time to type a passphrase or to touch a token.
const gpgDeadline = 5 * time.Minute

// GPG signs with a maintainer's own key by running gpg, which finds key,
// agent and token in the user's environment. Nothing but this and [AgentKey] in
// dbuild runs it.
type GPG struct {
	Program string // "gpg" if empty
	KeyID   string // anything that gpg --local-user takes; its default key if empty
	Home    string // of GnuPG, where it is not the user's
	// Terminal is where the agent may ask for a passphrase, for example
	// /dev/pts/3; empty: as GPG_TTY says.
	Terminal string
	// Silent lets a key that needs a passphrase fail at once, and nobody is asked.
	Silent bool
}

// Clearsign has gpg clearsign text with SHA-512. It waits five minutes at
// most, less if ctx ends earlier. What gpg returns is checked for framing and
// for carrying the same text. Errors have the class [fault.Trust] and name
// what is wrong with the key when gpg tells.
func (g GPG) Clearsign(ctx context.Context, text []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, gpgDeadline)
	defer cancel()
	return g.clearsign(ctx, text)
}

// clearsign is Clearsign for as long as ctx lasts.
func (g GPG) clearsign(ctx context.Context, text []byte) ([]byte, error) {
	plain, _, err := escapeText(text)
	if err != nil {
		return nil, fmt.Errorf("clearsign: %w", err)
	}
	signed, err := g.sign(ctx, plain, "--clearsign")
	if err != nil {
		return nil, fault.Wrap(fault.Trust, fmt.Errorf("sign with %s: %w", g.name(), err))
	}
	got, _, err := SplitClearsigned(signed)
	if err != nil {
		return nil, fmt.Errorf("sign with %s: %w", g.name(), err)
	}
	if !bytes.Equal(got, plain) {
		return nil, refuse(ErrFraming, "gpg signed another text than it was given")
	}
	return signed, nil
}

// name is how messages call the key.
func (g GPG) name() string {
	if g.KeyID == "" {
		return "gpg's default key"
	}
	return fmt.Sprintf("key %q", g.KeyID)
}

// sign runs a signing command on text.
func (g GPG) sign(ctx context.Context, text []byte, command ...string) ([]byte, error) {
	args := []string{"--digest-algo", "SHA512"}
	if g.Silent {
		args = append(args, "--pinentry-mode", "error")
	}
	if g.KeyID != "" {
		args = append(args, "--local-user", g.KeyID)
	}
	return g.run(ctx, text, append(args, command...)...)
}

// by is the beginning of a command line of gpg, for hints.
func (g GPG) by() string {
	line := cmp.Or(g.Program, "gpg")
	if g.Home != "" {
		line += " --homedir " + g.Home
	}
	return line
}

func (g GPG) run(ctx context.Context, text []byte, command ...string) ([]byte, error) {
	statusR, statusW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer statusR.Close()
	args := []string{"--batch", "--no-tty", "--yes", "--status-fd", "3"}
	if g.Home != "" {
		args = append(args, "--homedir", g.Home)
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, cmp.Or(g.Program, "gpg"), append(args, command...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(text), &stdout, &stderr
	cmd.ExtraFiles = []*os.File{statusW}
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if g.Terminal != "" {
		cmd.Env = append(cmd.Env, "GPG_TTY="+g.Terminal)
	}
	// An agent that gpg started may keep our pipes open.
	cmd.WaitDelay = 2 * time.Second
	err = cmd.Start()
	statusW.Close()
	if err != nil {
		return nil, err
	}
	// A status report is a few lines and fits into the pipe, so reading it
	// afterwards cannot block gpg.
	err = cmd.Wait()
	if err == nil || errors.Is(err, exec.ErrWaitDelay) && stdout.Len() > 0 {
		return stdout.Bytes(), nil
	}
	if ctx.Err() != nil {
		return nil, fault.WithHint(fault.Wrap(fault.Timeout, ctx.Err()), "is a passphrase prompt waiting? try: %s", g.unlock())
	}
	err = gpgError(err, readStatus(statusR), stderr.String())
	if g.Silent && strings.Contains(stderr.String(), "inentry") {
		err = fault.WithHint(fault.New(fault.Trust, "the key is locked, and there is no terminal to ask for its passphrase: %w", err), "in a terminal: %s", g.unlock())
	}
	return nil, err
}

// unlock is a command that makes the agent ask, and remember.
func (g GPG) unlock() string {
	user := ""
	if g.KeyID != "" {
		user = " --local-user " + g.KeyID
	}
	return "echo | " + g.by() + user + " --clearsign"
}

// readStatus reads what gpg reported, without waiting for an agent that has
// inherited the pipe.
func readStatus(r *os.File) string {
	buf := make([]byte, 1<<16)
	if err := r.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		return ""
	}
	n, _ := r.Read(buf)
	return string(buf[:n])
}

// gpgError turns gpg's status lines (doc/DETAILS in its source) into words;
// stderr is only quoted.
func gpgError(err error, status, stderr string) error {
	for line := range strings.Lines(status) {
		f := strings.Fields(strings.TrimPrefix(line, "[GNUPG:] "))
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "INV_SGNR":
			if reason, ok := invalidSigner[f[1]]; ok {
				return errors.New(reason)
			}
		case "KEYREVOKED":
			return errors.New("the key is revoked")
		}
	}
	last := strings.TrimSpace(stderr)
	if i := strings.LastIndexByte(last, '\n'); i >= 0 {
		last = last[i+1:]
	}
	if last == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, last)
}

// invalidSigner has the reason codes of INV_SGNR that can be met here.
var invalidSigner = map[string]string{
	"1": "no such key", "2": "more than one key fits", "3": "the key may not sign",
	"4": "the key is revoked", "5": "the key has expired", "9": "no secret key", "10": "the key is not trusted",
}
