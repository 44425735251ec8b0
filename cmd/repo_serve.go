package cmd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dbuild/internal/fault"
)

func newRepoServeCommand(a *app) *cobra.Command {
	o := &repoOptions{}
	listen := ""
	c := &cobra.Command{
		Use:   "serve [flags]",
		Short: "Serve the repository over HTTP",
		Long: `Serve the repository over HTTP until interrupted, and print the source that apt
needs on another machine, with the key in it: put it into a file with the ending
.sources in /etc/apt/sources.list.d. Nothing but indexes, packages and the key is
served, and nothing can be changed.

Any web server can serve the repository as well. This one keeps a client at the
generation that it began to read, even one that does not ask by hash.`,
		Example: "  dbuild repo serve --listen :8080",
		Args:    a.atMost(0, "no argument"),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			return a.withRepo(c.Context(), o, func(r openRepo) error { return a.repoServe(c.Context(), o, r, listen) })
		},
	}
	o.addFlags(c.Flags(), "")
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:8080", "`ADDRESS` to listen at; :8080 is all addresses of this machine")
	return c
}

func (a *app) repoServe(ctx context.Context, o *repoOptions, r openRepo, address string) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fault.Wrap(fault.Usage, err)
	}
	s := r.Server()
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	source, err := r.source("http://" + reachable(l.Addr()))
	if err == nil && o.json {
		err = a.printJSON(map[string]any{"v": 1, "event": "serving", "time": time.Now().UTC(), "address": l.Addr().String(), "source": source})
	} else if err == nil {
		_, err = fmt.Fprint(a.stdout, source)
	}
	if err != nil {
		return errors.Join(err, s.Close())
	}
	select {
	case err = <-served:
		return err
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := s.Shutdown(end); err != nil {
		_ = s.Close() // downloads that take longer
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil // being interrupted is how a server ends
}

// reachable is an address as other machines write it: a server that listens at
// all of them is found by the name of this machine.
func reachable(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return a.String()
	}
	host, err := os.Hostname()
	if err != nil {
		return a.String()
	}
	return net.JoinHostPort(host, strconv.Itoa(tcp.Port))
}

// source is the apt source of the repository as seen at a URL, in the form of
// sources.list(5), one paragraph for each suite.
func (r openRepo) source(url string) (string, error) {
	suites, err := r.Suites()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, s := range suites {
		fmt.Fprintf(&b, "Types: deb deb-src\nURIs: %s\nSuites: %s\nComponents: %s\nSigned-By:\n", url, s.Name, strings.Join(s.Components, " "))
		for line := range strings.Lines(strings.TrimRight(string(r.PublicKeys()), "\n") + "\n") {
			if line == "\n" {
				line = ".\n"
			}
			b.WriteString(" " + line)
		}
		b.WriteString("\n")
	}
	return b.String(), nil
}
