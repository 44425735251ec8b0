package docker

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"os/exec"
	"sync"
	"time"

	"github.com/moby/moby/client"

	"dbuild/internal/fault"
)

// overSSH makes the client reach a daemon as the docker command does: each
// connection is an ssh that runs "docker system dial-stdio" on the host.
func overSSH(host string) ([]client.Opt, error) {
	u, err := url.Parse(host)
	if err != nil || u.Hostname() == "" || u.Hostname()[0] == '-' || u.Path != "" && u.Path != "/" || u.RawQuery != "" {
		err := fault.New(fault.Engine, "docker host %q is no ssh://[USER@]HOST[:PORT]", host)
		return nil, fault.WithHint(err, "set DOCKER_HOST")
	}
	argv := []string{"-T", "-o", "ConnectTimeout=30"}
	if name := u.User.Username(); name != "" {
		argv = append(argv, "-l", name)
	}
	if u.Port() != "" {
		argv = append(argv, "-p", u.Port())
	}
	argv = append(argv, "--", u.Hostname(), "docker", "system", "dial-stdio")
	return []client.Opt{
		client.WithAPIVersionFromEnv(), client.WithHost("http://" + u.Hostname()),
		client.WithDialContext(func(ctx context.Context, _, _ string) (net.Conn, error) { return dialSSH(ctx, argv) }),
	}, nil
}

// dialSSH starts one connection. It outlives ctx, which is about dialling.
func dialSSH(ctx context.Context, argv []string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c := &commandConn{cmd: exec.Command("ssh", argv...)} //nolint:noctx // ends with the connection
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if c.out, err = c.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	c.cmd.Stderr = &c.words
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start ssh: %w", err)
	}
	return c, nil
}

// commandConn is a program's standard input and output as a connection.
type commandConn struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   io.ReadCloser
	words words
	once  sync.Once
}

// words keeps the beginning of what a program says on standard error.
type words struct {
	mu   sync.Mutex
	text []byte
}

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, p[:min(len(p), maxWords-len(w.text))]...)
	return len(p), nil
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.text)
}

// Read returns standard output; a program that ends without any says why.
func (c *commandConn) Read(p []byte) (int, error) {
	n, err := c.out.Read(p)
	if said := c.words.String(); n == 0 && err != nil && said != "" {
		err = fmt.Errorf("%w: ssh says: %s", err, said)
	}
	return n, err
}

func (c *commandConn) Write(p []byte) (int, error) { return c.in.Write(p) }

// CloseWrite ends standard input.
func (c *commandConn) CloseWrite() error { return c.in.Close() }

// Close ends the program.
func (c *commandConn) Close() (err error) {
	c.once.Do(func() {
		err = ignoreClosed(c.in.Close())
		_ = c.cmd.Process.Kill() // it may have ended
		_ = c.cmd.Wait()         // killed
	})
	return err
}

type sshAddr struct{}

func (sshAddr) Network() string { return "ssh" }
func (sshAddr) String() string  { return "ssh" }

// LocalAddr and the rest are what a connection must have.
func (c *commandConn) LocalAddr() net.Addr              { return sshAddr{} }
func (c *commandConn) RemoteAddr() net.Addr             { return sshAddr{} }
func (c *commandConn) SetDeadline(time.Time) error      { return nil }
func (c *commandConn) SetReadDeadline(time.Time) error  { return nil }
func (c *commandConn) SetWriteDeadline(time.Time) error { return nil }
