package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func init() {
	attempt("C01.interfaces", "cdb", "host", func() error {
		all, err := net.Interfaces()
		if err != nil {
			return err
		}
		for _, i := range all {
			if i.Name != "lo" && i.Flags&net.FlagUp != 0 {
				fmt.Println("has", i.Name)
				return nil
			}
		}
		return errors.New("only lo")
	})
	attempt("C01.tcp", "cdb", "host", func() error { return dialAll("tcp", params["tcp"]) })
	attempt("C01.udp", "cdb", "host", func() error { return dialAll("udp", params["udp"]) })
	works("C01.public-fails-at-once", "db", func() error {
		start := time.Now()
		for _, address := range []string{"192.0.2.1:80", "[2001:db8::1]:80"} {
			if c, err := net.DialTimeout("tcp", address, patience); err == nil {
				c.Close()
				return errors.New("connected to " + address)
			}
		}
		_, err := (&net.Resolver{PreferGo: true}).LookupHost(context.Background(), "example.org.")
		if err == nil {
			return errors.New("example.org has an address")
		}
		if took := time.Since(start); took > time.Second {
			return fmt.Errorf("took %s", took)
		}
		return nil
	})
	attempt("C02.abstract-socket", "cdb", "host", func() error { return dialAll("unix", params["abstract"]) })
	attempt("C02.unix-socket", "cdb", "host", func() error {
		return dialAll("unix", params["socket"]+" /run/docker.sock /var/run/docker.sock /run/podman/podman.sock /run/dbus/system_bus_socket /tmp/.X11-unix/X0")
	})
	attempt("C02.environment", "cdb", "host", func() error {
		for _, e := range os.Environ() {
			name, _, _ := strings.Cut(e, "=")
			if slices.Contains([]string{"SSH_AUTH_SOCK", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "DOCKER_HOST", "SECRET", "GNUPGHOME"}, name) {
				fmt.Println(name)
				return nil
			}
		}
		return errRefused
	})
	attempt("C03.af-alg", "cdb", "host", func() error { return family(unix.AF_ALG, unix.SOCK_SEQPACKET, 0) })
	attempt("C03.af-vsock", "cdb", "host", func() error { return family(unix.AF_VSOCK, unix.SOCK_STREAM, 0) })
	attempt("C03.af-packet", "cdb", "host", func() error { return open(unix.AF_PACKET, unix.SOCK_RAW, 0x300) })
	attempt("C03.raw-icmp", "cdb", "host", func() error { return open(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP) })
	attempt("C03.netlink-address", "cdb", "ns", addAddress)
	works("C04.loopback", "cdb", loopback)
	works("C04.names", "cdb", func() error {
		host, err := os.Hostname()
		for _, name := range []string{"localhost", host} {
			found, lookup := (&net.Resolver{PreferGo: true}).LookupHost(context.Background(), name)
			if lookup == nil && !slices.Contains(found, "127.0.0.1") {
				lookup = fmt.Errorf("%s is %q", name, found)
			}
			err = errors.Join(err, lookup)
		}
		return err
	})
}

// dialAll sends the run's token to each address and waits for it to come back,
// so that a socket on which nobody listens is no success.
func dialAll(network, addresses string) error {
	var all []error
	for _, address := range strings.Fields(addresses) {
		all = append(all, dial(network, address))
	}
	return first(all...)
}

func dial(network, address string) error {
	c, err := net.DialTimeout(network, address, time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	if strings.HasPrefix(address, "/run/") || strings.HasPrefix(address, "/var/run/") {
		fmt.Println("connected to", address)
		return nil
	}
	c.SetDeadline(time.Now().Add(500 * time.Millisecond))
	if _, err := c.Write([]byte(params["token"])); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 100))
	if err == nil {
		fmt.Println("answer from", address)
	}
	return err
}

func family(f, typ, protocol int) error { return reached(open(f, typ, protocol)) }

func open(f, typ, protocol int) error {
	fd, err := unix.Socket(f, typ|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// addAddress gives lo another address with RTM_NEWADDR.
func addAddress() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	message := []byte{
		32, 0, 0, 0, unix.RTM_NEWADDR, 0, unix.NLM_F_REQUEST | unix.NLM_F_ACK, unix.NLM_F_CREATE >> 8, 1, 0, 0, 0, 0, 0, 0, 0,
		unix.AF_INET, 32, 0, 0, 1, 0, 0, 0, // ifaddrmsg: /32 on interface 1
		8, 0, unix.IFA_LOCAL, 0, 192, 0, 2, 77,
	}
	if err := unix.Sendto(fd, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil || n < 20 {
		return errors.Join(err, errRefused)
	}
	if errno := -int32(uint32(answer[16]) | uint32(answer[17])<<8 | uint32(answer[18])<<16 | uint32(answer[19])<<24); errno != 0 {
		return unix.Errno(errno)
	}
	return nil
}

// loopback talks to a server of its own, as test suites do.
func loopback() error {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0", "localhost:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		defer l.Close()
		go func() {
			for c, err := l.Accept(); err == nil; c, err = l.Accept() {
				fmt.Fprint(c, "hello")
				c.Close()
			}
		}()
		c, err := net.DialTimeout("tcp", l.Addr().String(), time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		if n, err := c.Read(make([]byte, 10)); n != 5 {
			return fmt.Errorf("read %d bytes from %s: %w", n, address, err)
		}
	}
	return nil
}
