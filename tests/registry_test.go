package tests

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdRegistry starts Debian's docker-registry on loopback, with its files in DIR,
// and sets $REGISTRY to its address.
func cmdRegistry(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 1, "registry DIR")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	addr := listener.Addr().String()
	ts.Check(listener.Close())
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %q}\n", dir, addr)
	ts.Check(os.WriteFile(config, []byte(text), 0o600))
	c := exec.Command(program(ts, "docker-registry"), "serve", config)
	ts.Check(c.Start())
	ts.Defer(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
			break
		}
		if time.Now().After(deadline) {
			ts.Fatalf("docker-registry does not answer: %v", err)
		}
	}
	ts.Setenv("REGISTRY", addr)
}
